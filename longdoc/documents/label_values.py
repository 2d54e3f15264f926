"""What a cell or field says of a document's labels."""

import ast
import contextlib
import json
import re
from typing import Any

from longdoc.documents.tables import readable
from longdoc.errors import DataError
from longdoc.settings import short

NO_LABEL = "; a document without labels has []"
"""What is said of an empty cell besides."""
LONGEST_LIST = 100_000
"""Characters of a cell up to which a list is looked for that is not JSON: our choice."""


def _listed(where: str, field: str, text: str, separator: str | None) -> Any:
    """Read a list that stands in a cell, as JSON or Python writes it; other text stays text.

    Raises:
        DataError: It looks like a list and is none.
    """
    ends = (text[:1], text[-1:])
    if ends not in (("[", "]"), ("(", ")")):
        return text
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    unparted = re.search("['\"]\\s+['\"]", text)  # as NumPy writes it; Python would join them
    with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        found: Any = ast.literal_eval(text) if len(text) <= LONGEST_LIST and not unparted else None
        # Round brackets are as usual around what is no list: a range of ages, a number of a rule.
        texts = isinstance(found, tuple) and all(isinstance(part, str) for part in found)
        if isinstance(found, list) or texts:
            return list(found)
    parts = text.split(separator) if separator else []
    parted = len(parts) > 1 and all(map(_is_plain, parts))
    if ends[0] == "[" and not parted and set(text) & set(",'\""):
        message = f"{where}: field {field} is no list as JSON or Python writes it: {text[:60]!r}"
        raise DataError(message)
    return text


def _is_plain(part: str) -> bool:
    """Say whether a label between separators is one by itself, and no end of a list."""
    paired = all(part.count(a) == part.count(b) for a, b in ("[]", "()"))
    inside = part.strip().strip("[]()").strip()
    return paired and not {inside[:1], inside[-1:]} & {"'", '"'}


def label_value(
    where: str,
    field: str,
    value: Any,
    separator: str | None,
) -> tuple[tuple[str, ...], bool]:
    """Read what one field says of a document's labels, and whether its form allows several.

    Args:
        where: File and line, for errors.
        field: Its name, for errors.
        value: A label, a list of labels, or text that holds a list.
        separator: What parts labels in a text; None where nothing does.

    Raises:
        DataError: A label is empty, or no text.
    """
    if isinstance(value, str):
        value = _listed(where, field, value, separator)
    if isinstance(value, str) and separator:
        value = [part for part in value.split(separator) if part.strip()]
    if isinstance(value, list):
        wrong = [entry for entry in value if not _is_label(entry)]
        if not wrong:
            return tuple(dict.fromkeys(readable(str(entry)).strip() for entry in value)), True
        value = wrong[0]
    elif _is_label(value):
        return (readable(str(value)).strip(),), False
    message = (
        f"{where}: field {field} must be a label or a list of labels, none of them empty; "
        f"got {short(value)}{NO_LABEL if value == '' else ''}"
    )
    raise DataError(message)


def _is_label(value: object) -> bool:
    return isinstance(value, str | int) and bool(str(value).strip())


FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
"""Forms in which tables hold 0 or 1: pandas writes 1.0 where a column had a gap, and True."""


def flag(value: object) -> bool | None:
    """Read 0 or 1 in any form; None is neither."""
    return FLAGS.get(str(value).lower()) if isinstance(value, int | float | str) else None


def may_be_flag(value: object) -> bool:
    """Say whether a value is 0 or 1 in any form, or missing."""
    missing = value is None or value == "" or value != value
    return missing or flag(value) is not None


def is_plain_flag(value: object) -> bool:
    """Say whether a value is 0 or 1 as labels have it."""
    return isinstance(value, int | str) and value in (0, 1, "0", "1")

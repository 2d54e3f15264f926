"""Which settings a sweep may try: trials are put in an order by the same held-out documents."""

from collections.abc import Mapping, Sequence
from typing import Any

from longdoc.documents.catalog import DataSettings
from longdoc.settings import build, require, to_mapping

SAME_DOCUMENTS = ("data.text_field", "data.leaks", "data.silver", "data.mask_label_names")
"""Data settings that leave as they are which documents are held out, and their labels. Fewer
training documents have fewer labels."""


def check(axis: str, groups: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> None:
    """Refuse data settings by which trials would be chosen on other documents or labels.

    Args:
        axis: Its name, for the message.
        groups: The nested settings of each choice.
        shared: Those of all trials.

    Raises:
        SettingsError: Naming the setting.
    """
    below = shared.get("data") or {}
    records = [build(DataSettings, {**below, **(group.get("data") or {})}) for group in groups]
    found = [_flat(to_mapping(record), "data.") for record in records]
    for name in found[0]:
        if len({repr(each[name]) for each in found}) > 1:
            allowed = f"one of {', '.join(SAME_DOCUMENTS)}: trials are compared on the same "
            allowed += "documents"
            require(name in SAME_DOCUMENTS, f"space: a data setting of {axis}", allowed, name)


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{prefix}{name}."))
        else:
            found[prefix + name] = value
    return found

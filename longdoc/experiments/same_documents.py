"""Which settings a sweep may try: trials are put in an order by the same held-out documents."""

from collections.abc import Mapping, Sequence
from typing import Any

from longdoc.settings import leaves, require

SAME_DOCUMENTS = ("data.text_field", "data.leaks", "data.silver", "data.mask_label_names")
"""Data settings that leave as they are which documents are held out, and their labels. Fewer
training documents have fewer labels."""


def check(axis: str, groups: Sequence[Mapping[str, Any]]) -> None:
    """Refuse data settings by which trials would be chosen on other documents or labels.

    Args:
        axis: Its name, for the message.
        groups: The nested settings of each choice.

    Raises:
        SettingsError: Naming the setting.
    """
    for name in sorted({name for group in groups for name in leaves(group)}):
        if name.startswith("data.") and len({repr(_value(group, name)) for group in groups}) > 1:
            allowed = f"one of {', '.join(SAME_DOCUMENTS)}: trials are compared on the same "
            allowed += "documents"
            require(name in SAME_DOCUMENTS, f"space: a data setting of {axis}", allowed, name)


def _value(group: Any, name: str) -> Any:
    """Find a setting in nested values; None where it is not among them."""
    for part in name.split("."):
        if not isinstance(group, Mapping):
            return None
        group = {str(key).replace("-", "_"): value for key, value in group.items()}.get(part)
    return group

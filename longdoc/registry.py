"""Named things of one kind, in the order they were added."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from longdoc.errors import UnknownNameError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """A catalogue: name to entry; an unknown name raises with the nearest known one.

    Example:
        >>> colours = Registry[int]("colour")
        >>> colours.add("red", 1)
        1
        >>> "red" in colours, list(colours)
        (True, ['red'])
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Add an entry and give it back.

        Raises:
            ValueError: The name was added before.
        """
        if name in self._entries:
            message = f"{self.kind} {name!r} is already registered"
            raise ValueError(message)
        self._entries[name] = entry
        return entry

    def __getitem__(self, name: str) -> T:
        if name in self:
            return self._entries[name]
        message = f"no {self.kind} named {name!r}; {nearest(name, self._entries)}"
        raise UnknownNameError(message)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def values(self) -> list[T]:
        """Give every entry, in the order they were added."""
        return list(self._entries.values())

"""How a default states where it comes from, and how settings are read.

A setting is one line: its default, its unit and its source, followed by one docstring that says
what it means. ``--help``, ``longdoc explain``, ``docs/defaults.md`` and the report are all made
from that line, so the number stands nowhere else.
"""

import ast
import dataclasses
import functools
import inspect
import math
import os
import reprlib
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from longdoc.errors import SettingsError, nearest

T = typing.TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a default comes from: a paper's place, or our own reason."""

    key: str = ""
    where: str = ""
    because: str = ""
    unit: str = ""
    note: str = ""


def cited(value: Any, key: str, where: str, *, unit: str = "", note: str = "") -> Any:
    """Declare a default that a source supports.

    Args:
        value: The default.
        key: A key of ``references.bib``.
        where: Section, table, equation or file in that source.
        unit: What the number counts.
        note: What the source does besides, or how far it was checked.
    """
    origin = Origin(key=key, where=where, unit=unit, note=note)
    return dataclasses.field(default=value, metadata={"origin": origin})


def chosen(value: Any, because: str, *, unit: str = "", note: str = "") -> Any:
    """Declare a default that is our own decision, with the reason."""
    origin = Origin(because=because, unit=unit, note=note)
    return dataclasses.field(default=value, metadata={"origin": origin})


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting as a user sees it: dotted name, type, default, meaning and origin."""

    name: str
    type: Any
    default: Any
    meaning: str
    origin: Origin | None


@functools.cache
def meanings(record: type) -> dict[str, str]:
    """Read the docstring below each field of a settings record."""
    tree = ast.parse(inspect.getsource(sys.modules[record.__module__]))
    bodies = [
        n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == record.__name__
    ]
    found = {}
    for before, after in zip(bodies[0], bodies[0][1:], strict=False):
        if not (isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr)):
            continue
        if isinstance(before.target, ast.Name) and isinstance(after.value, ast.Constant):
            found[before.target.id] = " ".join(str(after.value.value).split())
    return found


def walk(record: type, prefix: str = "") -> Iterator[Setting]:
    """List every setting of a record and of the records inside it."""
    hints = get_type_hints(record)
    for field in dataclasses.fields(record):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from walk(kind, f"{prefix}{field.name}.")
            continue
        meaning = meanings(record).get(field.name, "")
        origin = field.metadata.get("origin")
        yield Setting(prefix + field.name, kind, field.default, meaning, origin)


def build(record: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Make a settings record from nested mappings, refusing what it does not know.

    Args:
        record: A frozen dataclass of settings.
        values: Nested mappings, as read from YAML or JSON.
        prefix: Where ``values`` stands, for messages.

    Raises:
        SettingsError: A key is unknown or a value has the wrong type.

    Example:
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class Lamp:
        ...     watts: float = 5.0
        >>> build(Lamp, {"watts": 7})
        Lamp(watts=7.0)
        >>> build(Lamp, {"wats": 7})
        Traceback (most recent call last):
        ...
        longdoc.errors.SettingsError: no setting named 'wats'; did you mean watts? known: watts
    """
    if not isinstance(values, Mapping):
        what = prefix.rstrip(".") or "settings"
        message = (
            f"{what} must be given as nested values, such as those of YAML; got {short(values)}"
        )
        raise SettingsError(message)
    hints = get_type_hints(record)
    known = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in _by_name(values, prefix).items():
        if key not in known:
            message = f"no setting named {prefix + key!r}; {nearest(key, known)}"
            raise SettingsError(message)
        kind = hints[key]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            if not isinstance(value, Mapping):
                message = f"{prefix}{key} is a group of settings, not {short(value)}"
                raise SettingsError(message)
            arguments[key] = build(kind, value, f"{prefix}{key}.")
        else:
            arguments[key] = convert(value, kind, prefix + key)
    return record(**arguments)


def convert(value: Any, kind: Any, name: str) -> Any:
    """Check a value against a type hint; whole numbers serve as floats, lists as tuples.

    Raises:
        SettingsError: The value does not fit; the message names the setting and what is allowed.
    """
    value = _plain(value)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _convert_union(value, get_args(kind), name)
    if origin is Literal:
        if value in get_args(kind):
            return value
        hint = nearest(short(value).strip("'"), [str(a) for a in get_args(kind)]).replace(
            "known", "allowed"
        )
        message = f"{name} cannot be {short(value)}; {hint}"
        raise SettingsError(message)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(convert(entry, get_args(kind)[0], name) for entry in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):
        value = _number(value)
    if isinstance(value, float) and not math.isfinite(value):
        message = f"{name} must be {spell(kind)} that is finite; got {value}"
        raise SettingsError(message)
    if (
        isinstance(kind, type)
        and isinstance(value, kind)
        and isinstance(value, bool) == (kind is bool)
    ):
        return value
    message = f"{name} must be {spell(kind)}; got {short(value)}"
    raise SettingsError(message)


def _plain(value: Any) -> Any:
    """Give a number of NumPy's or torch's as Python's, and a path as text."""
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _number(text: str) -> float | str:
    """Read a number that YAML 1.1 takes for text, such as 1e-3."""
    try:
        return float(text)
    except ValueError:
        return text


def _convert_union(value: Any, kinds: tuple[Any, ...], name: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others:
        try:
            return convert(value, kind, name)
        except SettingsError:
            if len(others) == 1:
                raise
    message = f"{name} must be {' or '.join(spell(kind) for kind in kinds)}; got {short(value)}"
    raise SettingsError(message)


def spell(kind: Any) -> str:
    """Say a type hint in words.

    Example:
        >>> spell(int | None)
        'a whole number or nothing'
    """
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if kind is type(None):
        return "nothing"
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(spell(part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(str(part) for part in get_args(kind))
    if get_origin(kind) is tuple:
        return f"a list of {spell(get_args(kind)[0])}"
    return words.get(kind, str(kind))


def to_mapping(record: Any) -> dict[str, Any]:
    """Turn a settings record into nested plain values for JSON and YAML."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            value = to_mapping(value)
        found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


def changes(record: Any) -> dict[str, Any]:
    """Give the nested values of a settings record that are not their defaults.

    Example:
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class Lamp:
        ...     watts: float = 5.0
        ...     colour: str = "white"
        >>> changes(Lamp(watts=7.0))
        {'watts': 7.0}
    """
    return _unlike(to_mapping(record), to_mapping(type(record)()))


def _unlike(values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Give the nested values that stand otherwise in ``others``, which has all their names."""
    found = {}
    for key, value in values.items():
        other = others[key]
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            below = _unlike(value, other)
            if below:
                found[key] = below
        elif value != other:
            found[key] = value
    return found


def disagreement(kept: Mapping[str, Any], record: Any) -> str:
    """Say in which setting a record differs from one that was kept, empty if in none.

    What a later version added counts as its default there, and what it removed does not count: so
    long work that was begun before goes on.

    Args:
        kept: Nested values, as :func:`to_mapping` gave them.
        record: A settings record of today.

    Example:
        >>> @dataclasses.dataclass(frozen=True, kw_only=True)
        ... class Lamp:
        ...     watts: float = 5.0
        ...     colour: str = "white"
        >>> disagreement({"watts": 7.0}, Lamp()), disagreement({"watts": 5.0}, Lamp())
        ('watts was 7.0 and is 5.0', '')
    """
    if not isinstance(kept, Mapping):
        return f"settings were {short(kept)}"
    now = to_mapping(record)
    then = merge(to_mapping(type(record)()), kept)
    name = next(leaves(_unlike(now, then)), "")
    return name and f"{name} was {short(_under(then, name))} and is {short(_under(now, name))}"


def _under(values: Any, name: str) -> Any:
    """Give what stands under a dotted name, or above it where a damaged file ends early."""
    for part in name.split("."):
        values = values[part] if isinstance(values, Mapping) else values
    return values


def _by_name(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Write every name with underscores, as a setting may be written with hyphens too.

    Raises:
        SettingsError: A name stands there both ways.
    """
    named: dict[str, Any] = {}
    for raw, value in values.items():
        key = str(raw).replace("-", "_")
        if key in named:
            message = f"{prefix + key!r} stands twice, with hyphens and with underscores"
            raise SettingsError(message)
        named[key] = value
    return named


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested mappings over each other; what stands in ``above`` wins.

    Example:
        >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
        {'a': {'x': 1, 'y': 3}}
    """
    merged = _by_name(below)
    for key, value in _by_name(above).items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """List the dotted names of nested values; what is deeper than settings are stays one.

    Example:
        >>> list(leaves({"adapter": {"rank": 8, "target-modules": ["x"]}}))
        ['adapter.rank', 'adapter.target_modules']
    """
    for raw, value in values.items():
        name = prefix + str(raw).replace("-", "_")
        if isinstance(value, Mapping) and name.count(".") < 2:
            yield from leaves(value, f"{name}.")
        else:
            yield name


def at(parts: Sequence[str], value: Any) -> dict[str, Any]:
    """Give a value at its place in nested mappings.

    Example:
        >>> at(["adapter", "rank"], 8)
        {'adapter': {'rank': 8}}
    """
    nested = value
    for part in reversed(parts):
        nested = {part: nested}
    found: dict[str, Any] = nested
    return found


def short(value: object) -> str:
    """Spell a value, cut where it is long: a few lines of YAML can stand for gigabytes.

    Example:
        >>> short("x" * 300)[:3], len(short("x" * 300)) <= 200
        ("'xx", True)
    """
    speller = reprlib.Repr()
    speller.maxlevel, speller.maxdict, speller.maxlist, speller.maxtuple = 2, 12, 12, 12
    speller.maxstring = speller.maxother = 200
    return speller.repr(value)


def require(fits: bool, name: str, allowed: str, given: object) -> None:
    """Raise unless a value lies in its allowed range.

    Raises:
        SettingsError: ``fits`` is false.
    """
    if not fits:
        message = f"{name} must be {allowed}; got {short(given)}"
        raise SettingsError(message)

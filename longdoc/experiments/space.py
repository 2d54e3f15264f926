"""What a sweep tries: its axes, and the settings that a point on them comes to."""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from longdoc.errors import SettingsError, nearest
from longdoc.experiments import same_documents
from longdoc.experiments.plan import check_study, fields, mapping, read_yaml
from longdoc.experiments.settings import Settings
from longdoc.settings import (
    Setting,
    at,
    build,
    chosen,
    convert,
    leaves,
    merge,
    require,
    to_mapping,
    walk,
)

Point = Mapping[str, str | float | int]
"""Axis to what was taken there: a choice's label, or a number of a range."""

PLANS = Path(__file__).parent / "plans"
LARGEST_GRID = 10_000
LARGEST_END = 2**53
"""Whole numbers up to here are exact as floats."""


DECIDE_WHAT_IS_TRAINED = {
    "adapter.preset", "backbone.name", "backbone.pretrained", "baseline.name", "ensemble.members",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """What a sweep says besides its settings and its space."""

    name: str = chosen("sweep", "a sweep should have a name of its own")
    """Names the folder with study and runs."""
    question: str = chosen("Which settings are best on validation?", "what a sweep can answer")
    """What is asked; stands on top of the table."""
    method: Literal["grid", "tpe", "random"] = chosen(
        "grid", "a few values of a few settings; its answer needs no further reading"
    )
    """grid: every combination. tpe: Optuna's tree-structured Parzen estimator proposes the next
    trial from those before. random: drawn at random."""
    trials: int = chosen(20, "an evening's work with small models", unit="trials")
    """How many trials tpe and random make; a grid makes all of its own."""
    sampler_seed: int = chosen(0, "any fixed number", unit="seed")
    """Seed of what tpe and random propose."""
    seeds: tuple[int, ...] = chosen(
        (1, 2, 3), "one seed's luck is often larger than what settings change", unit="seeds"
    )
    """Each trial is trained once a seed; its value is the mean."""
    metric: str = chosen("macro-f1", "rare labels count as much as frequent ones")
    """The validation metric that is made large: micro-f1 or macro-f1."""


@dataclass(frozen=True)
class Choices:
    """An axis of a few choices, each with the settings it stands for."""

    name: str
    options: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Range:
    """An axis of numbers between two ends."""

    name: str
    low: float
    high: float
    log: bool
    whole: bool


@dataclass(frozen=True)
class SweepPlan:
    """A sweep with what all its trials share and what they try.

    Attributes:
        shared: Settings of all trials, nested.
        axes: What is tried.
        file: Where it was read from.
    """

    about: SweepSettings
    shared: Mapping[str, Any]
    axes: tuple[Choices | Range, ...]
    file: str = ""

    def settings(self, point: Point) -> Settings:
        """Give the settings of a point."""
        values = dict(self.shared)
        for axis in self.axes:
            taken = point[axis.name]
            if isinstance(axis, Choices):
                values = merge(values, axis.options[str(taken)])
            else:
                values = merge(values, at(axis.name.split("."), taken))
        return build(Settings, values)

    def points(self) -> Iterator[Point]:
        """List every combination, the last axis fastest.

        Raises:
            SettingsError: An axis is a range.
        """
        parts = []
        for axis in self.axes:
            if isinstance(axis, Range):
                message = f"space.{axis.name}: a grid needs a list of values, not a range"
                raise SettingsError(message)
            parts.append(list(axis.options))
        for taken in itertools.product(*parts):
            yield dict(zip((axis.name for axis in self.axes), taken, strict=True))

    def trials(self) -> int:
        """Count the trials of the whole sweep."""
        return self._several() if self.makes_all() else self.about.trials

    def makes_all(self) -> bool:
        """Say whether every combination is tried: by a grid, or for there are no more to draw."""
        if any(isinstance(axis, Range) for axis in self.axes):
            return False
        return self.about.method == "grid" or self.about.trials >= self._several()

    def _several(self) -> int:
        return math.prod(len(axis.options) for axis in self.axes if isinstance(axis, Choices))

    def digest(self) -> str:
        """Give eight hexadecimal digits that differ when another answer may come out."""
        about = {k: v for k, v in to_mapping(self.about).items() if k not in ("question", "trials")}
        axes = [(type(axis).__name__, vars(axis)) for axis in self.axes]
        text = json.dumps([about, self.shared, axes], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def point_name(point: Point) -> str:
    """Name a point for people.

    Example:
        >>> point_name({"adapter.rank": "8", "where": "in_proj", "training.learning_rate": 1e-3})
        'rank 8, in_proj, learning_rate 0.001'
    """
    return ", ".join(
        f"{axis_name(axis)} {shown(taken)}" if "." in axis else shown(taken)
        for axis, taken in point.items()
    )


def axis_name(axis: str) -> str:
    """Name an axis for people.

    Example:
        >>> axis_name("training.learning_rate"), axis_name("backbone.name")
        ('learning_rate', 'backbone')
    """
    group, _, setting = axis.rpartition(".")
    return group if setting == "name" else setting


def shown(taken: str | float) -> str:
    """Give what was taken on an axis as text."""
    return taken if isinstance(taken, str) else f"{taken:.6g}"


def read(name: str, above: Mapping[str, Any] | None = None) -> SweepPlan:
    """Read a sweep from a YAML file, or one that longdoc brings by its name.

    Args:
        name: The file, or a name below ``longdoc/experiments/plans``.
        above: Settings that are laid over those of the file.

    Raises:
        SettingsError: There is neither, or it says something that is not known or not allowed.
    """
    if name in ready():
        return make(read_yaml(PLANS / f"{name}.yaml"), name, above)
    if not Path(name).is_file():
        message = f"there is no sweep file {name}, and no ready sweep of that name; {_known(name)}"
        raise SettingsError(message)
    return make(read_yaml(name), name, above)


def ready() -> list[str]:
    """List the sweeps that longdoc brings."""
    return sorted(file.stem for file in PLANS.glob("*.yaml"))


def _known(name: str) -> str:
    return nearest(name, ready())


def make(
    content: Mapping[str, Any], file: str = "", above: Mapping[str, Any] | None = None
) -> SweepPlan:
    """Make a sweep from plain values.

    Args:
        content: Fields of :class:`SweepSettings`; ``settings`` that all trials share; ``space``:
            a setting's dotted name with a list of values or a range (``low``, ``high``, ``log``),
            or a name of one's own with choices, each of them a group of settings.
        file: Where it was read from.
        above: Settings that are laid over ``settings``; a data set of theirs takes the place of
            all data settings there, for task and sizes are another's.

    Raises:
        SettingsError: Something is not known or not allowed.

    Example:
        >>> plan = make({"space": {"tokens.max_tokens": [512, 1024]}})
        >>> [plan.settings(point).tokens.max_tokens for point in plan.points()]
        [512, 1024]
    """
    rest = dict(content)
    shared = _laid_over(mapping(rest.pop("settings", {}), "settings"), above or {})
    space = mapping(rest.pop("space", {}), "space")
    about = fields(SweepSettings, rest, ("settings", "space"), "a sweep")
    check_study(about.name, about.seeds, about.metric)
    require(about.trials >= 1, "trials", "at least 1", about.trials)
    require(0 <= about.sampler_seed < 2**32, "sampler_seed", "in 0..2^32-1", about.sampler_seed)
    require(bool(space), "space", "at least one setting with values", space)
    build(Settings, shared)
    axes = tuple(_axis(_text(name, "space"), value) for name, value in space.items())
    plan = SweepPlan(about, shared, axes, file)
    if about.method == "grid":
        next(plan.points())
        allowed = f"at most {LARGEST_GRID} combinations"
        require(plan.trials() <= LARGEST_GRID, "space", allowed, plan.trials())
    _check_overlap(axes, above or {})
    _check_choices(plan)
    for axis in axes:
        same_documents.check(axis.name, _groups(axis), shared)
    return plan


def _check_overlap(axes: Sequence[Choices | Range], above: Mapping[str, Any]) -> None:
    """Refuse a setting that two axes set, or that an option gives and an axis sets.

    Raises:
        SettingsError: Naming setting and axes.
    """
    owners: dict[str, str] = {}
    for axis in axes:
        for name in _sets(axis):
            given = f"{owners.get(name)} and {axis.name}"
            require(name not in owners, f"space: {name}", "set by one axis", given)
            owners[name] = axis.name
    for name in leaves(above):
        require(name not in owners, name, "left to the sweep, which tries several", "an option")
        require(name != "training.seed", name, "left out; a sweep has seeds", "an option")


def _groups(axis: Choices | Range) -> list[Mapping[str, Any]]:
    if isinstance(axis, Choices):
        return list(axis.options.values())
    group, name = axis.name.split(".", 1)
    return [{group: {name: end}} for end in (axis.low, axis.high)]


def _sets(axis: Choices | Range) -> set[str]:
    if isinstance(axis, Range):
        return {axis.name}
    return {name for group in axis.options.values() for name in leaves(group)}


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    if "dataset" in (above.get("data") or {}):
        below = {name: group for name, group in below.items() if name != "data"}
    return merge(below, above)


def _axis(name: str, value: Any) -> Choices | Range:
    if "." not in name:
        options = mapping(value, f"space.{name}")
        require(bool(options), f"space.{name}", "at least one choice", value)
        groups = {
            _text(label, f"space.{name}"): _group(name, label, options[label]) for label in options
        }
        require(len(groups) == len(options), f"space.{name}", "choices of different names", value)
        return Choices(name, groups)
    setting = _setting(name)
    if isinstance(value, dict):
        return _range(setting, value)
    require(isinstance(value, list) and bool(value), f"space.{name}", "a list or a range", value)
    labels: dict[str, Mapping[str, Any]] = {}
    for entry in value:
        taken = convert(entry, setting.type, setting.name)
        plain = list(taken) if isinstance(taken, tuple) else taken
        labels[_label(taken)] = at(setting.name.split("."), plain)
    require(len(labels) == len(value), f"space.{name}", "a list of different values", value)
    return Choices(setting.name, labels)


def _group(name: str, label: Any, value: Any) -> Mapping[str, Any]:
    place = f"space.{name}.{label}"
    group = mapping(value, place)
    fits = "training.seed" not in set(leaves(group))
    require(fits, place, "without training.seed; name seeds", value)
    return group


def _text(name: Any, place: str) -> str:
    """Give a name as text; YAML takes on, off, yes and no for something else."""
    fits = isinstance(name, str | int | float) and not isinstance(name, bool)
    require(fits, place, "of names that are text; put this one in quotes", name)
    return str(name)


def _setting(name: str) -> Setting:
    known = {setting.name: setting for setting in walk(Settings)}
    wanted = name.replace("-", "_")
    if wanted not in known:
        message = f"space: no setting named {name!r}; {nearest(wanted, known)}"
        raise SettingsError(message)
    require(wanted != "training.seed", "space", "without training.seed; name seeds", name)
    return known[wanted]


def _range(setting: Setting, value: Mapping[str, Any]) -> Range:
    place = f"space.{setting.name}"
    require(set(value) <= {"low", "high", "log"}, place, "low, high and log", list(value))
    require({"low", "high"} <= set(value), place, "low and high", list(value))
    kind = next((k for k in (int, float) if _takes(setting, k)), None)
    require(kind is not None, place, "a list, for it is no number", dict(value))
    ends = [convert(value[end], kind, f"{place}.{end}") for end in ("low", "high")]
    log = convert(value.get("log", False), bool, f"{place}.log")
    require(all(abs(end) < LARGEST_END for end in ends), place, "of finite ends", dict(value))
    require(ends[0] < ends[1], place, "from low to a greater high", dict(value))
    require(not log or ends[0] > 0, place, "above 0 where log is true", dict(value))
    return Range(setting.name, ends[0], ends[1], log, kind is int)


def _takes(setting: Setting, kind: type) -> bool:
    """Say whether a setting is a number of this kind, or such a number or nothing."""
    return setting.type in (kind, kind | None)


def _label(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or "nothing"
    if value is None or isinstance(value, bool):
        return "not set" if value is None else str(value).lower()
    if isinstance(value, float) and float(f"{value:.6g}") == value:
        return f"{value:.6g}"
    return str(value)


def _check_choices(plan: SweepPlan) -> None:
    """Refuse a value that cannot be, before hours have gone into the others.

    Raises:
        SettingsError: With the choice in which it stands.
    """
    first = {
        axis.name: next(iter(axis.options)) if isinstance(axis, Choices) else axis.low
        for axis in plan.axes
    }
    # Where trials differ in it, some may well have no use for what all of them are given.
    decided = {name for axis in plan.axes for name in _sets(axis)} & DECIDE_WHAT_IS_TRAINED
    for axis in plan.axes:
        several = axis.options if isinstance(axis, Choices) else (axis.low, axis.high)
        for taken in several:
            try:
                settings = plan.settings({**first, axis.name: taken})
                if not decided:
                    settings.check_used()
            except SettingsError as error:
                message = f"space.{axis.name}, {taken}: {error}"
                raise SettingsError(message) from error

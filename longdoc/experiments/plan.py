"""A plan: which systems meet on which documents, with which seeds."""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from longdoc.errors import SettingsError, nearest
from longdoc.experiments.settings import Settings
from longdoc.experiments.store import LONGEST_NAME, safe_name
from longdoc.settings import build, chosen, cited, merge, require, walk

T = typing.TypeVar("T")
LARGEST_PLAN = 2**20
BERT_TOKENS = 512
ALONE: dict[str, Any] = {"ensemble": {"members": []}}
"""What makes a baseline no ensemble, whatever all systems of a plan share."""


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What a plan says besides its systems."""

    name: str = chosen("comparison", "a plan should have a name of its own")
    """Names the folder with runs and report."""
    question: str = chosen(
        "Which system classifies these documents best, and at what cost?", "what most users ask"
    )
    """What is asked; stands on top of the report."""
    seeds: tuple[int, ...] = cited(
        (1, 2, 3, 4, 5), "chalkidis2022lexglue", "repository, scripts/run_ecthr.sh", unit="seeds"
    )
    """Each system is trained once a seed."""
    metric: str = chosen("macro-f1", "rare labels count as much as frequent ones")
    """The metric by which systems are ordered: micro-f1 or macro-f1."""
    resamples: int = cited(
        10_000, "dror2018hitchhiker", "authors' code, testSignificance.py", unit="resamples"
    )
    """Resamples of the test documents for intervals and tests."""
    baselines: bool = chosen(
        True, "complex models often fail to beat simple ones on long documents"
    )
    """Whether majority, TF-IDF with a linear SVM, and BERT on 512 tokens are added."""
    bert: str = chosen("bert-mini", "needs no hub; name bert-base where there is one")
    """Backbone of the baseline that reads the first 512 tokens."""


@dataclass(frozen=True)
class PlannedRun:
    """One system with one seed."""

    system: str
    settings: Settings


@dataclass(frozen=True)
class Plan:
    """A plan with all its runs, baselines first, then seed by seed."""

    about: PlanSettings
    runs: tuple[PlannedRun, ...]
    file: str = field(default="")


def read(path: str | Path) -> Plan:
    """Read a plan from a YAML file.

    Raises:
        SettingsError: The file is missing, no YAML, or says something that is not known.
    """
    return make(read_yaml(path), str(path))


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice; PyYAML takes the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in found:
                    what = f"{key.value!r} stands twice"
                    raise yaml.MarkedYAMLError(problem=what, problem_mark=key.start_mark)
                found.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds settings.

    Raises:
        SettingsError: The file is missing, a folder, too large, no YAML, no mapping, or says a
            thing twice.
    """
    file = Path(path)
    if file.is_dir():
        message = (
            f"{file} is a folder, where a settings file is expected (an option that takes several "
            "values is given once for each of them)"
        )
        raise SettingsError(message)
    if not file.is_file():
        message = f"there is no settings file {file}"
        raise SettingsError(message)
    if file.stat().st_size > LARGEST_PLAN:
        message = f"{file} is larger than {LARGEST_PLAN} bytes"
        raise SettingsError(message)
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        message = f"{file}: not YAML: {' '.join(str(error).split())}"
        raise SettingsError(message) from error
    if not isinstance(content, dict):
        message = f"{file}: expected names with values; got {str(content)[:40]!r}"
        raise SettingsError(message)
    return content


def make(content: Mapping[str, Any], file: str = "") -> Plan:
    """Make a plan from plain values.

    Args:
        content: Fields of :class:`PlanSettings`, and ``settings`` shared by all systems, and
            ``systems``: a list of settings, each with a ``name``.
        file: Where it was read from.

    Raises:
        SettingsError: Something is not known or not allowed.

    Example:
        >>> plan = make({"seeds": [7], "baselines": False, "systems": [{"name": "a"}]})
        >>> [(run.system, run.settings.training.seed) for run in plan.runs]
        [('a', 7)]
    """
    rest = dict(content)
    shared = mapping(rest.pop("settings", {}), "settings")
    systems = rest.pop("systems", [])
    about = _about(rest)
    named = [_system(shared, entry, place) for place, entry in enumerate(_list(systems))]
    require(bool(named) or about.baselines, "systems", "at least one", systems)
    first = (
        [PlannedRun(n, seeded(s, about.seeds[0])) for n, s in _baselines(shared)]
        if about.baselines
        else []
    )
    if about.baselines:
        named = _with_bert(shared, named, about.bert)
    names = [*(planned.system for planned in first), *(name for name, _ in named)]
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, "systems", "of different names, baselines included", ", ".join(twice))
    for place, (name, settings) in enumerate(named):
        for other, others in named[:place]:
            same = settings == others and safe_name(name) == safe_name(other)
            require(not same, "systems", "of names that tell folders apart", f"{other}, {name}")
    everyone = [*(planned.settings for planned in first), *(s for _, s in named)]
    for alike in ("mode", "head", "tail"):
        found = {str(getattr(settings.thresholds, alike)) for settings in everyone}
        one = "the same for all systems"
        require(len(found) == 1, f"thresholds.{alike}", one, ", ".join(sorted(found)))
    later = [PlannedRun(name, seeded(s, seed)) for seed in about.seeds for name, s in named]
    return Plan(about, (*first, *later), file)


def _about(rest: Mapping[str, Any]) -> PlanSettings:
    about = fields(PlanSettings, rest, ("settings", "systems"), "a plan")
    check_study(about.name, about.seeds, about.metric)
    require(about.resamples >= 100, "resamples", "at least 100", about.resamples)
    return about


def fields(record: type[T], rest: Mapping[str, Any], besides: Sequence[str], what: str) -> T:
    """Build what a file says besides its groups of settings.

    Args:
        record: The settings record.
        rest: Plain values.
        besides: The groups, for the message.
        what: What is read, for the message.

    Raises:
        SettingsError: Something is not known or not allowed.
    """
    known = [setting.name for setting in walk(record)]
    for name in rest:
        if str(name).replace("-", "_") not in known:
            message = f"{what} has no {str(name)!r}; {nearest(str(name), (*known, *besides))}"
            raise SettingsError(message)
    return build(record, rest)


def check_study(name: str, seeds: Sequence[int], metric: str) -> None:
    """Refuse what no study can have.

    Raises:
        SettingsError: Naming the setting, what is allowed, and what was given.
    """
    require(bool(seeds), "seeds", "at least one number", seeds)
    require(len(set(seeds)) == len(seeds), "seeds", "different numbers", seeds)
    require(min(seeds) >= 0, "seeds", "0 or more", seeds)
    require(max(seeds) < 2**32, "seeds", "below 2**32, which scikit-learn draws by", seeds)
    allowed = ("micro-f1", "macro-f1")
    require(metric in allowed, "metric", " or ".join(allowed), metric)
    plain = name and not name.startswith(".") and name.isprintable() and not set(name) & set("/\\")
    short_enough = len(name.encode(errors="replace")) <= LONGEST_NAME
    allowed_name = f"a plain folder name of at most {LONGEST_NAME} bytes"
    require(bool(plain) and short_enough, "name", allowed_name, name)


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Give a group of values.

    Raises:
        SettingsError: It is something else.
    """
    require(isinstance(value, dict), name, "names with values", value)
    return dict(value)


def _list(value: Any) -> list[Any]:
    require(isinstance(value, list), "systems", "a list", value)
    return list(value)


def _system(shared: Mapping[str, Any], entry: Any, place: int) -> tuple[str, Settings]:
    own = mapping(entry, f"systems[{place}]")
    name = own.pop("name", None)
    try:
        settings = build(Settings, merge(shared, own))
    except SettingsError as error:
        message = f"systems[{place}]{f' ({name})' if name else ''}: {error}"
        raise SettingsError(message) from error
    return str(name or settings.system()), settings


def _baselines(shared: Mapping[str, Any]) -> list[tuple[str, Settings]]:
    own = [{"baseline": {"name": name}, **ALONE} for name in ("majority", "tfidf-svm")]
    return [(system["baseline"]["name"], build(Settings, merge(shared, system))) for system in own]


def _with_bert(
    shared: Mapping[str, Any], named: list[tuple[str, Settings]], bert: str
) -> list[tuple[str, Settings]]:
    """Add BERT on its first 512 tokens, unless the plan has that system already."""
    own = {
        "backbone": {"name": bert}, "tokens": {"max_tokens": BERT_TOKENS, "truncation": "head"},
        "baseline": {"name": "none"}, **ALONE,
    }  # fmt: skip
    added = build(Settings, merge(shared, own))
    parts = ("backbone", "tokens", "adapter")
    for _, settings in named:
        alike = all(getattr(settings, part) == getattr(added, part) for part in parts)
        if alike and not settings.has_no_backbone():
            return named
    return [(f"{bert}-first-{BERT_TOKENS}", added), *named]


def seeded(settings: Settings, seed: int) -> Settings:
    """Give the same settings with a seed."""
    return replace(settings, training=replace(settings.training, seed=seed))

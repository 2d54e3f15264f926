"""The run folder: the contract between what trains and what reports.

A folder that has its name is complete. While a run is at work its folder has a leading dot and
ends in ``.partial``; the same run started again goes on in it.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longdoc import predictions
from longdoc.errors import LongdocError, RunError
from longdoc.experiments.settings import Settings
from longdoc.metrics.thresholds import MODES
from longdoc.predictions import Predictions
from longdoc.settings import build, disagreement, to_mapping
from longdoc.training import workplace
from longdoc.training.workplace import LOCK as LOCK
from longdoc.training.workplace import alone_in as alone_in
from longdoc.training.workplace import write_json as write_json

SETTINGS = "settings.json"
NEEDED = {
    SETTINGS: ("system", "settings"),
    "environment.json": ("notes", "commit"),
    "data.json": ("dataset", "task", "kind", "labels", "digest", "documents", "training_counts"),
    "metrics.json": ("thresholds", "splits", "labels"),
    "timings.json": (),
}
"""What later readers of a run ask for by name."""
FILES = tuple(NEEDED)
OF_ALL = {SETTINGS, LOCK}
"""What stands in a run's folder before anything was done for it."""
HELD_OUT = ("validation", "test")
LONGEST_NAME = 120
"""Bytes of a system's name in its run folder's: file systems take 255 in all."""


def safe_name(system: str) -> str:
    """Give the part of a run folder's name that says which system it is.

    Example:
        >>> safe_name("weighted 0.5"), safe_name("../a")
        ('weighted-0.5', '-a')
    """
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in system).strip(".") or "run"
    return safe.encode()[:LONGEST_NAME].decode(errors="ignore")


@dataclass
class Outcome:
    """What a system leaves behind besides its model."""

    parts: dict[str, Predictions]
    timings: dict[str, Any]
    notes: dict[str, object]
    history: list[dict[str, float]]


@dataclass(frozen=True)
class Run:
    """A complete run, read from its folder.

    Example:
        >>> [field for field in Run.__dataclass_fields__][:4]
        ['folder', 'name', 'system', 'settings']
    """

    folder: Path
    name: str
    system: str
    settings: Settings
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    metrics: Mapping[str, Any]
    timings: Mapping[str, Any]

    def predictions(self) -> dict[str, Predictions]:
        """Read the predictions by split."""
        return predictions.load(self.folder / "predictions.parquet")

    def history(self) -> list[dict[str, float]]:
        """Read the training history; empty for baselines."""
        file = self.folder / "history.jsonl"
        if not file.exists():
            return []
        try:
            return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        except ValueError as error:
            message = f"{self.folder} is damaged: {file.name}: {error}"
            raise RunError(message) from error


def partial_folder(root: Path, name: str) -> Path:
    """Name the folder in which a run is at work."""
    return root / f".{name}.partial"


def is_complete(folder: Path) -> bool:
    """Say whether a folder is a complete run."""
    return not folder.name.startswith(".") and holds_everything(folder)


def holds_everything(folder: Path) -> bool:
    """Say whether a folder has all files of a run, whatever it is called."""
    return all((folder / name).exists() for name in (*FILES, "predictions.parquet"))


@contextlib.contextmanager
def gone_if_not_begun(partial: Path) -> Iterator[None]:
    """Leave no folder of a run that could not begin, such as one whose backbone is not there."""
    try:
        yield
    except LongdocError:
        if workplace.is_main_process() and {file.name for file in partial.iterdir()} <= OF_ALL:
            with contextlib.suppress(OSError):  # another process may be about to try
                for name in OF_ALL:
                    (partial / name).unlink(missing_ok=True)
                partial.rmdir()
        raise


def keep_settings(folder: Path, settings: Settings, system: str) -> None:
    """Write a run's settings when it begins; one that goes on must have the same.

    Args:
        folder: The run's.
        settings: Everything.
        system: Its system's name.

    Raises:
        RunError: It was begun with others.
    """
    file = folder / SETTINGS
    if file.exists():
        check_settings(folder, settings)
    else:
        write_json(file, {"system": system, "settings": to_mapping(settings)})


def check_settings(folder: Path, settings: Settings) -> None:
    """Refuse a run whose name fits and whose settings do not: a default has changed since.

    Raises:
        RunError: So it is, or the file is damaged.
    """
    try:
        kept = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["settings"]
        differs = disagreement(kept, settings)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{folder} is damaged: {SETTINGS}: {error}"
        raise RunError(message) from error
    if differs:
        message = f"{folder} was made by another version of longdoc: {differs}; move it away"
        raise RunError(message)


def settle(folder: Path) -> None:
    """Have the disk hold all files of a folder, so that power loss cannot empty a named run."""
    if os.name != "posix":  # a folder cannot be opened there
        return
    for place in (*folder.rglob("*"), folder):
        number = os.open(place, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def load(folder: str | Path) -> Run:
    """Read a complete run.

    Raises:
        RunError: The folder is no complete run; the message says what is missing.
    """
    place = Path(folder)
    if not place.is_dir():
        message = f"there is no run folder {place}"
        raise RunError(message)
    missing = [name for name in (*FILES, "predictions.parquet") if not (place / name).exists()]
    if missing:
        message = f"{place} is no complete run: {', '.join(missing)} missing"
        raise RunError(message)
    try:
        parts = {name: json.loads((place / name).read_text(encoding="utf-8")) for name in FILES}
        chosen = parts[SETTINGS]
        _check_whole(parts)
        return Run(
            folder=place,
            name=place.name,
            system=chosen["system"],
            settings=build(Settings, chosen["settings"]),
            environment=parts["environment.json"],
            data=parts["data.json"],
            metrics=parts["metrics.json"],
            timings=parts["timings.json"],
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        message = f"{place} is damaged: {error}"
        raise RunError(message) from error


def _check_whole(parts: Mapping[str, Any]) -> None:
    """Refuse files that lack what is read of them later.

    Raises:
        ValueError: Which file, and what it lacks.
    """
    for name, keys in NEEDED.items():
        if not isinstance(parts[name], Mapping):
            message = f"{name} must hold names with values"
            raise ValueError(message)
        lacking = [key for key in keys if key not in parts[name]]
        if lacking:
            message = f"{name} has no {' and no '.join(lacking)}"
            raise ValueError(message)
    if not isinstance(parts[SETTINGS]["system"], str):
        message = f"{SETTINGS}: system must be text"
        raise ValueError(message)
    labels, metrics = parts["data.json"]["labels"], parts["metrics.json"]
    of_labels = [len(metrics["thresholds"][mode]) for mode in MODES]
    if any(number != len(labels) for number in of_labels):
        message = f"metrics.json must have a threshold for each of {len(labels)} labels"
        raise ValueError(message)
    if {row["label"] for row in metrics["labels"]} != set(labels):
        message = "metrics.json and data.json have different labels"
        raise ValueError(message)
    if any(mode not in metrics["splits"]["test"] for mode in MODES):
        message = f"metrics.json must have the test split at {', '.join(MODES)} thresholds"
        raise ValueError(message)


def save_history(file: Path, history: list[dict[str, float]]) -> None:
    """Write the training history, one record a line."""
    lines = [json.dumps(record) for record in history]
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def by_system(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by system: the same name, and the same settings but for the seed.

    Raises:
        RunError: Two runs of one name differ in a setting, or have the same seed.
    """
    groups: dict[str, list[Run]] = {}
    for entry in runs:
        group = groups.setdefault(entry.system, [])
        for other in group:
            differing = _differing(entry, other)
            if differing != ["training.seed"]:
                what = f"differ in {', '.join(differing)}" if differing else "have the same seed"
                message = (
                    f"{entry.folder} and {other.folder} are both called {entry.system} and {what}; "
                    f"train with --name to tell systems apart"
                )
                raise RunError(message)
        group.append(entry)
    return groups


def _differing(first: Run, second: Run) -> list[str]:
    """Name the settings in which two runs differ."""
    both = [dict(_flat(to_mapping(run.settings))) for run in (first, second)]
    return [name for name, value in both[0].items() if value != both[1][name]]


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value

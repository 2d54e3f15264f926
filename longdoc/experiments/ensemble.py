"""Several finished runs as one system: their logits are averaged, with weights from validation.

Runs of one system that differ by seed weigh alike; systems are weighed against each other.

Letters: ``n`` documents, ``c`` labels, ``s`` systems.
"""

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longdoc.documents.document import Kind
from longdoc.errors import RunError
from longdoc.metrics import classification
from longdoc.metrics.classification import Matrix
from longdoc.progress import Progress, silent
from longdoc.settings import chosen, require

FILE = "members.json"
SMALLEST = 1e-7
"""Scores are kept so far from 0 and 1, where float32 has no logit left."""
STEPS = 10
"""Weights of systems are tenths."""
MOST_SYSTEMS = 4


@dataclass(frozen=True, kw_only=True)
class EnsembleSettings:
    """Which finished runs make one system."""

    members: tuple[str, ...] = chosen((), "one system is trained by itself")
    """Run folders, all on the same documents, whose logits are averaged; nothing is trained.
    Systems are weighed by the validation metric (training.metric) at the thresholds that are used
    (thresholds.mode, thresholds.prior), each chosen on other validation documents than are read at
    it."""

    def __post_init__(self) -> None:
        places = {Path(member).resolve() for member in self.members}
        different = len(places) == len(self.members)
        require(different, "ensemble.members", "different run folders", self.members)


@dataclass(frozen=True)
class Member:
    """One run of an ensemble.

    Attributes:
        weight: Of all weights, which add up to one.
    """

    folder: Path
    system: str
    weight: float


def logits(scores: NDArray[np.float32], kind: Kind) -> NDArray[np.float64]:
    """Turn scores ``(n, c)`` back into logits ``(n, c)``; log probabilities for one label."""
    near = np.clip(scores.astype(float), SMALLEST, 1 - SMALLEST)
    return np.log(near) if kind == "multi-class" else np.log(near) - np.log1p(-near)


def combine(
    scores: Sequence[NDArray[np.float32]], weights: Sequence[float], kind: Kind
) -> NDArray[np.float32]:
    """Average the logits of several systems.

    Args:
        scores: Each of shape ``(n, c)``.
        weights: One each; they add up to one.
        kind: The task's.

    Returns:
        Scores, shape ``(n, c)``.

    Example:
        >>> combine([np.array([[0.5]]), np.array([[0.8]])], [0.5, 0.5], "multi-label").round(3)
        array([[0.667]], dtype=float32)
    """
    return _scores([logits(part, kind) for part in scores], weights, kind)


def _scores(
    parts: Sequence[NDArray[np.float64]], weights: Sequence[float], kind: Kind
) -> NDArray[np.float32]:
    mean = np.sum([w * part for part, w in zip(parts, weights, strict=True)], axis=0)
    if kind == "multi-class":
        likely = np.exp(mean - mean.max(axis=1, keepdims=True))
        return (likely / likely.sum(axis=1, keepdims=True)).astype(np.float32)
    return (1 / (1 + np.exp(-mean))).astype(np.float32)


def weigh(
    truth: NDArray[np.bool_],
    systems: Sequence[NDArray[np.float32]],
    kind: Kind,
    metric: str,
    read: Callable[[NDArray[np.float32]], Matrix],
    progress: Progress = silent,
) -> tuple[float, ...]:
    """Choose the weights of systems on validation documents, in tenths.

    Args:
        truth: Shape ``(n, c)``.
        systems: Each system's scores, ``s`` of shape ``(n, c)``.
        kind: The task's.
        metric: micro-f1 or macro-f1.
        read: Decides from combined scores ``(n, c)`` which labels, ``(n, c)``, as they will be
            decided in use: weights that are best at one threshold for all labels need not be at a
            label's own.
        progress: Told how far it is.

    Returns:
        One weight a system; of equals, the most even ones.

    Raises:
        RunError: There are too many systems to try all weights.
    """
    if len(systems) > MOST_SYSTEMS:
        message = f"ensemble.members are of {len(systems)} systems; at most {MOST_SYSTEMS}"
        raise RunError(message)
    grid = itertools.product(range(STEPS + 1), repeat=len(systems))
    tried = [tuple(step / STEPS for step in steps) for steps in grid if sum(steps) == STEPS]
    tried.sort(key=np.std)

    parts = [logits(system, kind) for system in systems]

    def value(number: int) -> float:
        progress(number / len(tried), "weighing")
        decided = read(_scores(parts, tried[number], kind))
        return classification.averages(truth, decided)[metric]

    return tried[max(range(len(tried)), key=value)]


def save(members: Sequence[Member], run: Path) -> None:
    """Write who takes part, and with what weight; places also as seen from the run.

    Args:
        members: Their weights add up to one.
        run: The run's folder, which may have another name while it is at work.
    """
    folder = run / "model"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "folder": str(member.folder.resolve()),
            "from_run": os.path.relpath(member.folder.resolve(), run.resolve()),
            "system": member.system,
            "weight": member.weight,
        }
        for member in members
    ]
    (folder / FILE).write_text(json.dumps(rows, indent=1), encoding="utf-8")


def load(run: Path) -> list[Member]:
    """Read who takes part; runs that moved together still find each other.

    Raises:
        RunError: The file is damaged, or a member is no longer there.
    """
    folder = run / "model"
    try:
        rows = json.loads((folder / FILE).read_text(encoding="utf-8"))
        members = [
            Member(_found(row, run), str(row["system"]), float(row["weight"])) for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{folder / FILE}: not a list of an ensemble's runs: {error}"
        raise RunError(message) from error
    for member in members:
        if not member.folder.is_dir():
            message = f"{member.folder}, a member of the ensemble in {run}, is gone"
            raise RunError(message)
    return members


def _found(row: Mapping[str, str], run: Path) -> Path:
    moved = run.resolve() / row.get("from_run", ".missing")  # not in runs of earlier versions
    return Path(os.path.normpath(moved)) if moved.is_dir() else Path(row["folder"])


def costs(timings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up what members cost; memory is that of the largest.

    Args:
        timings: One record a member, as in ``timings.json``.
    """
    added = ("train_seconds", "predict_seconds", "trainable_parameters", "parameters")
    found: dict[str, Any] = {name: sum(part[name] for part in timings) for name in added}
    return {**found, "peak_bytes": max(part["peak_bytes"] for part in timings)}

"""Checkpoints that are whole or do not count.

A process may be killed while it writes. A checkpoint counts only once its mark is there, which is
written last; the one before is removed only after that.
"""

import json
import re
import shutil
from pathlib import Path

MARK = "complete"
STATE = "trainer_state.json"


def step_of(folder: Path) -> int:
    """Give the step a checkpoint folder is named for; -1 for other folders."""
    found = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(found[1]) if found else -1


def mark_complete(folder: Path) -> None:
    """Say that everything is in the folder."""
    (folder / MARK).touch()


def unmark(folder: Path) -> None:
    """Say that something in the folder is about to change."""
    (folder / MARK).unlink(missing_ok=True)


def newest(run: Path) -> Path | None:
    """Find the newest whole checkpoint."""
    folders = run.iterdir() if run.is_dir() else []
    whole = [f for f in folders if step_of(f) >= 0 and (f / MARK).exists()]
    return max(whole, key=step_of, default=None)


def remove_incomplete(run: Path) -> None:
    """Remove the checkpoints that are not whole."""
    for folder in list(run.iterdir()) if run.is_dir() else []:
        if step_of(folder) >= 0 and not (folder / MARK).exists():
            shutil.rmtree(folder)


def settle_in(folder: Path) -> None:
    """Point a checkpoint to the best one beside it, wherever the run was when it was written."""
    file = folder / STATE
    state = json.loads(file.read_text(encoding="utf-8"))
    best = state.get("best_model_checkpoint")
    here = folder.parent.resolve() / Path(best).name if best else None
    if here is not None and str(here) != best and here.exists():
        state["best_model_checkpoint"] = str(here)
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(state), encoding="utf-8")
        unfinished.replace(file)


def ended(folder: Path, patience: int) -> int | None:
    """Give the whole epochs of a training that had ended with this checkpoint; None if it had not.

    It had where early stopping said so, or all its steps were taken. Told to learn for no more than
    these, transformers' Trainer takes no further step, also in the middle of an epoch.
    """
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    kept = state.get("stateful_callbacks", {}).get("EarlyStoppingCallback", {})
    count = kept.get("attributes", {}).get("early_stopping_patience_counter", 0)
    stopped = patience and count >= patience
    return int(state["epoch"]) if stopped or state["global_step"] >= state["max_steps"] else None


def keep_only(run: Path, *kept: Path | None) -> None:
    """Remove every checkpoint but the given ones."""
    names = {path.name for path in kept if path is not None}
    for folder in list(run.iterdir()):
        if step_of(folder) >= 0 and folder.name not in names:
            (folder / MARK).unlink(missing_ok=True)
            shutil.rmtree(folder)

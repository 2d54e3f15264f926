"""Checkpoints that are whole or do not count.

A process may be killed while it writes. A checkpoint counts only once its mark is there, which is
written last; the one before is removed only after that.
"""

import re
import shutil
from pathlib import Path

MARK = "complete"


def step_of(folder: Path) -> int:
    """Give the step a checkpoint folder is named for; -1 for other folders."""
    found = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(found[1]) if found else -1


def mark_complete(folder: Path) -> None:
    """Say that everything is in the folder."""
    (folder / MARK).touch()


def newest(run: Path) -> Path | None:
    """Find the newest whole checkpoint, and remove the ones that are not whole."""
    if not run.is_dir():
        return None
    whole = []
    for folder in run.iterdir():
        if step_of(folder) < 0:
            continue
        if (folder / MARK).exists():
            whole.append(folder)
        else:
            shutil.rmtree(folder)
    return max(whole, key=step_of, default=None)


def keep_only(run: Path, *kept: Path | None) -> None:
    """Remove every checkpoint but the given ones."""
    names = {path.name for path in kept if path is not None}
    for folder in list(run.iterdir()):
        if step_of(folder) >= 0 and folder.name not in names:
            (folder / MARK).unlink(missing_ok=True)
            shutil.rmtree(folder)

"""What a run ran on: versions, processor, kernels. Goes into every run's record."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from longdoc.kernels import native_library
from longdoc.kernels.allocator import keep_freed_memory
from longdoc.training.settings import Precision, uses_bfloat16

PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "scikit-learn", "numpy")


def describe(precision: Precision = "auto") -> dict[str, object]:
    """Describe this machine and installation.

    Args:
        precision: The setting, to record what it came to.
    """
    return {
        "longdoc": version("longdoc"),
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "precision": "bfloat16" if uses_bfloat16(precision) else "float32",
        "selective_scan": native_library.reason(),
        "keeps_freed_memory": keep_freed_memory(),
    }


def version(package: str) -> str:
    """Give an installed package's version, or 'not installed'."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str | None:
    """Give the commit of the checkout longdoc runs from, if it is one, with + for local changes."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        name = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return name + ("+" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def processor() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

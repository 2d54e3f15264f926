"""Memory between the steps of a training: kept for the next one, given back where it piles up."""

import json
import platform
import subprocess
import sys

import pytest

STEPS = """
import json, os, torch
from pathlib import Path
from longdoc.kernels import allocator

allocator.keep_freed_memory()
torch.set_num_threads(1)  # two that wait for each other on a busy machine took minutes
allocator.SPARE = 2**26  # enough to see, and quick
base = 0.0

def held():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6 - base

def step(megabytes, **how):
    tensors = [torch.ones(250_000) for _ in range(megabytes)]
    del tensors
    return allocator.give_back_excess(**how)

base = held()
found = {"alike": [step(200) for _ in range(6)], "kept": held()}
found["larger"] = [step(800) for _ in range(4)]
found["within"], found["left"] = step(200, within_step=True), held()
step(200)
allocator.give_back()
found["ended"] = held()
print(json.dumps(found))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heap alone is told to keep")
def test_what_every_step_needs_is_kept_and_what_piles_up_goes_back():
    done = subprocess.run(
        [sys.executable, "-c", STEPS], capture_output=True, text=True, check=True, timeout=120
    )
    found = json.loads(done.stdout)
    assert found["alike"] == [False] * 6  # each would give 200 MB back, if all that is free went
    assert found["kept"] > 180
    assert found["larger"] == [True] + [False] * 3  # a larger step is learnt of once
    assert found["within"]
    assert found["left"] < 100
    assert found["ended"] < 100

"""What training holds: resident memory beside what is in use, every eight seconds.

    python benchmarks/training_memory.py          as it is
    python benchmarks/training_memory.py hoard    without giving memory back between steps
    python benchmarks/training_memory.py miser    giving back all that is free after every step

Trains every weight of minilm-l6 on 1,300 documents of Reuters (LONGDOC_DATA) for an epoch, and says
what that took: processor time, tokens a second of it, page faults.
"""

import ctypes
import functools
import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

import longdoc
from longdoc.kernels import allocator, memory
from longdoc.training import trainer

SETTINGS = {
    "data": {
        "dataset": "reuters-21578",
        "train_documents": 1300,
        "validation_documents": 100,
        "test_documents": 100,
    },
    "tokens": {"max_tokens": 256},
    "backbone": {"name": "minilm-l6", "attention_dropout": 0.0},
    "adapter": {"preset": "none"},
    "training": {"epochs": 1, "patience": 0, "batch_size": 32, "learning_rate": 2e-4},
}


def watch(start, most):
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = allocator._Info
    while True:
        about = library.mallinfo2()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        held, used = pages * os.sysconf("SC_PAGE_SIZE") / 1e6, about.uordblks / 1e6
        most[0], most[1] = max(most[0], held), max(most[1], used)
        lent = memory.BLOCKS.lent / 1e6
        print(f"{time.time() - start:.0f} s: {held:.0f} MB held, {used:.0f} used, {lent:.0f} lent")
        time.sleep(8)


if __name__ == "__main__":
    if sys.argv[1:] == ["hoard"]:
        trainer.give_back_excess = lambda: False
    if sys.argv[1:] == ["miser"]:
        trainer.give_back_excess = functools.partial(allocator.give_back_excess, within_step=True)
    start, most = time.time(), [0.0, 0.0]
    threading.Thread(target=watch, args=(start, most), daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        tokens = longdoc.train(SETTINGS, folder).timings["train_tokens"]
    spent = resource.getrusage(resource.RUSAGE_SELF)
    seconds = spent.ru_utime + spent.ru_stime
    print(f"{time.time() - start:.0f} s; most held {most[0]:.0f} MB, most used {most[1]:.0f} MB")
    print(
        f"{seconds:.0f} s of processor time, {spent.ru_stime:.0f} of them the system's; "
        f"{tokens / seconds:.0f} tokens a second of it; {spent.ru_minflt / 1e6:.1f} M page faults"
    )

"""The command line: one file a verb. Verbs are loaded only when they are called."""

import contextlib
import io
import os
import signal
import sys
import threading
from typing import Any

import cyclopts

from longdoc.errors import LongdocError, is_full, say_in_a_sentence

app = cyclopts.App(
    suppress_keyboard_interrupt=False,  # what is said of it is said below
    name="longdoc",
    help="Compare Mamba, GPT-Neo, BERT and simple baselines at classifying long documents.",
    version=lambda: __import__("importlib.metadata").metadata.version("longdoc"),
)
VERBS = {
    "datasets": ("datasets:app", "List data sets; show one, its labels or its lengths."
                 " Example: longdoc datasets labels reuters-21578"),
    "train": ("train:train", "Train and evaluate one system."
              " Example: longdoc train --data.dataset my.jsonl --backbone.name mamba-mini"),
    "predict": ("predict:predict", "Classify documents with a trained run, as JSON Lines."
                " Example: longdoc predict runs/RUN letters.jsonl"),
    "evaluate": ("evaluate:evaluate", "Show a run's metrics."
                 " Example: longdoc evaluate runs/RUN --split test"),
    "compare": ("compare:compare", "Train and compare every system of a plan, and write a report."
                " Example: longdoc compare examples/demo.yaml"),
    "sweep": ("sweep:sweep", "Try many settings, and say which are best on validation."
              " Example: longdoc sweep lora-rank --data.dataset my.jsonl"),
    "pretrain": ("pretrain:pretrain", "Train a backbone on raw text."
                 " Example: longdoc pretrain --texts.sources letters/ --output my-mamba"),
    "report": ("report:report", "Write a report of complete runs."
               " Example: longdoc report runs/A runs/B --output report.html"),
    "explain": ("explain:explain", "Explain settings: default, meaning, source."
                " Example: longdoc explain adapter.rank"),
    "bench": ("bench:bench", "Measure the kernels against what else is installed."
              " Example: longdoc bench --quick"),
    "doctor": ("doctor:doctor", "Say what is installed, which kernels run and why, what is missing."
               " Example: longdoc doctor"),
}  # fmt: skip
for verb, (place, text) in VERBS.items():
    app.command(f"longdoc.cli.{place}", name=verb, help=text)

INTERRUPTED = 130
GOES_ON = (["train"], ["compare"], ["sweep"], ["pretrain"], ["datasets", "get"])


def _again() -> str:
    """Say what the same command would do after this one was stopped."""
    if any(sys.argv[1 : len(verb) + 1] == verb for verb in GOES_ON):
        return "; the same command goes on where it was"
    return "; the same command begins again"


def _leave_when_terminated() -> None:
    """Leave as on Ctrl-C, so that processes of this command end with it and nothing lies about."""
    mine = os.getpid()

    def leave(number: int, _: Any) -> None:
        if os.getpid() == mine:  # a forked child has this handler too
            sys.stderr.write(f"\nlongdoc: terminated{_again()}\n")
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def _no_more_output() -> None:
    """Let nothing that is still to be written fail again while Python ends."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run the command line; what a user can mend ends in one sentence, not in a traceback."""
    if threading.current_thread() is threading.main_thread():
        _leave_when_terminated()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not know every letter
    say_in_a_sentence()
    try:
        app()
        sys.stdout.flush()
    except LongdocError as error:
        sys.stderr.write(f"longdoc: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write(f"\nlongdoc: interrupted{_again()}\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _no_more_output()
        sys.exit(1)
    except Exception as error:  # a full disk is told in classes of others, not all of them OSError
        named = isinstance(error, OSError) and error.filename is not None
        if not named and not is_full(error):
            raise
        where, why = "what is to be written", "there is no room (a full disk, or a limit of files)"
        if isinstance(error, OSError) and error.strerror:
            where, why = error.filename or where, error.strerror
        sys.stderr.write(f"longdoc: {where}: {why}\n")
        _no_more_output()
        sys.exit(1)

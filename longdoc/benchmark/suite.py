"""The measurements of ``longdoc bench``, and what comes of them."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch

from longdoc.backbones import mamba
from longdoc.benchmark import limit, pieces, training
from longdoc.benchmark.cases import Case, Pass, System, can_run
from longdoc.benchmark.limit import Limit, Rates
from longdoc.benchmark.worker import Worker

Progress = Callable[[str], None]
Part = Literal["all", "models", "comparisons", "lengths", "training"]
PASSES: tuple[Pass, ...] = ("forward", "step", "checkpointing")
RIVALS: tuple[tuple[Pass, System], ...] = (("forward", "transformers"), ("step", "mambapy"))
"""What mamba's passes are compared with: the fastest that runs within the memory there is."""


@dataclass(frozen=True)
class Measured:
    """One case with what was measured.

    Attributes:
        seconds: Of every run.
        peak: Memory in GB, of the whole process; 0 where it was not looked at.
        ratio: Times faster than ``against``, from medians of runs that took turns.
        limit: What it would take at least, where that is known.
        pieces: Seconds of each piece of all layers when it runs alone, where that was measured.
    """

    title: str
    case: Case
    seconds: tuple[float, ...]
    peak: float
    against: str = ""
    ratio: float | None = None
    limit: Limit | None = field(default=None, repr=False)
    note: str = ""
    pieces: dict[str, float] = field(default_factory=dict)

    def median(self) -> float:
        """Give the median of all runs."""
        return statistics.median(self.seconds)

    def share(self) -> float | None:
        """Give the share of the limit (forward) or floor (training) that was reached."""
        return None if self.limit is None else self.limit.seconds() / self.median()

    def share_alone(self) -> float | None:
        """Give the share that would be reached, did nothing run but its pieces, each as alone."""
        if self.limit is None or not self.pieces:
            return None
        return self.limit.seconds() / sum(self.pieces.values())

    def as_json(self) -> dict[str, Any]:
        """Give everything as plain values."""
        plain = asdict(replace(self, limit=None))
        del plain["limit"]
        shares = {"share": self.share(), "share_alone": self.share_alone()}
        return {**plain, **shares, "median": self.median()}


def take_turns(cases: Sequence[Case], rounds: int) -> list[tuple[tuple[float, ...], float]]:
    """Run cases in turn; gives each one's seconds and its peak memory."""
    workers: list[Worker] = []
    try:
        for case in cases:
            workers.append(Worker(case, torch.get_num_threads()))
        for _ in range(rounds):
            for worker in workers:
                worker.run()
        return [(tuple(worker.seconds), worker.end()) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()


def whole(case: Case, rates: Rates, rounds: int) -> Measured:
    """Measure a whole model; for mamba-130m, before and after, what the machine can do."""
    found, alone = None, {}
    if case.model == "mamba-130m":
        count = limit.forward if case.what == "forward" else limit.step
        found = count(rates, case.bfloat16, case.layers, sum(case.tokens))
        rates.look(case.bfloat16)
    ((seconds, peak),) = take_turns([case], rounds)
    if found is not None:
        rates.look(case.bfloat16)
        alone = pieces_of(case)
    title = f"{case.model}, {case.layers} layers"
    return Measured(title, case, seconds, peak, limit=found, pieces=alone)


def pieces_of(case: Case) -> dict[str, float]:
    """Time the pieces of all layers, each alone.

    They are known for one document, without gradient checkpointing and dropout.
    """
    if case.what == "checkpointing" or case.dropout or len(case.tokens) > 1:
        return {}
    (tokens,) = case.tokens
    if case.what == "step":
        found = {p.name: p.step() for p in pieces.step(case.bfloat16, tokens)}
    else:
        # As the mixer goes through a document of which only the result is wanted.
        at_once = min(tokens, mamba.SEGMENT)
        found = {p.name: p.forward for p in pieces.forward(case.bfloat16, tokens, at_once)}
    return {name: seconds * case.layers for name, seconds in found.items()}


def against(case: Case, system: System, rounds: int) -> list[Measured]:
    """Measure a case and the same on another system, in turn.

    The other one as its users have it, and once more with longdoc's allocator settings.
    """
    plain = replace(case, system=system, keeps_memory=False)
    tuned = replace(plain, keeps_memory=True)
    ours, theirs, helped = take_turns([case, plain, tuned], rounds)
    title = f"{case.model}, {case.layers} layer{'s' * (case.layers > 1)}"
    best = statistics.median(ours[0])
    ratio = statistics.median(theirs[0]) / best
    less = statistics.median(helped[0]) / best
    note = f"{less:.1f} times, were {system} to keep freed memory"
    return [
        Measured(title, case, *ours, system, ratio, note=note),
        Measured(title, plain, *theirs),
        Measured(title, tuned, *helped, note="keeps freed memory"),
    ]


def padding(rounds: int) -> Measured:
    """Measure a padded batch against a single document of as many real tokens."""
    lengths = (4096, 1024, 512, 256)
    batch = Case(tokens=lengths, layers=6)
    alone = replace(batch, tokens=(sum(lengths),))
    (seconds, peak), (single, _) = take_turns([batch, alone], rounds)
    ratio = statistics.median(single) / statistics.median(seconds)
    note = f"{lengths} tokens, padded, against one document of {sum(lengths)}"
    return Measured("padding", batch, seconds, peak, "one document", ratio, note=note)


def whole_training(tokens: int, layers: int, documents: int) -> Measured:
    """Measure a training as ``longdoc train`` does it against its bare passes."""
    found = training.measure(tokens, layers, documents)
    case = Case(what="step", tokens=(tokens,), bfloat16=True, layers=layers, dropout=0.1)
    note = (
        f"{found.share():+.1%} to bare passes of {found.bare:.2f} s; tokenizing is "
        f"{found.tokenizing / found.bare:.1%} of them"
    )
    seconds = (found.step + found.tokenizing,)
    return Measured("longdoc train, a document", case, seconds, 0.0, note=note)


def run(part: Part, quick: bool, rounds: int, progress: Progress) -> Iterator[Measured]:
    """Run everything of a part that can run here.

    Args:
        part: Whole models against the machine's limit, layers against other systems, unusual
            lengths and padding, a whole training against its bare passes, or all of it.
        quick: Only 2,048 tokens and few layers: minutes, and no page of results.
        rounds: Measured runs a case, after one that is not.
        progress: Told what runs.
    """
    lengths = (2048,) if quick else (4096, 8192)
    if part in ("all", "comparisons"):
        yield from _comparisons(lengths, rounds, progress)
    if part in ("all", "training"):
        progress("a whole training")
        yield whole_training(lengths[0], 4 if quick else 24, 4 + 2 * rounds)
    if part in ("comparisons", "training"):
        return
    rates = Rates()
    if part in ("all", "models"):
        yield from _models(lengths, 4 if quick else 24, rates, rounds, progress)
    if part in ("all", "lengths"):
        if not quick:
            yield from _long(rates, rounds, progress)
        progress("padding")
        yield padding(rounds)
    if any(rates.best.values()):
        progress(rates.words())


def _models(
    lengths: Sequence[int],
    layers: int,
    rates: Rates,
    rounds: int,
    progress: Progress,
) -> Iterator[Measured]:
    for tokens in lengths:
        for half in (False, True):
            for what in PASSES:
                case = Case(what=what, tokens=(tokens,), bfloat16=half, layers=layers)
                progress(f"mamba-130m {case.precision()} {what} {tokens}")
                yield whole(case, rates, rounds)


def left_out(part: Part) -> str:
    """Say what cannot be measured, for it is not installed; empty where nothing is missing."""
    missing = [system for _, system in RIVALS if not can_run(system)]
    if part not in ("all", "comparisons") or not missing:
        return ""
    return (
        f"{' and '.join(missing)} is not installed, so its rows are left out: "
        'pip install "longdoc[bench]"'
    )


def _comparisons(lengths: Sequence[int], rounds: int, progress: Progress) -> Iterator[Measured]:
    for tokens in lengths:
        for half in (False, True):
            for what, system in RIVALS:
                if can_run(system):
                    case = Case(what=what, tokens=(tokens,), bfloat16=half, layers=1)
                    progress(f"{system}, one layer, {case.precision()} {what} {tokens}")
                    yield from against(case, system, rounds)
    for what in PASSES[:2]:
        progress(f"gpt-neo-125m {what} 2048")
        neo = Case(model="gpt-neo-125m", what=what, tokens=(2048,), layers=12)
        yield from against(neo, "transformers", min(rounds, 3))


def _long(rates: Rates, rounds: int, progress: Progress) -> Iterator[Measured]:
    dropped = Case(what="step", tokens=(4096,), bfloat16=True, dropout=0.1)
    progress("LoRA dropout")
    yield replace(whole(dropped, rates, rounds), note="LoRA dropout 0.1")
    for tokens, count in ((1024, rounds), (32768, 2), (131072, 1)):
        progress(f"mamba-130m bf16 forward {tokens}")
        yield whole(Case(tokens=(tokens,), bfloat16=True), rates, count)
    progress("gpt-neo-125m forward 8192")
    yield whole(Case(model="gpt-neo-125m", tokens=(8192,), layers=12), rates, 2)

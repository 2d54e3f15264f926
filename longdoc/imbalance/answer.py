"""What the settings come to on a corpus: a loss, the documents of every epoch, a correction.

Letters: ``c`` labels, ``m`` logits (1 for a binary task, else c).
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from longdoc.documents.document import Kind
from longdoc.imbalance.catalog import LOSSES, SAMPLERS, loss_from
from longdoc.imbalance.distribution_balanced import centre
from longdoc.imbalance.frequencies import Frequencies
from longdoc.imbalance.loss import LabelLoss
from longdoc.imbalance.settings import ImbalanceSettings
from longdoc.settings import require

STREAM = 1
"""Sampling has a stream of random numbers of its own beside the one that shuffles."""


@dataclass(frozen=True)
class Answer:
    """What training does about rare labels.

    Attributes:
        loss: What is minimised.
        draw: An epoch's number to its documents, always as many; None for each document once.
        logit_shift: Added to logits when documents are scored, shape ``(m,)``; None for nothing.
        notes: What a run records: mu, and each label's documents before and after sampling.
    """

    loss: LabelLoss
    draw: Callable[[int], NDArray[np.int64]] | None
    logit_shift: NDArray[np.float64] | None
    notes: dict[str, object]


def work_out(
    settings: ImbalanceSettings, truth: NDArray[np.bool_], kind: Kind, seed: int
) -> Answer:
    """Work out what the settings come to.

    Args:
        settings: Which loss and sampler.
        truth: Of the training documents, shape (documents, c).
        kind: The task's.
        seed: Of the sampler.

    Raises:
        SettingsError: The loss has no form for this kind of task, or there is nothing to correct.
    """
    needed = settings.sampler != "none" or not settings.prior_correction
    meaning = "left out where no sampler changes frequencies"
    require(needed, "imbalance.prior_correction", meaning, settings.prior_correction)
    aims = truth[:, 1:] if kind == "binary" else truth
    notes: dict[str, object] = {"loss": settings.loss, "sampler": settings.sampler}
    if "mu" in LOSSES[settings.loss].settings:
        mu = centre(truth) if settings.mu is None else settings.mu
        settings = replace(settings, mu=mu)
        notes["mu"] = mu
    loss = loss_from(settings, _frequencies(aims), kind)
    if settings.sampler == "none":
        return Answer(loss, None, None, notes)
    draw = _epochs(settings, truth, seed)
    drawn = draw(0)
    notes["documents"] = {"before": len(truth), "after": len(drawn)}
    notes["label_documents"] = {
        "before": truth.sum(axis=0).tolist(), "after": truth[drawn].sum(axis=0).tolist(),
    }  # fmt: skip
    shift = None
    if settings.prior_correction:
        shift = prior_shift(_frequencies(aims[drawn]), _frequencies(aims), kind)
        notes["logit_shift"] = shift.tolist()
    return Answer(loss, draw, shift, notes)


def recorded_shift(notes: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Read the correction of logits off the notes of a run, shape ``(m,)``; None for none."""
    about = notes.get("imbalance", {})
    return np.array(about["logit_shift"]) if "logit_shift" in about else None


def _frequencies(aims: NDArray[np.bool_]) -> Frequencies:
    return Frequencies(torch.from_numpy(aims.sum(axis=0)).double(), len(aims))


def _epochs(
    settings: ImbalanceSettings, truth: NDArray[np.bool_], seed: int
) -> Callable[[int], NDArray[np.int64]]:
    """Give an epoch's documents by its number, as many as the first epoch has."""
    card = SAMPLERS[settings.sampler]

    def drawn(epoch: int) -> tuple[NDArray[np.int64], np.random.Generator]:
        generator = np.random.default_rng([seed, epoch, STREAM])
        return card.draw(truth, settings, generator), generator

    size = len(drawn(0)[0])

    @functools.lru_cache(maxsize=1)
    def kept(epoch: int) -> NDArray[np.int64]:
        rows, generator = drawn(epoch)
        if len(rows) >= size:  # clones stand last
            return rows[:size]
        times = np.bincount(rows, minlength=len(truth))
        missing = size - len(rows)
        room = np.where(times > 1, settings.max_repeats - times, 0)  # of what is cloned anyway
        if room.sum() < missing:
            room = settings.max_repeats - times
        pool = np.repeat(np.arange(len(truth)), room.clip(0, missing))
        more = generator.choice(pool, missing, replace=False)
        return np.concatenate([rows, more])

    return lambda epoch: kept(epoch).copy()  # whoever changes it changes no other


def prior_shift(sampled: Frequencies, real: Frequencies, kind: Kind) -> NDArray[np.float64]:
    """Give what brings logits learnt at sampled frequencies back to the real ones, shape ``(m,)``.

    For sigmoids the difference of log odds, for softmax that of log frequencies. It is exact where
    sampling changes how often a label occurs and nothing else; with several labels a document,
    which come along with each other, it is an approximation.

    Args:
        sampled: Frequencies in training.
        real: Frequencies before sampling.
        kind: The task's.

    Returns:
        Nothing to add, 0, for labels on no document or, of several a document, on all: sampling
        leaves their shares as they are.

    Source:
        saerens2002adjusting and elkan2001foundations (formula as in public implementations).
    """
    if kind == "multi-class":
        shift = real.log_priors() - sampled.log_priors()
    else:
        shift = real.prior_logits() - sampled.prior_logits()
    # Half a document stands for none, which is another share of each number of documents.
    fixed = (real.counts == 0) | ((real.counts == real.documents) & (kind != "multi-class"))
    return shift.masked_fill(fixed, 0).numpy()

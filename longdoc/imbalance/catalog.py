"""Every answer to imbalance in one list: losses, samplers, and what each is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from longdoc.documents.document import Kind
from longdoc.errors import SettingsError, nearest
from longdoc.imbalance.asymmetric import AsymmetricLoss
from longdoc.imbalance.class_balanced import class_balanced
from longdoc.imbalance.distribution_balanced import (
    REUTERS_MU,
    BalancedLoss,
    EffectiveWeighting,
    Rebalancing,
    Tolerance,
    Weighting,
    tolerance,
)
from longdoc.imbalance.frequencies import Frequencies, count
from longdoc.imbalance.logit_adjusted import logit_adjusted
from longdoc.imbalance.loss import LabelLoss, SoftmaxLoss
from longdoc.imbalance.plain import bce, weighted_bce
from longdoc.imbalance.samplers import class_aware, lp_ros, ml_ros, oversampling
from longdoc.imbalance.settings import ImbalanceSettings
from longdoc.registry import Registry
from longdoc.settings import build, require

Make = Callable[[Frequencies, Kind, ImbalanceSettings, float], LabelLoss]
Draw = Callable[[NDArray[np.bool_], ImbalanceSettings, np.random.Generator], NDArray[np.int64]]


@dataclass(frozen=True)
class Card:
    """What a strategy is.

    Attributes:
        reference: Key of ``references.bib``; empty for what needs none.
        settings: Which numbers of the imbalance settings it takes.
    """

    name: str
    summary: str
    reference: str
    settings: tuple[str, ...]


@dataclass(frozen=True)
class LossCard(Card):
    """A loss.

    Attributes:
        make: Builds it.
        weight: What it is multiplied by, as published.
        softmax: Whether it has a form for tasks with exactly one of several labels.
    """

    make: Make
    weight: float = 1.0
    softmax: bool = False


@dataclass(frozen=True)
class SamplerCard(Card):
    """A sampler.

    Attributes:
        draw: Gives the documents of an epoch, shape (documents,), always as many.
    """

    draw: Draw


LOSSES = Registry[LossCard]("loss")
SAMPLERS = Registry[SamplerCard]("sampler")


def _bce(f: Frequencies, kind: Kind, s: ImbalanceSettings, weight: float) -> LabelLoss:
    return bce(kind, weight)


def _weighted(f: Frequencies, kind: Kind, s: ImbalanceSettings, weight: float) -> LabelLoss:
    return weighted_bce(f, kind, weight, power=s.power, max_weight=s.max_weight)


def _class_balanced(f: Frequencies, kind: Kind, s: ImbalanceSettings, weight: float) -> LabelLoss:
    return class_balanced(f, kind, weight, beta=s.beta)


def _adjusted(f: Frequencies, kind: Kind, s: ImbalanceSettings, weight: float) -> LabelLoss:
    return logit_adjusted(f, kind, weight, tau=s.tau)


def _asymmetric(f: Frequencies, kind: Kind, s: ImbalanceSettings, weight: float) -> LabelLoss:
    return AsymmetricLoss(
        gamma_negative=s.gamma_negative,
        gamma_positive=s.gamma_positive,
        margin=s.margin,
        weight=weight,
    )


def _effective(f: Frequencies, binary: bool, s: ImbalanceSettings) -> Weighting:
    return EffectiveWeighting(f, binary, s.beta)


def _rebalanced(f: Frequencies, binary: bool, s: ImbalanceSettings) -> Weighting:
    mu = REUTERS_MU if s.mu is None else s.mu
    return Rebalancing(f, binary, map_alpha=s.map_alpha, map_beta=s.map_beta, mu=mu)


def _tolerant(f: Frequencies, s: ImbalanceSettings) -> Tolerance:
    return tolerance(f, s.kappa, s.scale)


def _balanced(
    f: Frequencies,
    kind: Kind,
    s: ImbalanceSettings,
    weight: float,
    *,
    weights: Callable[[Frequencies, bool, ImbalanceSettings], Weighting] | None = None,
    tolerates: bool = False,
    focal: bool = True,
) -> LabelLoss:
    if kind == "multi-class":
        return SoftmaxLoss(gamma=s.gamma, weight=weight)
    return BalancedLoss(
        weights=weights(f, kind == "binary", s) if weights else None,
        tolerance=_tolerant(f, s) if tolerates else None,
        gamma=s.gamma if focal else None,
        alpha=s.alpha,
        weight=weight,
    )


_FOCAL = ("gamma", "alpha")
_TOLERANT = ("kappa", "scale")
_REBALANCED = ("map_alpha", "map_beta", "mu")
_HUANG = "huang2021balancing"

for loss in (
    LossCard(
        "bce", "Cross entropy; every document and label weighs the same.", "", (), _bce,
        softmax=True,
    ),
    LossCard(
        "weighted_bce", "Cross entropy in which positives of rare labels weigh more.", "",
        ("power", "max_weight"), _weighted, softmax=True,
    ),
    LossCard(
        "class_balanced", "Cross entropy in which labels weigh by their effective number.",
        "cui2019classbalanced", ("beta",), _class_balanced, softmax=True,
    ),
    LossCard(
        "fl", "Focal loss: what is already right counts less.", "lin2017focal", _FOCAL, _balanced,
        softmax=True,
    ),
    LossCard(
        "cb", "Focal loss in which labels weigh by their effective number.", _HUANG,
        (*_FOCAL, "beta"), partial(_balanced, weights=_effective), weight=10.0,
    ),
    LossCard(
        "r_fl", "Focal loss, rebalanced by what a label shares its documents with.", _HUANG,
        (*_FOCAL, *_REBALANCED), partial(_balanced, weights=_rebalanced),
    ),
    LossCard(
        "ntr_fl", "Focal loss that tolerates negatives.", _HUANG, (*_FOCAL, *_TOLERANT),
        partial(_balanced, tolerates=True),
    ),
    LossCard(
        "db_0fl", "Rebalanced cross entropy that tolerates negatives.", _HUANG,
        (*_REBALANCED, *_TOLERANT),
        partial(_balanced, weights=_rebalanced, tolerates=True, focal=False), weight=0.5,
    ),
    LossCard(
        "cb_ntr", "Focal loss with effective numbers that tolerates negatives.", _HUANG,
        (*_FOCAL, "beta", *_TOLERANT), partial(_balanced, weights=_effective, tolerates=True),
        weight=10.0,
    ),
    LossCard(
        "db", "Distribution-balanced: rebalanced focal loss that tolerates negatives.", _HUANG,
        (*_FOCAL, *_REBALANCED, *_TOLERANT),
        partial(_balanced, weights=_rebalanced, tolerates=True),
    ),
    LossCard(
        "asl", "Asymmetric loss: negatives that are already right hardly count.",
        "ridnik2021asymmetric", ("gamma_negative", "gamma_positive", "margin"), _asymmetric,
    ),
    LossCard(
        "logit_adjusted", "Cross entropy of logits shifted by the label's frequency.",
        "menon2021logit", ("tau",), _adjusted, softmax=True,
    ),
):  # fmt: skip
    LOSSES.add(loss.name, loss)

for sampler in (
    SamplerCard(
        "oversampling", "Documents of labels rarer than the mean one are repeated.", "",
        ("max_repeats",), lambda truth, s, rng: oversampling.draw(truth, s.max_repeats, rng),
    ),
    SamplerCard(
        "ml_ros", "Clones of documents that bear rare labels.", "charte2015addressing",
        ("growth", "max_repeats"),
        lambda truth, s, rng: ml_ros.draw(truth, s.growth, s.max_repeats, rng),
    ),
    SamplerCard(
        "lp_ros", "Clones of documents with a rare set of labels.", "charte2015addressing",
        ("growth", "max_repeats"),
        lambda truth, s, rng: lp_ros.draw(truth, s.growth, s.max_repeats, rng),
    ),
    SamplerCard(
        "class_aware", "A label is drawn, then a document that bears it.", "shen2016relay", (),
        lambda truth, s, rng: class_aware.draw(truth, rng),
    ),
):  # fmt: skip
    SAMPLERS.add(sampler.name, sampler)


def build_loss(
    name: str,
    label_counts: Sequence[int] | NDArray[np.integer] | Tensor,
    n_documents: int,
    *,
    kind: Kind = "multi-label",
    **settings: object,
) -> LabelLoss:
    """Build a loss by its name.

    Args:
        name: One of the catalogue's, see ``longdoc explain imbalance.loss``.
        label_counts: Training documents a label, shape ``(c,)``; the number of positive documents
            alone for a binary task, whose classifier has one logit.
        n_documents: Training documents.
        kind: ``multi-label`` (sigmoids), ``binary`` (one sigmoid) or ``multi-class`` (softmax).
        **settings: Numbers of this loss, as in the imbalance settings; ``mu`` is 0.9 without.

    Returns:
        A module: logits ``(b, c)`` and targets ``(b, c)`` of zeros and ones to a scalar. Logits of
        half precision are widened to float32.

    Raises:
        SettingsError: A number is out of range, unknown, or has no meaning for this loss.
        UnknownNameError: There is no such loss.

    Example:
        >>> import torch
        >>> loss = build_loss("db", [50, 3], 100)
        >>> round(loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])).item(), 3)
        0.049
    """
    card = LOSSES[name]
    kinds = get_args(Kind)
    require(kind in kinds, "kind", " or ".join(kinds), kind)
    known = [s for s in card.settings if not (kind == "multi-class" and s == "alpha")]
    for given in settings:
        if given not in (*known, "loss_weight"):
            message = f"the loss {name} has no {given!r}; {nearest(given, (*known, 'loss_weight'))}"
            raise SettingsError(message)
    numbers = build(ImbalanceSettings, {**settings, "loss": name}, "imbalance.")
    return loss_from(numbers, count(label_counts, n_documents), kind)


def check(settings: ImbalanceSettings) -> None:
    """Refuse a number that the chosen loss and sampler would not look at.

    Raises:
        SettingsError: Naming the setting and what it is for.

    Example:
        >>> check(ImbalanceSettings(margin=0.1))
        Traceback (most recent call last):
        ...
        longdoc.errors.SettingsError: imbalance.margin is for asl; got loss bce, sampler none
    """
    cards: dict[str, Card] = {card.name: card for card in (*LOSSES.values(), *SAMPLERS.values())}
    taken = set(cards[settings.loss].settings)
    if settings.sampler != "none":
        taken |= set(cards[settings.sampler].settings)
    plain = ImbalanceSettings()
    for name in dict.fromkeys(name for card in cards.values() for name in card.settings):
        if name not in taken and getattr(settings, name) != getattr(plain, name):
            owners = ", ".join(owner for owner, card in cards.items() if name in card.settings)
            message = (
                f"imbalance.{name} is for {owners}; got loss {settings.loss}, sampler "
                f"{settings.sampler}"
            )
            raise SettingsError(message)


def loss_from(settings: ImbalanceSettings, frequencies: Frequencies, kind: Kind) -> LabelLoss:
    """Build the loss that the settings name.

    Raises:
        SettingsError: It has no form for this kind of task.
    """
    card = LOSSES[settings.loss]
    if kind == "multi-class" and not card.softmax:
        forms = ", ".join(entry.name for entry in LOSSES.values() if entry.softmax)
        message = (
            f"imbalance.loss {card.name!r} is not for labels that exclude each other; allowed for "
            f"tasks with exactly one of several labels a document: {forms}"
        )
        raise SettingsError(message)
    if kind == "binary" and len(frequencies.counts) != 1:
        message = f"a binary task has one logit, so one label count; got {len(frequencies.counts)}"
        raise SettingsError(message)
    if kind == "multi-class" and settings.alpha != ImbalanceSettings().alpha:
        message = (
            "imbalance.alpha weighs positive entries against negative ones, which labels that "
            "exclude each other have not; leave it out"
        )
        raise SettingsError(message)
    weight = card.weight if settings.loss_weight is None else settings.loss_weight
    loss = card.make(frequencies, kind, settings, weight)
    loss.width = len(frequencies.counts)
    return loss

"""How training answers imbalance: which loss, which sampler, and their numbers."""

from dataclasses import dataclass
from typing import Literal

from longdoc.settings import chosen, cited, require

Loss = Literal[
    "bce", "weighted_bce", "class_balanced", "fl", "cb", "r_fl", "ntr_fl", "db_0fl", "cb_ntr", "db",
    "asl", "logit_adjusted",
]  # fmt: skip
Sampler = Literal["none", "oversampling", "ml_ros", "lp_ros", "class_aware"]


@dataclass(frozen=True, kw_only=True)
class ImbalanceSettings:
    """What is done about rare labels while training; thresholds come after it."""

    loss: Loss = chosen(
        "bce", "the plain loss; see docs/results/long-tail.md for when another pays"
    )
    """What is minimised. bce: cross entropy. weighted_bce: positives weigh ((N - n) / n) ** power.
    class_balanced: labels weigh by their effective number of documents. fl: focal loss. cb, r_fl,
    ntr_fl, db_0fl, cb_ntr, db: the losses of huang2021balancing under their names. asl: asymmetric
    loss. logit_adjusted: logits are shifted by the label's frequency while training."""
    sampler: Sampler = chosen("none", "every document once an epoch")
    """Which documents an epoch has. oversampling: documents of labels rarer than the mean one are
    repeated. ml_ros, lp_ros: clones of documents with rare labels, or of rare label sets.
    class_aware: a label is drawn, then a document that bears it."""
    power: float = chosen(
        0.5, "half way, in logarithms, between plain (0) and full weighting (1); a decision of ours"
    )
    """weighted_bce: t of the weight ((N - n) / n) ** t, for n of N documents with the label."""
    max_weight: float = chosen(
        20.0, "a label of a handful of documents must not outweigh all others; a decision of ours"
    )
    """weighted_bce: positives weigh at most so much."""
    gamma: float = cited(
        2.0, "huang2021balancing", "authors' code, Reuters/train.py", note="lin2017focal has 2 too"
    )
    """Focal losses: how much less an entry counts that is already right."""
    alpha: float = cited(
        0.5,
        "huang2021balancing",
        "authors' code, Reuters/train.py",
        note="lin2017focal has 0.25, as in the code of its authors",
    )
    """Focal losses: weight of positive entries; negative ones weigh 1 - alpha."""
    beta: float = cited(
        0.9,
        "huang2021balancing",
        "authors' code, Reuters/train.py",
        note="cui2019classbalanced's code: 0.9999 on CIFAR, 0.999 on larger sets",
    )
    """class_balanced, cb, cb_ntr: a label of n documents weighs (1 - beta) / (1 - beta ** n)."""
    kappa: float = cited(0.05, "huang2021balancing", "authors' code, Reuters/train.py")
    """ntr_fl, db_0fl, cb_ntr, db: logits are shifted by so much of the label's log odds."""
    scale: float = cited(2.0, "huang2021balancing", "authors' code, Reuters/train.py")
    """ntr_fl, db_0fl, cb_ntr, db: lambda, by which logits of negative entries are multiplied and
    their loss is divided."""
    map_alpha: float = cited(0.1, "huang2021balancing", "authors' code, Reuters/train.py")
    """r_fl, db_0fl, db: the least that an entry weighs, alpha of the paper's mapping."""
    map_beta: float = cited(10.0, "huang2021balancing", "authors' code, Reuters/train.py")
    """r_fl, db_0fl, db: how steep the mapping of weights is, beta of the paper's mapping."""
    mu: float | None = cited(
        None,
        "huang2021balancing",
        "authors' code, Reuters/dataset_prep.ipynb",
        note="computed from the training labels as there, which gave 0.9 on Reuters-21578",
    )
    """r_fl, db_0fl, db: centre of the mapping of weights, mu; computed where it is not given."""
    loss_weight: float | None = cited(
        None,
        "huang2021balancing",
        "authors' code, Reuters/train.py",
        note="there 10 for cb and cb_ntr, 0.5 for db_0fl, else 1; all other losses: 1",
    )
    """What the loss is multiplied by; that of the loss where it is not given."""
    gamma_negative: float = cited(
        4.0, "ridnik2021asymmetric", "authors' code, src/loss_functions/losses.py"
    )
    """asl: how much less a negative entry counts that is already right."""
    gamma_positive: float = cited(
        1.0,
        "ridnik2021asymmetric",
        "authors' code, src/loss_functions/losses.py",
        note="their train.py has 0",
    )
    """asl: how much less a positive entry counts that is already right."""
    margin: float = cited(
        0.05, "ridnik2021asymmetric", "authors' code, src/loss_functions/losses.py"
    )
    """asl: negative entries scored below this cost nothing."""
    tau: float = cited(1.0, "menon2021logit", "authors' code, logit_adjustment/main.py")
    """logit_adjusted: how much of the label's log odds is added to its logit."""
    growth: float = cited(
        0.25,
        "charte2015addressing",
        "mldr.resampling, a package with their first author, resample(P = 25)",
        unit="share of the training documents",
        note="the paper's own grid was not read",
    )
    """ml_ros, lp_ros: how many clones an epoch has."""
    max_repeats: int = chosen(
        10, "a document learnt by heart says nothing of others; a decision of ours", unit="times"
    )
    """oversampling, ml_ros, lp_ros: a document occurs at most so often in an epoch."""
    prior_correction: bool = chosen(
        False, "a threshold a label makes up for most of it; switch on for honest probabilities"
    )
    """Whether logits of a model trained with a sampler are shifted back to the real frequencies."""

    def __post_init__(self) -> None:
        for name in ("power", "gamma", "gamma_negative", "gamma_positive", "tau", "kappa"):
            value = getattr(self, name)
            require(0 <= value <= 100, f"imbalance.{name}", "in 0..100", value)
        for name, most in (("max_weight", 1e30), ("growth", 100)):
            value = getattr(self, name)
            require(0 < value <= most, f"imbalance.{name}", f"above 0, at most {most:g}", value)
        steep = self.map_beta  # smaller ones times an infinite r are lost in float32
        require(1e-6 <= steep <= 1e6, "imbalance.map_beta", "in 1e-6..1e6", steep)
        require(1e-3 <= self.scale <= 1e3, "imbalance.scale", "in 0.001..1000", self.scale)
        require(0 <= self.map_alpha <= 1e6, "imbalance.map_alpha", "in 0..1e6", self.map_alpha)
        centred = self.mu is None or 0 <= self.mu <= 100
        require(centred, "imbalance.mu", "in 0..100", self.mu)
        require(0 < self.alpha < 1, "imbalance.alpha", "between 0 and 1", self.alpha)
        require(0 <= self.beta < 1, "imbalance.beta", "in 0..1, 1 excluded", self.beta)
        margin = self.margin  # the logarithm of a smaller one is none in float32
        apart = margin == 0 or 1e-6 <= margin < 1
        require(apart, "imbalance.margin", "0, or in 1e-6..1, 1 excluded", margin)
        weight = self.loss_weight
        weighs = weight is None or 0 < weight <= 1e30
        require(weighs, "imbalance.loss_weight", "above 0, at most 1e+30", weight)
        repeats = self.max_repeats
        require(1 <= repeats <= 10**6, "imbalance.max_repeats", "in 1..1000000", repeats)

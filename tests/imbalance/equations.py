"""The equations of huang2021balancing, Sec. 2, and of others, written down as they stand there.

In float64 and without any care for large logits: what the package computes is compared with it.
"""

import torch

CONSTANTS = {"gamma": 2.0, "alpha": 0.5, "beta": 0.9, "kappa": 0.05, "lambda": 2.0}
MAPPING = {"alpha": 0.1, "beta": 10.0, "mu": 0.9}
LOSS_WEIGHTS = {"bce": 1.0, "fl": 1.0, "cb": 10.0, "r_fl": 1.0, "ntr_fl": 1.0, "db_0fl": 0.5, "cb_ntr": 10.0, "db": 1.0}  # fmt: skip
PARTS = {
    "bce": (), "fl": ("focal",), "cb": ("focal", "effective"), "r_fl": ("focal", "rebalanced"),
    "ntr_fl": ("focal", "tolerant"), "db_0fl": ("rebalanced", "tolerant"),
    "cb_ntr": ("focal", "effective", "tolerant"), "db": ("focal", "rebalanced", "tolerant"),
}  # fmt: skip


def published(name, logits, targets, counts, documents):
    parts = PARTS[name]
    n = torch.tensor(counts, dtype=torch.float64)
    shift, scale = torch.zeros_like(n), 1.0
    if "tolerant" in parts:
        prior = n / documents
        shift, scale = -CONSTANTS["kappa"] * -torch.log(1 / prior - 1), CONSTANTS["lambda"]
    q_positive = torch.sigmoid(logits - shift)
    q_negative = torch.sigmoid(scale * (logits - shift))
    positive, negative = -torch.log(q_positive), -torch.log(1 - q_negative) / scale
    if "focal" in parts:
        positive = CONSTANTS["alpha"] * (1 - q_positive) ** CONSTANTS["gamma"] * positive
        negative = (1 - CONSTANTS["alpha"]) * q_negative ** CONSTANTS["gamma"] * negative
    loss = torch.where(targets > 0, positive, negative)
    if "effective" in parts:
        loss = loss * (1 - CONSTANTS["beta"]) / (1 - CONSTANTS["beta"] ** n)
    if "rebalanced" in parts:
        r = (1 / n) / (targets / n).sum(dim=1, keepdim=True)
        loss = loss * (MAPPING["alpha"] + torch.sigmoid(MAPPING["beta"] * (r - MAPPING["mu"])))
    return LOSS_WEIGHTS[name] * loss.mean()


def asymmetric(logits, targets, gamma_negative=4.0, gamma_positive=1.0, margin=0.05):
    p = torch.sigmoid(logits)
    shifted = (p - margin).clamp(min=0)
    positive = (1 - p) ** gamma_positive * torch.log(p)
    negative = shifted**gamma_negative * torch.log(1 - shifted)
    return -(targets * positive + (1 - targets) * negative).sum()

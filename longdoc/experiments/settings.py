"""Every setting of a run in one record."""

import contextlib
import hashlib
import json
from dataclasses import dataclass, field, fields
from typing import get_type_hints

from longdoc.adapters import lora
from longdoc.adapters.lora import AdapterSettings
from longdoc.backbones import build as backbones
from longdoc.backbones.build import Start
from longdoc.backbones.settings import BackboneSettings
from longdoc.baselines.settings import BaselineSettings
from longdoc.documents.catalog import DataSettings
from longdoc.errors import SettingsError
from longdoc.experiments.ensemble import EnsembleSettings
from longdoc.imbalance.settings import ImbalanceSettings
from longdoc.metrics.thresholds import ThresholdSettings
from longdoc.settings import build, changes, require
from longdoc.tokens.encoding import TokenSettings
from longdoc.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run is made of; every field has a default, and every default a source or a reason.

    Example:
        >>> Settings(backbone=BackboneSettings(name="bert-mini")).tokens.truncation
        'head'
    """

    data: DataSettings = field(default_factory=DataSettings)
    tokens: TokenSettings = field(default_factory=TokenSettings)
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    imbalance: ImbalanceSettings = field(default_factory=ImbalanceSettings)
    baseline: BaselineSettings = field(default_factory=BaselineSettings)
    ensemble: EnsembleSettings = field(default_factory=EnsembleSettings)
    thresholds: ThresholdSettings = field(default_factory=ThresholdSettings)

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for part in fields(self):
            value, kind = getattr(self, part.name), hints[part.name]
            if not isinstance(value, kind):
                object.__setattr__(self, part.name, build(kind, value, f"{part.name}."))

    def digest(self) -> str:
        """Give eight hexadecimal digits that differ when any setting does.

        They are of what is not a default, so that a setting which a later version adds does not
        give every run another name.
        """
        text = json.dumps(changes(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def is_cross_fitted(self) -> bool:
        """Say whether a system of its own is trained on each fold's rest."""
        every_fold = self.data.folds is not None and self.data.fold is None
        return every_fold and not self.ensemble.members

    def has_no_backbone(self) -> bool:
        """Say whether nothing is trained that has a backbone."""
        return self.baseline.name != "none" or bool(self.ensemble.members)

    def check_used(self) -> None:
        """Refuse settings that would not be looked at.

        They are an answer to imbalance, or an adapter, for a baseline, and numbers of an adapter
        where there is none.

        Raises:
            SettingsError: There is one.
        """
        if not self.has_no_backbone():
            # What auto stands for depends on the backbone, which a hub may have to be asked for.
            start: Start = "large" if self.backbone.pretrained else "random"
            # What is wrong with a backbone is said where it is needed: not for a finished run.
            with contextlib.suppress(SettingsError):
                if backbones.is_here(self.backbone):
                    start = backbones.start(backbones.resolve(self.backbone), self.backbone)
            lora.check_used(self.adapter, start)
            return
        what = "an ensemble" if self.ensemble.members else f"baseline.name {self.baseline.name}"
        for group in ("imbalance", "adapter"):
            for name, value in changes(self).get(group, {}).items():
                allowed = f"left out: {what} does not look at it"
                require(False, f"{group}.{name}", allowed, value)

    def system(self) -> str:
        """Name what is trained, for people: the backbone and its length, or the baseline."""
        if self.ensemble.members:
            return "ensemble"
        if self.baseline.name != "none":
            return self.baseline.name
        return f"{self.backbone.name.split('/')[-1]}-{self.tokens.max_tokens}"

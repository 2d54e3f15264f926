"""Token numbers to one score a label: every backbone with its head.

Importing this room makes ``AutoModelForSequenceClassification`` know Mamba.
"""

from transformers import AutoModelForSequenceClassification, MambaConfig

from longdoc.backbones.mamba import MambaForSequenceClassification

AutoModelForSequenceClassification.register(
    MambaConfig, MambaForSequenceClassification, exist_ok=True
)

__all__ = ["MambaForSequenceClassification"]

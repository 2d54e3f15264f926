"""Tiny models of every causal family, and a batch with padding for them."""

import torch
from transformers import GPTNeoConfig, LlamaConfig, MambaConfig

from longdoc.backbones import MambaForSequenceClassification
from longdoc.backbones.classification import (
    GPTNeoForSequenceClassification,
    LlamaForSequenceClassification,
)


def neo(length=96, window=8):
    torch.manual_seed(0)
    return GPTNeoConfig(
        vocab_size=99, hidden_size=24, num_layers=2, num_heads=3, window_size=window,
        attention_types=[[["global", "local"], 1]], max_position_embeddings=length,
        attention_dropout=0.0, embed_dropout=0.0, resid_dropout=0.0, num_labels=3,
        initializer_range=0.2,
    )  # fmt: skip


def mamba():
    torch.manual_seed(0)
    return MambaConfig(vocab_size=99, hidden_size=24, num_hidden_layers=2, num_labels=3)


def llama():
    torch.manual_seed(0)
    return LlamaConfig(
        vocab_size=99, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=6, num_key_value_heads=2, num_labels=3, initializer_range=0.2,
        pad_token_id=0,
    )  # fmt: skip


CLASSIFIERS = [
    (GPTNeoForSequenceClassification, neo),
    (MambaForSequenceClassification, mamba),
    (LlamaForSequenceClassification, llama),
]


def padded(lengths=(5, 40, 23), seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 99, (len(lengths), max(lengths)), generator=generator)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    return {"input_ids": ids * mask, "attention_mask": mask}


def gradients_of(model, inputs, labels):
    model.zero_grad()
    loss = model(**inputs, labels=labels).loss
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

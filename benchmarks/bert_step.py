"""Which attention BERT trains fastest with on a CPU: our kernel, a matrix that is kept, or torch's.

    python benchmarks/bert_step.py

Prints tokens a second of processor time, of forward and backward passes of minilm-l6 (32 documents
of 130 tokens, half of them padded by 9, bfloat16, one thread), medians of interleaved rounds.
``eager`` and ``sdpa`` are transformers' own attention.
"""

import statistics
import time

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from longdoc.backbones import build
from longdoc.backbones.bert_attention import NAME
from longdoc.backbones.settings import BackboneSettings
from longdoc.kernels.allocator import keep_freed_memory
from longdoc.kernels.attention import matrix

DOCUMENTS, TOKENS, ROUNDS = 32, 130, 7


def keeps_matrix(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **_):
    rate = dropout if module.training else 0.0
    found = matrix.attention(query, key, value, scaling, attention_mask, rate)
    return found.transpose(1, 2).contiguous(), None


def model(dropout, attention):
    settings = BackboneSettings(name="minilm-l6", attention_dropout=dropout)
    card = build.resolve(settings)
    tokenizer = build.own_tokenizer(card, settings)
    labels = [str(number) for number in range(90)]
    built = build.build(
        settings, tokenizer, labels=labels, kind="multi-label", max_tokens=256, seed=0
    )
    built.model.set_attn_implementation(attention)
    built.model.by_length = False
    return built.model.train()


def step(classifier):
    ids = torch.randint(5, 30_000, (DOCUMENTS, TOKENS))
    mask = torch.ones_like(ids)
    mask[::2, -9:] = 0
    start = time.process_time()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = classifier(input_ids=ids, attention_mask=mask).logits
    logits.float().square().mean().backward()
    return DOCUMENTS * TOKENS / (time.process_time() - start)


def main():
    AttentionInterface.register("matrix", keeps_matrix)
    AttentionMaskInterface.register("matrix", eager_mask)
    torch.set_num_threads(1)
    keep_freed_memory()
    cases = [
        (dropout, kind) for dropout in (0.1, 0.0) for kind in ("eager", "sdpa", "matrix", NAME)
    ]
    models = {case: model(*case) for case in cases}
    rates = {case: [] for case in cases}
    for number in range(ROUNDS + 1):
        for case, classifier in models.items():
            rate = step(classifier)
            if number:
                rates[case].append(rate)
    for (dropout, kind), values in rates.items():
        print(f"attention dropout {dropout}, {kind}: {statistics.median(values):.0f} tokens/s")


if __name__ == "__main__":
    main()

"""Which attention is fastest where BERT trains: ``python benchmarks/attention.py``.

Prints milliseconds of processor time of one thread, forward and backward, medians of interleaved
rounds: our kernel, tensor operations that keep the matrix, and torch's fused attention. Every
second document is padded by 9 tokens; torch's has no dropout.
"""

import statistics
import time
from functools import partial

import torch
from torch.nn import functional as F  # noqa: N812

from longdoc.kernels.allocator import keep_freed_memory
from longdoc.kernels.attention import compiled, matrix

ROUNDS = 9
SHAPES = ((32, 12, 130, 32), (8, 12, 512, 32), (8, 12, 512, 64), (2, 12, 1024, 64))
"""Documents, heads, tokens and a head's width; the first two are those of minilm-l6."""


def fused(query, key, value, scale, mask):
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask.to(query.dtype), scale=scale
    )


def seconds(attend, parts, mask, gradient):
    start = time.process_time()
    found = attend(*parts, 0.2, mask)
    between = time.process_time()
    torch.autograd.grad(found, parts, gradient)
    return between - start, time.process_time() - between


def compare(shape, kind):
    b, h, length, d = shape
    parts = [torch.randn(b, length, h, d).to(kind).transpose(1, 2) for _ in range(4)]
    gradient = parts.pop()
    for part in parts:
        part.requires_grad_()
    mask = torch.zeros(b, 1, 1, length)
    mask[::2, ..., -9:] = torch.finfo(torch.float32).min
    ways = {
        "ours": compiled.attention, "ours, dropout": partial(compiled.attention, rate=0.1),
        "matrix": matrix.attention, "matrix, dropout": partial(matrix.attention, rate=0.1),
        "torch's": fused,
    }  # fmt: skip
    took = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, attend in ways.items():
            pair = seconds(attend, parts, mask, gradient)
            if number:
                took[name].append(pair)
    for name, pairs in took.items():
        forward, backward = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{shape!s:20} {kind!s:15} {name:16} {forward:8.1f} {backward:8.1f}")


def main():
    torch.set_num_threads(1)
    keep_freed_memory()
    print(f"{'shape':20} {'type':15} {'attention':16} {'forward':>8} {'backward':>8}   (ms)")
    for shape in SHAPES:
        for kind in (torch.bfloat16, torch.float32):
            compare(shape, kind)


if __name__ == "__main__":
    main()

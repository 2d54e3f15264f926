"""Times single kernels in milliseconds, forward and backward: ``python benchmarks/pieces.py``."""

import statistics

import torch

from longdoc.benchmark.limit import PRODUCTS
from longdoc.benchmark.timing import seconds_of
from longdoc.kernels import causal_conv1d, low_rank, rms_norm, selective_scan
from longdoc.kernels.allocator import keep_freed_memory
from longdoc.kernels.linear import linear

WIDTH, INNER, STATES, ROUNDS = 768, 1536, 16, 9


def median(run):
    return 1e3 * statistics.median(seconds_of(run, ROUNDS))


def both_ways(name, kind, tokens, function, *tensors):
    leaves = [x.detach().requires_grad_() for x in tensors]
    with torch.no_grad():
        forward = median(lambda: function(*leaves))
    y = function(*leaves)
    gradient = torch.ones_like(y)
    backward = median(lambda: torch.autograd.grad(y, leaves, gradient, retain_graph=True))
    print(f"{name:22} {kind!s:15} {tokens:6} {forward:8.1f} {backward:8.1f}")


def factor_gradients(tokens):
    """Times the gradients of LoRA's factors on a layer's projections, and torch's four products."""
    for inputs, outputs in PRODUCTS:
        x, dy = torch.randn(tokens, inputs), torch.randn(tokens, outputs)
        a, b = torch.randn(16, inputs), torch.randn(outputs, 16)

        def products(x=x, dy=dy, a=a, b=b):
            low, down = x @ a.t(), dy @ b
            return down.t() @ x, dy.t() @ low

        with torch.no_grad():
            ours = median(lambda x=x, dy=dy, a=a, b=b: low_rank.factor_gradients(x, dy, a, b, 1.0))
            theirs = median(products)
        name = f"LoRA {inputs} to {outputs}"
        print(f"{name:22} {'':15} {tokens:6} {ours:8.1f} {theirs:8.1f}   (ours, torch's)")


def main():
    keep_freed_memory()
    print(f"{'kernel':22} {'type':15} {'tokens':>6} {'forward':>8} {'backward':>8}   (ms)")
    for tokens in (64, low_rank.FEWEST, 256):
        factor_gradients(tokens)
    for tokens in (2048, 8192):
        for kind in (torch.float32, torch.bfloat16):
            both = torch.randn(1, tokens, 2 * INNER).to(kind)
            u, z = (part.transpose(1, 2) for part in both.chunk(2, dim=2))
            delta = torch.randn(1, tokens, INNER).to(kind).transpose(1, 2)
            rates = -torch.rand(INNER, STATES) * 8
            inputs, outputs = (torch.randn(1, STATES, tokens) for _ in range(2))
            skip, bias = torch.randn(INNER), torch.randn(INNER)

            def scan(u, delta, z, A, B, C, skip=skip, bias=bias):
                return selective_scan(u, delta, A, B, C, skip, z, bias, True)

            both_ways("selective_scan", kind, tokens, scan, u, delta, z, rates, inputs, outputs)
            weight = torch.randn(INNER, 4)
            both_ways("causal_conv1d", kind, tokens,
                      lambda x, w: causal_conv1d(x, w, None, "silu"), u, weight)  # fmt: skip
        factor_gradients(tokens)
        x, scale = torch.randn(1, tokens, WIDTH), torch.ones(WIDTH)
        both_ways("rms_norm", torch.float32, tokens, lambda x, w: rms_norm(x, w, 1e-5), x, scale)
        matrix = torch.randn(2 * INNER, WIDTH)
        both_ways("linear", torch.float32, tokens, linear, x, matrix)
        both_ways(
            "torch's own linear", torch.float32, tokens, torch.nn.functional.linear, x, matrix
        )


if __name__ == "__main__":
    main()

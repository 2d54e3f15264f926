"""What the usual ways to call GPT-Neo take: four layers of gpt-neo-125m's shape, forward, once.

    OMP_NUM_THREADS=1 python benchmarks/gpt_neo_calls.py [TOKENS]

Printed are seconds, and by how much the process grows; each call has a process of its own.
"""

import resource
import subprocess
import sys
import time

import torch
from transformers import GPTNeoConfig, GPTNeoModel

from longdoc.backbones.gpt_neo import use_block_attention

CALLS = (
    "plain", "positions", "padding before", "padding behind",
    "holes", "read on", "attention dropout",
)  # fmt: skip


def measure(call, tokens):
    torch.manual_seed(0)
    config = GPTNeoConfig(
        num_layers=4, hidden_size=768, num_heads=12, attention_types=[[["global", "local"], 2]],
        max_position_embeddings=tokens, vocab_size=1000,
        attention_dropout=0.1 if call == "attention dropout" else 0.0,
    )  # fmt: skip
    model = use_block_attention(GPTNeoModel(config).train(call == "attention dropout"))
    ids, places = torch.randint(1, 999, (1, tokens)), torch.arange(tokens)[None]
    asked = {
        "plain": {},
        "positions": {"position_ids": places},
        "padding before": {"attention_mask": (places >= tokens // 4).long()},
        "padding behind": {"attention_mask": (places < 3 * tokens // 4).long()},
        "holes": {"attention_mask": (places % 1000 > 3).long()},
    }.get(call, {})
    with torch.no_grad():
        kept = model(ids[:, : tokens // 4])[1] if call == "read on" else None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with torch.no_grad():
        model(ids if kept is None else ids[:, tokens // 4 :], past_key_values=kept, **asked)
    seconds = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    print(f"{call}, {tokens} tokens: {seconds:.1f} s, {grown:.2f} GB", flush=True)


def main():
    tokens = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
    for call in CALLS:
        subprocess.run([sys.executable, __file__, str(tokens), call], check=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        measure(sys.argv[2], int(sys.argv[1]))
    else:
        main()

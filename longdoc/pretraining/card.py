"""The page that lies beside pretrained weights: of what they are made, how good, what limits."""

from collections.abc import Mapping
from typing import Any

from longdoc.backbones.catalog import BackboneCard
from longdoc.documents.catalog import DATASETS, MADE_HERE
from longdoc.sources import lookup

CURVE_ROWS = 11


def render(backbone: BackboneCard, record: Mapping[str, Any]) -> str:
    """Write the card as Markdown.

    Args:
        backbone: What was trained.
        record: What ``pretraining.json`` holds.
    """
    parts = [
        _head(backbone, record),
        _texts(record),
        _measured(backbone, record),
        _curve(record),
        _limits(backbone, record),
    ]
    return "\n\n".join(parts) + "\n"


def _head(backbone: BackboneCard, record: Mapping[str, Any]) -> str:
    start = "random weights" if record["from_random_weights"] else "its weights"
    task = "the next token" if backbone.causal else "masked tokens"
    source = lookup(backbone.reference).short() if backbone.reference else backbone.name
    return (
        f"# {backbone.name}\n\n"
        f"{backbone.family} ({source}), started from {start} and trained to predict {task} by "
        f"`longdoc pretrain`.\n\n"
        f"- parameters: {record['parameters']:,} (language-model head included)\n"
        f"- training tokens: {record['tokens']:,} in {record['steps']:,} steps\n"
        f"- hours: {record['seconds'] / 3600:.2f} on {record['machine']}\n"
        f"- made by: `{record['command']}`, longdoc {record['longdoc']}"
        f"{', commit ' + record['commit'] if record['commit'] else ''}\n"
        f"- weights: {record['bytes']:,} bytes, {record['dtype']}, SHA-256 `{record['sha256']}`\n"
        f"- licence of the backbone: {record['licence']}; the texts have terms of their own"
    )


def _texts(record: Mapping[str, Any]) -> str:
    settings = record["settings"]["texts"]
    passes = settings["passes"] or [1.0] * len(settings["sources"])
    lines = [
        "## Texts",
        "",
        "| Source | Passes | Tokens | Documents, all splits "
        "| Left out: repeat a held-out document | Terms |",
        "|---|---|---|---|---|---|",
    ]
    for name, often in zip(settings["sources"], passes, strict=True):
        about = record["texts"][name]
        lines.append(
            f"| {name} | {often:g} | {record['tokens_by_source'][name]:,} "
            f"| {about.get('documents', 'streamed')} | {about.get('repeating_held_out', 0)} "
            f"| {DATASETS[name].licence if name in DATASETS else 'their owner says'} |"
        )
    lines += [
        "",
        "Training splits only: no validation or test document is among them. Digests of the texts "
        "stand in `pretraining.json`.",
    ]
    local = [n for n in settings["sources"] if n in MADE_HERE]
    if local:
        lines += [
            "",
            f"{', '.join(local)}: files of the machine it was trained on. Another installation has "
            "other files and splits them otherwise: some that it calls test may be among these.",
        ]
    return "\n".join(lines)


def _measured(backbone: BackboneCard, record: Mapping[str, Any]) -> str:
    orders = [f"{order}-gram" for found in record["measured"].values() for order in found["ngrams"]]
    columns = ["Documents", "Tokens", "This model", "Unigram", *dict.fromkeys(orders)]
    lines = [
        "## Perplexity on test documents",
        "",
        "| " + " | ".join([*columns, "Bits a byte"]) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, found in record["measured"].items():
        bits = f"{found['bits_per_byte']:.2f}" if backbone.causal else "-"
        numbers = (found["perplexity"], found["unigram"], *found["ngrams"].values())
        lines.append(
            f"| {name} ({found['documents']}) | {found['tokens']:,} | "
            + " | ".join("-" if number is None else f"{number:.1f}" for number in numbers)
            + f" | {bits} |"
        )
    lines.append("")
    if backbone.causal:
        lines.append(
            "Next token, saved weights, float32, pieces without what stands before them. The "
            "n-gram models (interpolated Kneser-Ney) and the unigram know "
            f"{record['counted_tokens']:,} tokens of the same training documents."
        )
    else:
        lines.append(
            "Hidden tokens (15 %), seen from both sides: not to be set beside next-token numbers, "
            "and beside the unigram and n-gram models, which see what stands before, only with "
            "that in mind. Saved weights, float32."
        )
    return "\n".join(lines)


def _curve(record: Mapping[str, Any]) -> str:
    points = [r for r in record["history"] if any(name.startswith("perplexity/") for name in r)]
    if not points:
        return "## On the way\n\nNothing was measured on the way."
    names = [name for name in points[-1] if name.startswith("perplexity/")]
    every = max(1, -(-(len(points) - 1) // (CURVE_ROWS - 1)))
    shown = [*points[:-1:every], points[-1]]
    lines = [
        "## On the way",
        "",
        "Perplexity on validation documents (all points: `pretraining.json`):",
        "",
        "| Step | " + " | ".join(name.removeprefix("perplexity/") for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    lines += [
        f"| {point['step']} | " + " | ".join(f"{point[name]:.1f}" for name in names) + " |"
        for point in shown
    ]
    return "\n".join(lines)


def _limits(backbone: BackboneCard, record: Mapping[str, Any]) -> str:
    usual = 2048 if backbone.causal else 512  # the records of the minis do not say it
    piece = record["settings"]["learning"]["piece_tokens"]
    read = f"pieces of {record.get('piece_tokens', piece or usual):,} tokens"
    return (
        "## Limits\n\n"
        f"It has read {read} and nothing longer. It knows the language of its sources and little "
        "else; what stands in them, outdated law and the views of their authors among it, is what "
        "it repeats. It is made to be adapted for classification, not to write text."
    )

"""``longdoc pretrain``."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from longdoc.backbones import checkpoints
from longdoc.cli import options as choices
from longdoc.cli.progress import shown
from longdoc.pretraining import run
from longdoc.pretraining.settings import PretrainingSettings


def _pretrain(
    config: Annotated[str | None, Parameter(help="YAML file with settings")] = None,
    *,
    output: Annotated[str, Parameter(help="Folder to write weights, tokenizer and card to")],
    options: dict[str, Any],
) -> None:
    """Train a backbone on raw text, from random weights or on from those it has.

    Next tokens for Mamba, GPT-Neo and Llama, masked tokens for BERT. The folder it makes is a
    backbone's name for every other command. A training that was interrupted goes on.

    Example: longdoc pretrain --texts.sources letters/ --output my-mamba
    """
    settings = choices.settings_from(config, options, PretrainingSettings)
    choices.prepare()
    command = "longdoc " + shlex.join(sys.argv[1:])
    with shown() as progress:
        folder = run.execute(settings, output, command=command, progress=progress)
    record = json.loads((folder / checkpoints.RECORD).read_text(encoding="utf-8"))
    if record["measured"]:
        print(f"{'test documents':24} {'perplexity':>10} {'unigram':>10} {'n-grams':>10}")
    else:
        print("perplexity was not measured: no text was held out for it")
    for name, found in record["measured"].items():
        numbers = (found["perplexity"], found["unigram"], *found["ngrams"].values())
        shown_ones = ("-" if number is None else f"{number:.1f}" for number in numbers)
        print(f"{name:24} " + " ".join(f"{number:>10}" for number in shown_ones))
    print(f"\nweights and card: {Path(folder)}")
    print(f"use them: longdoc train --backbone.name {folder}")


pretrain = choices.with_settings(_pretrain, PretrainingSettings)

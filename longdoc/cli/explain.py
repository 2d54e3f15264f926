"""``longdoc explain``."""

from typing import Annotated

from cyclopts import Parameter

from longdoc.backbones.catalog import BACKBONES
from longdoc.experiments import explain as explaining
from longdoc.imbalance.catalog import LOSSES, SAMPLERS, Card
from longdoc.sources import lookup


def explain(
    setting: Annotated[str | None, Parameter(help="A setting or a group; all without")] = None,
    *,
    markdown: Annotated[bool, Parameter(help="Print docs/defaults.md", negative=())] = False,
) -> None:
    """Explain settings: default, meaning, unit and source.

    Example: longdoc explain adapter.rank
    """
    found = explaining.find(setting)
    if markdown:
        print(explaining.markdown(found), end="")
        return
    print("\n\n".join("\n".join(explaining.lines(entry)) for entry in found))
    if setting and "backbone.name" in [entry.name for entry in found]:
        print("\n  catalogue")
        for card in BACKBONES.values():
            print(f"    {card.name:14} {card.summary}")
    named = {
        f"imbalance.{kind}": cards for kind, cards in (("loss", LOSSES), ("sampler", SAMPLERS))
    }
    for entry in found if setting else ():
        for strategy in named.get(entry.name, ()):
            print(_strategy(named[entry.name][strategy]))


def _strategy(card: Card) -> str:
    """Say what a loss or sampler is, where it comes from, and which settings it takes."""
    source = f" [{lookup(card.reference).short()}]" if card.reference else ""
    numbers = f" ({', '.join(card.settings)})" if card.settings else ""
    return f"    {card.name:14} {card.summary}{source}{numbers}"

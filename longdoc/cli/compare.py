"""``longdoc compare``."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from longdoc import api
from longdoc.cli import options as choices
from longdoc.cli.console import console
from longdoc.cli.progress import shown
from longdoc.experiments import compare as comparing
from longdoc.experiments import making
from longdoc.experiments import plan as plans
from longdoc.experiments.compare import Comparison
from longdoc.report.markdown import render
from longdoc.report.sections.answer import answer, learnt_from


def compare(
    plan: Annotated[str, Parameter(help="YAML file with systems and seeds")],
    *,
    output: Annotated[str, Parameter(help="Folder in which the plan gets a folder")] = "runs",
    processes: Annotated[
        int,
        Parameter(help="Runs at work at once; they share the processor", converter=choices.whole),
    ] = 1,
    markdown: Annotated[
        bool, Parameter(help="Print the comparison as Markdown", negative=())
    ] = False,
) -> None:
    """Train and compare every system of a plan, and write a report.

    What is finished is not trained again: an interrupted comparison goes on where it was. The same
    command in a second terminal, or on a second machine that shares the folder, helps with what
    is left. Where a system could not run, the others are compared, and the command ends with 1.

    Example: longdoc compare examples/demo.yaml
    """
    choices.prepare()
    read = plans.read(plan)
    for name, why in making.cannot_run(read).items():
        print(f"longdoc: {name} cannot be trained now: {why}", file=sys.stderr)
    with shown() as progress:
        comparison = comparing.execute(read, output, progress, processes=processes)
    page = api.write_report(comparison, Path(output) / read.about.name / "report.html")
    if markdown:
        print(render(comparison))
    else:
        print_comparison(comparison)
        print(f"report: {page}")
    if comparison.failures:
        # After all that can be said: a script must not take some of the systems for all.
        sys.exit(1)


def print_comparison(comparison: Comparison) -> None:
    """Print the table of a comparison, and the answer in words."""
    mode = comparison.mode
    table = Table(title=f"test split, {mode} thresholds (and 0.5)")
    table.add_column("system")
    names = ("micro-F1", "macro-F1", "micro at 0.5", "macro at 0.5", "trained", "minutes", "GB")
    for name in names:
        table.add_column(name, justify="right")
    for system in comparison.systems:
        cells = []
        for metric in ("micro-f1", "macro-f1"):
            spread = system.spread(metric, mode)
            shown_spread = "" if spread is None else f" ±{spread:.3f}"
            cells.append(f"{system.mean(metric, mode):.3f}{shown_spread}")
        cells += [f"{system.mean(metric, 'fixed'):.3f}" for metric in ("micro-f1", "macro-f1")]
        trained = system.cost("trainable_parameters") or 0
        cells += [
            f"{trained / 1e6:.2f} M",
            f"{(system.cost('train_seconds') or 0) / 60:.1f}",
            f"{(system.cost('peak_bytes') or 0) / 1e9:.1f}",
        ]
        table.add_row(system.name, *cells)
    console().print(table)
    for system in comparison.systems:
        notes = system.runs[0].environment["notes"]
        if "positions" in notes:
            print(f"{system.name}: positions {notes['positions']}")
    for name, reason in comparison.failures.items():
        print(f"not run: {name}: {reason}")
    print(answer(comparison))
    if different := learnt_from(comparison):
        print(different)

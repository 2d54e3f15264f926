"""``longdoc sweep``."""

import shlex
import sys
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from longdoc.cli import options as choices
from longdoc.cli.console import console
from longdoc.cli.progress import shown
from longdoc.errors import SettingsError
from longdoc.experiments import space
from longdoc.experiments import sweep as sweeping
from longdoc.report import sweeps


def _sweep(
    plan: Annotated[
        str | None, Parameter(help="YAML file, or the name of a ready sweep; lists those without")
    ] = None,
    *,
    output: Annotated[str, Parameter(help="Folder in which the sweep gets a folder")] = "runs",
    processes: Annotated[
        int,
        Parameter(help="Trials at work at once; they share the processor", converter=choices.whole),
    ] = 1,
    markdown: Annotated[bool, Parameter(help="Print the sweep as Markdown", negative=())] = False,
    options: dict[str, Any],
) -> None:
    """Try many settings, on a grid or with Optuna, and say which are best on validation.

    Settings given as options are laid over those that all trials share, so that a ready sweep runs
    on your documents. What is finished is not tried again; the same command in a second terminal,
    or on a second machine that shares the folder, helps with what is left.

    Example: longdoc sweep lora-rank --data.dataset my.jsonl
    """
    if plan is None and options:
        message = "options need a sweep to be laid over; `longdoc sweep` lists the ready ones"
        raise SettingsError(message)
    if plan is None:
        for name in space.ready():
            print(f"{name:24} {space.read(name).about.question}")
        return
    read = space.read(plan, choices.nested(options))
    choices.prepare()
    command = "longdoc " + shlex.join(sys.argv[1:])
    with shown() as progress:
        found = sweeping.execute(read, output, progress, processes=processes, command=command)
    if markdown:
        print(sweeps.render(found))
        return
    table = Table(title=f"{found.about.name}: chosen on validation")
    for number, name in enumerate(sweeps.headers(found)):
        table.add_column(name, justify="left" if number < len(read.axes) else "right")
    for entry in found.tried:
        table.add_row(*sweeps.row(found, entry))
    console().print(table)
    for name, reason in found.failures.items():
        print(f"failed: {name}: {reason}")
    print(sweeps.answer(found))
    if not found.complete:
        print(sweeps.state(found))


sweep = choices.with_settings(_sweep)

"""``longdoc train``."""

from typing import Annotated, Any

from cyclopts import Parameter

from longdoc.cli import options as choices
from longdoc.cli.evaluate import print_run
from longdoc.cli.progress import shown
from longdoc.experiments import run, store
from longdoc.experiments.settings import Settings
from longdoc.training import workplace


def _train(
    config: Annotated[str | None, Parameter(help="YAML file with settings")] = None,
    *,
    output: Annotated[str, Parameter(help="Folder for run folders")] = "runs",
    name: Annotated[
        str | None, Parameter(help="Name of the system; made from the settings")
    ] = None,
    options: dict[str, Any],
) -> None:
    """Train and evaluate one system.

    Settings come from their defaults, then the YAML file, then the options. A training that was
    interrupted goes on; one that is finished is shown.

    Example: longdoc train --data.dataset my.jsonl --backbone.name mamba-mini
    """
    settings = choices.settings_from(config, options, Settings)
    settings.check_used()
    choices.prepare()
    with shown() as progress:
        folder = run.execute(settings, output, name=name, progress=progress)
    if workplace.is_main_process() and store.is_complete(folder):
        print_run(store.load(folder), "test")
        print(f"\nrun folder: {folder}")


train = choices.with_settings(_train)

"""``longdoc report``."""

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from longdoc import api
from longdoc.cli.compare import print_comparison
from longdoc.errors import RunError
from longdoc.experiments import compare, store
from longdoc.report import page


def report(
    *runs: Annotated[str, Parameter(help="Run folders, on the same documents")],
    output: Annotated[str, Parameter(help="HTML file to write")] = "report.html",
) -> None:
    """Write a report of complete runs, without training anything.

    Example: longdoc report runs/A runs/B --output report.html
    """
    if not runs:
        message = "no run folder to report on; name one or more"
        raise RunError(message)
    page.check_name(Path(output))
    command = shlex.join(["longdoc", "report", *runs, "--output", output])
    comparison = compare.from_runs([store.load(run) for run in runs], command=command)
    written = api.write_report(comparison, output)
    print_comparison(comparison)
    print(f"report: {written}")

"""Versions, machine, and the command that makes the page again."""

from markupsafe import Markup

from longdoc.experiments.compare import Comparison
from longdoc.report import html

TITLE = "Provenance"
QUESTION = "What ran where, and how is this page made again?"


def render(comparison: Comparison) -> Markup:
    """Give the environment of the runs, their names, and the command."""
    runs = [run for system in comparison.systems for run in system.runs]
    first = runs[0].environment
    rows = [
        [name.replace("_", " "), str(value)]
        for name, value in first.items()
        if name not in ("packages", "notes")
    ]
    rows += [[name, str(version)] for name, version in first["packages"].items()]
    others = sorted({str(run.environment["commit"]) for run in runs})
    if len(others) > 1:
        rows.append(["commits of the runs", ", ".join(others)])
    body = html.code(comparison.command) if comparison.command else Markup("")
    body += html.table(["", "Machine and versions"], rows)
    names: list[list[html.Cell]] = [
        [run.folder.name, run.system, run.settings.training.seed] for run in runs
    ]
    return body + html.folded("Run folders", html.table(["Folder", "System", "Seed"], names))

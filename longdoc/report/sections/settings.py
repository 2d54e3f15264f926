"""Every setting with its source."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from longdoc.experiments import explain
from longdoc.experiments.compare import Comparison
from longdoc.experiments.settings import Settings
from longdoc.experiments.store import Run
from longdoc.report import html
from longdoc.settings import to_mapping, walk

TITLE = "Settings"
QUESTION = "What exactly was done, and who says it should be done so?"


def _given(run: Run, name: str) -> str:
    value: object = to_mapping(run.settings)
    for part in name.split("."):
        value = value[part]  # type: ignore[index]
    return "not set" if value is None else str(value)


LONG = ("label_documents", "logit_shift")
"""One number a label: too many for a page; they are in the run's environment.json."""


def _notes(notes: Mapping[str, Any]) -> str:
    """Say what settings came to, without what has a number a label."""
    parts = []
    for name, value in notes.items():
        short = value
        if isinstance(value, dict):
            short = ", ".join(f"{k} {v}" for k, v in value.items() if k not in LONG)
        parts.append(f"{name}: {short}")
    return "; ".join(parts)


def render(comparison: Comparison) -> Markup:
    """Give the settings in which systems differ, and all of them with their sources."""
    firsts = [system.runs[0] for system in comparison.systems]
    settings = list(walk(Settings))
    differing = [s for s in settings if len({_given(run, s.name) for run in firsts}) > 1]
    body = Markup("")
    if differing:
        body += html.table(
            ["Setting", *(system.name for system in comparison.systems)],
            [[s.name, *(_given(run, s.name) for run in firsts)] for s in differing],
        )
    best = firsts[0]
    rows = [
        [s.name, _given(best, s.name), explain.value(s), s.meaning, explain.source(s)]
        for s in settings
    ]
    headers = ["Setting", comparison.best().name, "Default", "Meaning", "Source of the default"]
    body += html.folded("All settings with their sources", html.table(headers, rows))
    notes = [
        [
            system.name,
            _notes(system.runs[0].environment["notes"]),
        ]
        for system in comparison.systems
        if system.runs[0].environment["notes"]
    ]
    return body + (
        html.table(["System", "What the settings came to"], notes) if notes else Markup("")
    )

"""A comparison to one self-contained HTML page."""

import os
from pathlib import Path

import jinja2

from longdoc.experiments.compare import Comparison
from longdoc.report.sections import SECTIONS


def render(comparison: Comparison) -> str:
    """Write the page as text; the same comparison gives the same text."""
    loader = jinja2.PackageLoader("longdoc", "report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    parts = []
    for section in SECTIONS:
        body = section.render(comparison)
        if body is None:
            continue
        name = section.TITLE.lower().replace(" ", "-")
        parts.append(
            {"id": name, "title": section.TITLE, "question": section.QUESTION, "body": body}
        )
    data = comparison.best().runs[0].data
    title = f"{data['dataset']}: {data['task']}"
    template = environment.get_template("page.html.jinja")
    return template.render(title=title, name=comparison.about.name, sections=parts)


def write(comparison: Comparison, file: Path) -> Path:
    """Write the page; it is whole or not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.write_text(render(comparison), encoding="utf-8")
    unfinished.replace(file)
    return file

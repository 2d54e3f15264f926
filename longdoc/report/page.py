"""A comparison to one self-contained HTML page."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from longdoc.errors import RunError
from longdoc.experiments.compare import Comparison
from longdoc.report.sections import SECTIONS


def render(comparison: Comparison) -> str:
    """Write the page as text; the same comparison gives the same text."""
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
    return compose(title, parts)


def compose(title: str, sections: Sequence[Mapping[str, str]]) -> str:
    """Put sections into the frame that every page has.

    Args:
        title: Of the page.
        sections: Each with ``id``, ``title``, ``question`` and ``body``, which is markup.
    """
    loader = jinja2.PackageLoader("longdoc", "report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html.jinja").render(title=title, sections=sections)


def write(comparison: Comparison, file: Path) -> Path:
    """Write the page; it is whole or not there."""
    return write_whole(render(comparison), file)


def write_whole(text: str, file: Path) -> Path:
    """Write a text file under a temporary name first, with its folder.

    Raises:
        RunError: The name is that of a folder, or none.
    """
    check_name(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    return file


def check_name(file: Path) -> None:
    """Refuse a name under which no file can be written, before anything is worked out.

    Raises:
        RunError: So it is.
    """
    if not file.name or file.is_dir():
        message = f"cannot write to {str(file)!r}, which is a folder; name a file"
        raise RunError(message)

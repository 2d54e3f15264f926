"""What was measured, as a table, as Markdown and as JSON."""

from collections.abc import Sequence
from typing import Any

from longdoc import environment
from longdoc.benchmark.suite import Measured

HEADINGS = ("what", "system", "pass", "tokens", "seconds", "ms / 1,000 tokens", "times faster",
            "share of limit", "pieces alone", "peak, GB", "note")  # fmt: skip


def row(measured: Measured) -> tuple[str, ...]:
    """Give one line of the table."""
    case = measured.case
    tokens = sum(case.tokens)
    share, alone = measured.share(), measured.share_alone()
    ratio = f"{measured.ratio:.1f} than {measured.against}" if measured.ratio else ""
    return (
        measured.title,
        case.system,
        f"{case.what} {case.precision()}",
        f"{tokens:,}",
        f"{measured.median():.2f}",
        f"{1e6 * measured.median() / tokens:.0f}",
        ratio,
        f"{share:.0%}" if share else "",
        f"{sum(measured.pieces.values()):.2f} s, {alone:.0%}" if alone else "",
        f"{measured.peak:.2f}" if measured.peak else "",
        measured.note,
    )


def table(found: Sequence[Measured]) -> str:
    """Give all lines in columns, for a terminal."""
    rows = [HEADINGS, *(row(one) for one in found)]
    widths = [max(len(line[column]) for line in rows) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in rows
    )


def markdown(found: Sequence[Measured]) -> str:
    """Give all lines as a Markdown table."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(row(one) for one in found)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def origin(command: str) -> str:
    """Say what made a page, and on what."""
    about: dict[str, Any] = environment.describe()
    packages = about["packages"]
    return (
        f"Made by `{command}` at commit `{about['commit']}` on {about['processor']}, "
        f"{about['threads']} threads; {about['selective_scan']}; torch {packages['torch']}, "
        f"transformers {packages['transformers']}."
    )

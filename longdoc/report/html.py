"""Pieces of a page. What is not markup is escaped: labels and names may hold anything."""

import re
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

Cell = str | int | float | Markup | None


def paragraph(text: str) -> Markup:
    """Give a paragraph.

    Example:
        >>> str(paragraph("a < b"))
        '<p>a &lt; b</p>'
    """
    return Markup("<p>{}</p>").format(text)


def bullets(lines: Iterable[str]) -> Markup:
    """Give a list."""
    return Markup("<ul>{}</ul>").format(
        Markup("").join(Markup("<li>{}</li>").format(line) for line in lines)
    )


def code(text: str) -> Markup:
    """Give a block of code."""
    return Markup("<pre><code>{}</code></pre>").format(text)


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Markup:
    """Give a table that scrolls sideways where it is too wide; numbers stand on the right.

    Raises:
        ValueError: There are no rows; a section must not be empty.
    """
    body = [_row(row) for row in rows]
    if not body:
        message = f"a table of {', '.join(headers)} has no rows"
        raise ValueError(message)
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in headers)
    return Markup(
        '<div class="wide" tabindex="0"><table><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(head, Markup("").join(body))


def _row(cells: Sequence[Cell]) -> Markup:
    parts = []
    for place, cell in enumerate(cells):
        text = Markup("&ndash;") if cell is None else escape(cell)
        kind = (
            "number" if isinstance(cell, int | float) or _looks_like_number(str(cell)) else "text"
        )
        tag = "th" if place == 0 else "td"
        scope = Markup(' scope="row"') if place == 0 else Markup("")
        parts.append(Markup('<{0}{1} class="{2}">{3}</{0}>').format(tag, scope, kind, text))
    return Markup("<tr>{}</tr>").format(Markup("").join(parts))


NUMBER = re.compile(r"[-+]?[\d.,]+%?( (±|–|to|M|min|GB)( .*)?)?|–")


def _looks_like_number(text: str) -> bool:
    return len(text) < 24 and NUMBER.fullmatch(text) is not None


def folded(title: str, inside: Markup) -> Markup:
    """Give something that opens on demand, and is open on paper."""
    return Markup("<details><summary>{}</summary>{}</details>").format(title, inside)


def image(data: str, words: str, caption: str) -> Markup:
    """Give a picture with what it shows in words.

    Args:
        data: A ``data:`` address.
        words: Read out instead of the picture.
        caption: Below it.
    """
    return Markup('<figure><img src="{}" alt="{}"><figcaption>{}</figcaption></figure>').format(
        data, words, caption
    )

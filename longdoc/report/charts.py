"""Data to pictures: vector graphics that need nothing from outside, on a screen or on paper."""

import base64
from typing import Any

import altair as alt
import vl_convert

WIDTH, HEIGHT = 560, 260
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart, darkest greys last."""


def rows(values: list[dict[str, Any]]) -> alt.Data:
    """Wrap plain records for a chart.

    Raises:
        ValueError: There are none; a chart must not be empty.
    """
    if not values:
        message = "a chart needs at least one point"
        raise ValueError(message)
    return alt.Data(values=values)


def colour(field: str, order: list[str]) -> alt.Color:
    """Give every system its colour, the same in all charts, with shape as a second sign."""
    scale = alt.Scale(domain=order, range=[COLOURS[i % len(COLOURS)] for i in range(len(order))])
    return alt.Color(f"{field}:N", scale=scale, sort=order, title=None)


def picture(chart: Any, width: int = WIDTH, height: int = HEIGHT) -> str:
    """Draw a chart as an SVG in a ``data:`` address.

    As an image it cannot run anything, and its names cannot clash with those of other pictures.
    """
    sized = chart.properties(width=width, height=height).configure(
        background="white", font="Helvetica, Arial, sans-serif"
    )
    sized = sized.configure_axis(labelFontSize=12, titleFontSize=12, labelLimit=240)
    sized = sized.configure_legend(orient="bottom", labelFontSize=12, columns=3, labelLimit=260)
    drawn = vl_convert.vegalite_to_svg(sized.to_json())
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode("ascii")

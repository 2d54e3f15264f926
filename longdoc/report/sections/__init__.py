"""One file a question that the report answers; each with TITLE, QUESTION and render."""

from longdoc.report.sections import (
    answer,
    cost,
    curves,
    data,
    distribution,
    frequency,
    length,
    per_label,
    provenance,
    scores,
    settings,
    significance,
)

SECTIONS = (
    answer,
    scores,
    significance,
    cost,
    distribution,
    length,
    frequency,
    per_label,
    curves,
    settings,
    data,
    provenance,
)
"""In the order of the page; a section that does not apply gives None and is left out."""

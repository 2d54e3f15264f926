"""An audit of documents as tables: on a terminal, as Markdown, and as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from longdoc.documents.audit import EXAMPLES, NEAR, Audit, Copies, Finding
from longdoc.documents.document import SPLITS
from longdoc.report import html, page, tables

Cell = str | int | float | None


@dataclass(frozen=True)
class Part:
    """One question, and the table that answers it."""

    title: str
    question: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def parts(audit: Audit) -> list[Part]:
    """Give every table of an audit; one that has no rows is left out."""
    made = [_documents(audit), _copies(audit), _leaks(audit), _damage(audit), _lengths(audit)]
    return [part for part in made if part.rows]


def summary(audit: Audit) -> str:
    """Say in a few sentences what matters most for a score."""
    copied = audit.near.repeated
    said = [
        f"{copied.get(split, 0)} of {audit.documents[split]} {split} documents have a copy or near "
        f"copy in training."
        for split in SPLITS[1:]
        if audit.documents[split]
    ] or [
        f"There is one split only. Training draws validation and test from it: {audit.near.copies} "
        f"documents are copies or near copies of another, and may then stand on both sides."
    ]
    if audit.exact.different_labels:
        said.append(f"{audit.exact.different_labels} texts stand with different labels.")
    for name, finding in audit.leaks.items():
        if finding.documents:
            said.append(f"Documents with a sentence of {name}: {_listed(finding.documents)}.")
    unlabelled = sum(audit.unlabelled.documents.values())
    said.append(f"{unlabelled} of {sum(audit.documents.values())} documents have no label.")
    return " ".join(said)


def _documents(audit: Audit) -> Part:
    rows: list[list[Cell]] = [["documents", *(audit.documents[split] for split in SPLITS)]]
    if audit.dates:
        spans = [" to ".join(audit.dates[s]) if s in audit.dates else None for s in SPLITS]
        rows.append(["dates", *spans])
    rows += [
        ["without a label", *_by_split(audit.unlabelled)],
        ["without text", *_by_split(audit.empty)],
        ["labels", audit.labels, None, None],
        ["labels of one document only", audit.single, None, None],
    ]
    if audit.unseen:
        rows.append(["labels of held-out documents that training lacks", audit.unseen, None, None])
    return Part("Documents", "What is there?", ["", *SPLITS], rows)


def _by_split(finding: Finding) -> list[Cell]:
    return [finding.documents.get(split, 0) for split in SPLITS]


def _copies(audit: Audit) -> Part:
    kinds = (audit.exact, audit.near)
    rows: list[list[Cell]] = [
        ["texts in several documents", *(k.groups for k in kinds)],
        ["documents beyond the first of each", *(k.copies for k in kinds)],
        ["of these in one split", *(_listed(k.within) for k in kinds)],
        ["texts in two splits", *(_listed(k.across) for k in kinds)],
        ["documents that training has too", *(_listed(k.repeated) for k in kinds)],
        ["texts with different labels", *(k.different_labels for k in kinds)],
        ["for example", *(_groups(k) for k in kinds)],
    ]
    headers = ["", "exact", f"exact or near ({NEAR:g} of five-word shingles)"]
    return Part("Copies", "Does a test document stand in training, too?", headers, rows)


def _groups(found: Copies) -> str | None:
    first = [" = ".join(group[:3]) for group in found.examples[:3]]
    return "; ".join(first) or None


def _listed(counts: Mapping[str, int]) -> str | None:
    return ", ".join(f"{name} {n}" for name, n in counts.items()) or None


def _leaks(audit: Audit) -> Part:
    rows = _findings({f"sentence: {name}": f for name, f in audit.leaks.items()})
    named = audit.named
    if named["own"] is not None:
        examples = ", ".join(
            f"{entry['name']} ({entry['named']} of {entry['borne']}; "
            f"{entry['named without']} others)"
            for entry in list(named["examples"].values())[:3]
        )
        others = "no others" if named["others"] is None else f"{named['others']:.1%} of all others"
        share = f"{named['own']:.1%} of a document's labels, {others}"
        rows.append([f"label names, {named['documents']} documents", share, None, None, examples])
    headers = ["leak", *SPLITS, "for example"]
    return Part("Leaks", "Does a text say what is to be predicted?", headers, rows)


def _damage(audit: Audit) -> Part:
    headers = ["damage", *SPLITS, "for example"]
    return Part("Damage", "Which texts have broken characters?", headers, _findings(audit.damage))


def _findings(findings: Mapping[str, Finding]) -> list[list[Cell]]:
    return [
        [name, *_by_split(finding), ", ".join(finding.examples[:3]) or None]
        for name, finding in findings.items()
    ]


def _lengths(audit: Audit) -> Part:
    rows: list[list[Cell]] = []
    for name in next(iter(audit.words.values()), ()):
        rows.append([name, *(audit.words.get(s, {}).get(name) for s in SPLITS), None])
    rows += _findings({f"far {name}er": f for name, f in audit.far_out.items()})
    headers = ["words", *SPLITS, "for example"]
    return Part("Lengths", "Which documents stand out?", headers, rows)


def markdown(audit: Audit, command: str, commit: str | None) -> str:
    """Write an audit as a section of a Markdown page.

    Args:
        audit: What was found.
        command: That made it.
        commit: Of the code, if it is known.
    """
    lines = [f"## {audit.name}, {audit.task}", "", summary(audit), ""]
    for part in parts(audit):
        lines += [f"### {part.title}: {part.question}", ""]
        lines.append("| " + " | ".join(part.headers) + " |")
        lines.append("|" + "---|" * len(part.headers))
        lines += [tables.row([_plain(cell) for cell in row]) for row in part.rows]
        lines.append("")
    at = f" at commit `{commit}`" if commit else ""
    return "\n".join([*lines, f"Made by `{command}`{at}.", ""])


def _plain(cell: Cell) -> str:
    return "–" if cell is None else str(cell)


def write(audit: Audit, file: Path, command: str) -> Path:
    """Write an audit as one self-contained page; it is whole or not there."""
    sections = [
        {
            "id": part.title.lower(),
            "title": part.title,
            "question": part.question,
            "body": html.table(part.headers, part.rows),
        }
        for part in parts(audit)
    ]
    about = Markup("{}{}").format(html.paragraph(summary(audit)), html.code(command))
    note = f"At most {EXAMPLES} examples of each finding stand in the JSON file."
    first = {"id": "answer", "title": "In short", "question": note, "body": about}
    return page.write_whole(page.compose(f"{audit.name}: {audit.task}", [first, *sections]), file)

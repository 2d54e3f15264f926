"""``longdoc datasets``."""

import contextlib
import csv
import dataclasses
import json
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter
from rich.table import Table

from longdoc.cli import progress
from longdoc.cli.console import console, printable
from longdoc.documents import catalog, statistics
from longdoc.documents.catalog import DATASETS, DataSettings
from longdoc.documents.document import SPLITS, Card, Corpus
from longdoc.documents.imbalance import Imbalance, measure
from longdoc.documents.leaks import Handling
from longdoc.errors import DataError
from longdoc.sources import lookup

app = cyclopts.App(name="datasets")
WIDEST = 24
"""Letters of a label in a line of a table, however narrow the terminal is."""
Name = Annotated[str, Parameter(help="A catalogue name, or the path of own documents")]


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Which:
    """Which documents of a data set, and where they stand."""

    task: Annotated[
        str | None, Parameter(help="One of the data set's tasks; the first without")
    ] = None
    path: Annotated[str | None, Parameter(help="Where its folder, archive or file lies")] = None
    text_field: Annotated[str | None, Parameter(help="Own documents: the text column")] = None
    label_fields: Annotated[
        tuple[str, ...] | None, Parameter(help="Own documents: the label columns", negative=())
    ] = None
    label_separator: Annotated[
        str | None, Parameter(help="Own documents: what parts labels in a field")
    ] = None
    id_field: Annotated[str | None, Parameter(help="Own documents: the column that names")] = None
    split_field: Annotated[str | None, Parameter(help="Own documents: the split column")] = None
    group_field: Annotated[
        str | None, Parameter(help="Own documents: the column of what belongs together")
    ] = None

    def load(self, name: str, leaks: Handling = "mask") -> Corpus:
        """Load the documents."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        corpus = catalog.load(DataSettings(dataset=name, leaks=leaks, **values))
        if corpus.notes.get("checksum_known") is False:
            where = printable(str(corpus.notes.get("path", name)))
            sys.stderr.write(f"{where}: not byte for byte the published files of {name}\n")
        return corpus


ALL = Which()


@app.default
def overview() -> None:
    """List the data sets.

    Example: longdoc datasets
    """
    table = Table()
    for column in ("name", "tasks", "what"):
        table.add_column(column)
    for card in DATASETS.values():
        table.add_row(card.name, ", ".join(card.tasks), card.summary)
    console().print(table)


@app.command
def show(name: Annotated[str, Parameter(help="A catalogue name")]) -> None:
    """Show a data set's card.

    Example: longdoc datasets show reuters-21578
    """
    with contextlib.suppress(OSError):  # a name that is too long for a file
        if name not in DATASETS and name and Path(name).exists():
            message = f"{name} has no card; datasets labels and lengths tell of own documents"
            raise DataError(message)
    card = DATASETS[name]
    reference = lookup(card.reference)
    print(f"{card.name}: {card.summary}\n")
    for task, text in card.tasks.items():
        print(f"  task {task}: {text}")
        if task in card.documents:
            print(f"    documents: {_sizes(card, task)}")
    print(f"\n  licence   {card.licence}\n  address   {card.address}")
    print(f"  cite      {reference.short()}, {reference.title} {reference.address}")
    if card.checksum:
        print(f"  checksum  SHA-256 {card.checksum} over the files, whatever they are packed in")
    if card.terms:
        print(f"  terms     {card.terms}")
    if card.downloads:
        print(f"  get       longdoc datasets get {card.name}")
    if card.single:
        print(f"  layout    a file named {' or '.join(card.layout)}")
    elif card.layout:
        print(f"  layout    a folder, zip or tar named {' or '.join(card.layout)}")


def _sizes(card: Card, task: str) -> str:
    return ", ".join(f"{split} {card.documents[task][split] or 'none'}" for split in SPLITS)


@app.command
def labels(
    name: Name,
    *,
    which: Which = ALL,
    format: Annotated[Literal["table", "csv", "json"], Parameter(help="How to print")] = "table",
) -> None:
    """Show how often each label occurs in each split, most frequent first, and how imbalanced.

    IRLbl: documents of the most frequent training label over those of this one; mean IR and CVIR:
    its mean, and its standard deviation over the mean; SCUMBLE, 0..1: how much rare and frequent
    labels share documents, so that repeating the rare repeats the frequent too.

    Example: longdoc datasets labels echr-acl2019 --task violated-articles
    """
    corpus = which.load(name)
    measured = measure(corpus.truth(corpus.splits["train"]))
    if format == "json":
        values: Any = statistics.label_distribution(corpus)
        values["splits"]["train"]["imbalance"] = _measures(corpus, measured)
        print(json.dumps(values, ensure_ascii=False, indent=1))
    elif format == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(["split", "label", "documents", "share", "irlbl", "scumble"])
        both = zip(measured.ratios.tolist(), measured.label_scumble.tolist(), strict=True)
        measures = dict(zip(corpus.labels, both, strict=True))
        for row in statistics.label_counts(corpus):
            values = measures.get(row.label, ()) if row.split == "train" else ()
            cells = ["" if math.isnan(value) else f"{value:.6f}" for value in values] or ["", ""]
            writer.writerow([row.split, row.label, row.documents, f"{row.share:.6f}", *cells])
    else:
        _label_table(corpus, measured)


def _measures(corpus: Corpus, measured: Imbalance) -> dict[str, object]:
    """Give the imbalance of training labels as plain values, None for what there is not."""
    both = zip(measured.ratios.tolist(), measured.label_scumble.tolist(), strict=True)
    return {
        "mean_ir": measured.mean_ratio,
        "cvir": measured.variation,
        "scumble": measured.scumble,
        "labels": {
            label: {"ir": None if math.isnan(ir) else ir, "scumble": None if math.isnan(s) else s}
            for label, (ir, s) in zip(corpus.labels, both, strict=True)
        },
    }


def _label_table(corpus: Corpus, measured: Imbalance) -> None:
    ratios = dict(zip(corpus.labels, measured.ratios, strict=True))
    counted: dict[str, dict[str, statistics.LabelCount]] = {}
    for row in statistics.label_counts(corpus):
        counted.setdefault(row.label, {})[row.split] = row
    table = _columns_of_labels(corpus, list(counted))
    for label, rows in counted.items():
        cells = [printable(corpus.label_names.get(label, ""))] if corpus.label_names else []
        for split in SPLITS:
            found = rows.get(split)
            cells += [str(found.documents), f"{found.share:.2%}"] if found else ["–", "–"]
            if split == "train":
                ratio = ratios.get(label, math.nan)
                cells.append("–" if math.isnan(ratio) else f"{ratio:.1f}")
        table.add_row(printable(label), *cells)
    table.add_section()
    means = [""] if corpus.label_names else []
    for split in SPLITS:
        mean = f"{statistics.labels_per_document(corpus, split):.2f}"
        means += [mean, "", ""] if split == "train" else [mean, ""]
    table.add_row("labels a document", *means)
    console().print(table)
    print(
        f"training labels: mean IR {measured.mean_ratio:.2f}, CVIR {measured.variation:.2f}, "
        f"SCUMBLE {measured.scumble:.4f}"
    )


def _columns_of_labels(corpus: Corpus, labels: Sequence[str]) -> Table:
    """Give a table with nothing but its head."""
    table = Table(title=f"{corpus.name}, {corpus.task} ({corpus.kind})")
    longest = max((len(printable(label)) for label in labels), default=0)
    table.add_column("label", overflow="fold", min_width=min(WIDEST, longest))
    if corpus.label_names:
        table.add_column("name")
    for split in SPLITS:
        table.add_column(f"{split} ({len(corpus.splits[split])})", justify="right")
        table.add_column("share", justify="right")
        if split == "train":
            # Not the last: what a narrow terminal has no room for is cut off there.
            table.add_column("IRLbl", justify="right")
    return table


@app.command
def lengths(
    name: Name,
    *,
    which: Which = ALL,
    tokenizer: Annotated[
        str, Parameter(help="A backbone's name, a local folder or hub name, or words")
    ] = "words",
    format: Annotated[Literal["table", "json"], Parameter(help="How to print")] = "table",
) -> None:
    """Show how long documents are, and how much of them fits into which window.

    `words` counts what stands between blanks.

    Example: longdoc datasets lengths echr-acl2019 --tokenizer mamba-mini
    """
    from longdoc.backbones import counting  # models load slowly; the other verbs do without

    corpus = which.load(name)
    counter = counting.counter(tokenizer)
    found = {
        split: statistics.lengths(statistics.count_tokens((d.text for d in part), counter))
        for split, part in corpus.splits.items()
        if part
    }
    if format == "json":
        print(json.dumps({split: _plain(value) for split, value in found.items()}, indent=1))
        return
    for split, value in found.items():
        _length_table(split, value, tokenizer)


@app.command
def get(
    name: Annotated[str, Parameter(help="A catalogue name")],
    *,
    from_: Annotated[
        Path | None, Parameter(name="--from", help="A folder or archive that you have")
    ] = None,
    address: Annotated[
        str | None, Parameter(help="A mirror's address instead of the card's")
    ] = None,
) -> None:
    """Download a published data set, or take your copy of it; check it, and keep it in the cache.

    A download that broke off goes on where it was. LONGDOC_CACHE says where the cache is.

    Example: longdoc datasets get reuters-21578
    """
    from longdoc.documents import obtain  # the network is opened nowhere else

    card = DATASETS[name]
    if card.terms:
        sys.stderr.write(f"terms of {name}: {card.terms}\n")
    with progress.shown() as tell:
        found = obtain.get(name, file=from_, address=address, progress=tell)
    state = {
        True: "the published files",
        False: "whole, but not byte for byte the published files",
        None: "whole; no checksum of the files is known",
    }[found.known]
    print(f"{name} {'is' if not found.already else 'was already'} in {found.path}: {state}")
    if found.already and (from_ or address):
        given = f"--from {from_}" if from_ else f"--address {address}"
        print(f"{given} was not looked at; delete {found.path} first")


@app.command
def audit(
    name: Name,
    *,
    which: Which = ALL,
    output: Annotated[
        Path | None, Parameter(help="Folder for audit.json and the page audit.html")
    ] = None,
    format: Annotated[
        Literal["table", "markdown", "json"], Parameter(help="How to print")
    ] = "table",
) -> None:
    """Look for copies, label leaks, damaged characters and lengths that stand out.

    Example: longdoc datasets audit echr-acl2019 --task violated-articles --output audit/
    """
    from longdoc.documents import audit as auditing  # both bring numbers and pages with them
    from longdoc.report import audits, page

    if output is not None and output.exists() and not output.is_dir():
        message = f"--output {output} is a file; a folder is needed"
        raise DataError(message)
    with progress.shown() as tell:
        tell(0.0, "reading documents")
        corpus = which.load(name, "keep")
        found = auditing.audit(corpus, tell)
    command = shlex.join(["longdoc", *sys.argv[1:]])
    values = json.dumps(dataclasses.asdict(found), ensure_ascii=False, indent=1)
    if output is not None:
        audits.write(found, output / "audit.html", command)
        page.write_whole(values + "\n", output / "audit.json")
        sys.stderr.write(f"wrote {output / 'audit.html'} and {output / 'audit.json'}\n")
    if format == "json":
        print(values)
    elif format == "markdown":
        from longdoc.environment import commit

        print(audits.markdown(found, command, commit()))
    else:
        _audit_tables(audits.summary(found), audits.parts(found))


def _audit_tables(summary: str, parts: Sequence[Any]) -> None:
    for part in parts:
        table = Table(title=f"{part.title}: {part.question}", title_justify="left")
        for header in part.headers:
            table.add_column(header, justify="left")
        for row in part.rows:
            table.add_row(*("–" if cell is None else printable(str(cell)) for cell in row))
        console().print(table)
    print(summary)


def _plain(value: statistics.Lengths) -> dict[str, object]:
    fitting = {str(w): {"documents": d, "tokens": t} for w, (d, t) in value.fitting.items()}
    quantiles = {f"{q:g}": tokens for q, tokens in value.quantiles.items()}
    return {
        "documents": value.documents, "tokens": value.tokens,
        "quantiles": quantiles, "fitting": fitting,
    }  # fmt: skip


def _length_table(split: str, value: statistics.Lengths, tokenizer: str) -> None:
    table = Table(
        title=f"{split}: {value.documents} documents, {value.tokens} tokens ({tokenizer})"
    )
    for column in ("quantile", "tokens", "window", "documents that fit", "tokens that fit"):
        table.add_column(column, justify="right")
    windows = [(f"{w}", f"{d:.1%}", f"{t:.1%}") for w, (d, t) in value.fitting.items()]
    rows = [(f"{q:.0%}", f"{tokens}") for q, tokens in value.quantiles.items()]
    for place, row in enumerate(rows):
        table.add_row(*row, *(windows[place] if place < len(windows) else ("", "", "")))
    console().print(table)

"""``longdoc predict``."""

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from longdoc import api
from longdoc.cli import options as choices
from longdoc.documents import files
from longdoc.documents.document import Document
from longdoc.documents.files import Fields
from longdoc.errors import DataError
from longdoc.experiments import store
from longdoc.settings import require


def predict(
    run: Annotated[str, Parameter(help="Run folder")],
    *inputs: Annotated[
        str,
        Parameter(
            help="JSON Lines, CSV, Parquet or text files; - reads one text",
            allow_leading_hyphen=True,
        ),
    ],
    text_field: Annotated[
        str | None, Parameter(help="Name of the text column; as in training")
    ] = None,
    top: Annotated[
        int | None,
        Parameter(help="Print only so many labels a document", converter=choices.whole_or_none),
    ] = None,
) -> None:
    """Classify documents with a trained run.

    Prints one JSON object a document: its id, and for each label score and decision, highest
    score first.

    Example: longdoc predict runs/RUN letters.jsonl
    """
    choices.prepare()
    require(top is None or top >= 1, "--top", "1 or more", top)
    opened = store.load(run)
    if not inputs:
        message = "no file to classify; name one or more, or - for standard input"
        raise DataError(message)
    for name in inputs:
        if name != "-" and Path(name).is_file():
            files.check_text(Path(name))  # before a model is loaded, and others are classified
    data = opened.settings.data
    fields = Fields(text=text_field or data.text_field, id=data.id_field)
    for prediction in api.predict(opened, _documents(inputs, fields)):
        given = set(prediction.labels)
        labels = [
            {"label": label, "score": round(score, 6), "decision": label in given}
            for label, score in prediction.scores.items()
        ]
        print(json.dumps({"id": prediction.id, "labels": labels[:top]}, ensure_ascii=False))


def _documents(inputs: tuple[str, ...], fields: Fields) -> Iterator[Document]:
    for name in inputs:
        if name.startswith("-") and name != "-" and not Path(name).exists():
            message = f"there is no option or file {name}"
            raise DataError(message)
    times = Counter(Path(name).name for name in inputs)
    for name in inputs:
        if name == "-":
            text = files.lines(sys.stdin.read())
            if not text:
                message = "standard input holds no text"
                raise DataError(message)
            yield Document("-", text, ())
            continue
        if not Path(name).exists() or Path(name).is_dir():
            message = f"there is no file {name}"
            if Path(name).is_dir():
                message = f"{name} is a folder; name its files, such as {Path(name) / '*.txt'}"
            raise DataError(message)
        file = Path(name)
        for document in files.read_texts(file, fields):
            # Named after its file, and another input's file has that name too.
            unclear = times[file.name] > 1 and document.id.startswith(file.name)
            place = str(file.parent / document.id) if unclear else document.id
            yield dataclasses.replace(document, id=place)

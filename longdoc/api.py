"""The public interface: what ``import longdoc`` offers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from longdoc.backbones import MambaForSequenceClassification as MambaForSequenceClassification
from longdoc.baselines import majority, tfidf_svm
from longdoc.documents import catalog
from longdoc.documents.document import Corpus, Document
from longdoc.documents.tables import readable
from longdoc.errors import RunError
from longdoc.experiments import compare as comparing
from longdoc.experiments import ensemble, model, plan, run, space, store
from longdoc.experiments import sweep as sweeping
from longdoc.experiments.compare import Comparison as Comparison
from longdoc.experiments.settings import Settings as Settings
from longdoc.experiments.store import Run as Run
from longdoc.experiments.sweep import Sweep as Sweep
from longdoc.imbalance.answer import recorded_shift
from longdoc.predictions import decide
from longdoc.pretraining import run as pretraining
from longdoc.pretraining.settings import PretrainingSettings
from longdoc.progress import Progress, silent
from longdoc.report import page
from longdoc.settings import build, short
from longdoc.tokens.encoding import encode
from longdoc.training.predict import Reader
from longdoc.training.settings import uses_bfloat16

DOCUMENTS_A_CALL = 256


@dataclass(frozen=True)
class Prediction:
    """What a system says of one document.

    Attributes:
        id: The document's.
        scores: Label to score, 0..1, highest first.
        labels: The labels that the run's thresholds give, highest score first.

    Example:
        >>> Prediction("letter-7", {"noise": 0.9, "repair": 0.2}, ("noise",)).labels
        ('noise',)
    """

    id: str
    scores: dict[str, float]
    labels: tuple[str, ...]


def load_dataset(name: str, task: str | None = None, **settings: Any) -> Corpus:
    """Load a data set as its makers split it, or own documents.

    Args:
        name: A catalogue name, or the path of a file or folder.
        task: One of the data set's; the first without.
        **settings: Further fields of the ``data`` settings.

    Raises:
        LongdocError: The data is missing or damaged, or a name is unknown.

    Example:
        >>> corpus = load_dataset("examples/letters.jsonl")
        >>> corpus.kind, len(corpus.splits["train"])
        ('multi-label', 60)
    """
    values = {"dataset": str(name), "task": task, **settings}
    return catalog.load(build(catalog.DataSettings, values))


def train(
    settings: Settings | Mapping[str, Any],
    output: str | Path = "runs",
    *,
    name: str | None = None,
    progress: Progress = silent,
) -> Run:
    """Train one system and evaluate it; an interrupted one goes on, a finished one is read.

    Args:
        settings: A record, or nested values as in YAML.
        output: Folder for run folders.
        name: Of the system; made from the settings without.
        progress: Told the share that is done and what is going on.

    Raises:
        LongdocError: Settings or data are not as they must be, or a part is missing.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> data = {"dataset": "examples/letters.jsonl"}
        >>> run = train({"data": data, "baseline": {"name": "tfidf-svm"}}, folder)
        >>> 0 <= run.metrics["splits"]["test"]["global"]["micro-f1"] <= 1
        True
    """
    record = settings if isinstance(settings, Settings) else build(Settings, settings)
    record.check_used()
    return store.load(run.execute(record, output, name=name, progress=progress))


def pretrain(
    settings: PretrainingSettings | Mapping[str, Any],
    output: str | Path,
    *,
    progress: Progress = silent,
) -> Path:
    """Train a backbone on raw text; an interrupted one goes on, a finished one is handed back.

    Args:
        settings: A record, or nested values as in YAML.
        output: The folder that is made: weights, configuration and tokenizer as transformers saves
            them, a card and ``pretraining.json``. As ``backbone.name`` it is a backbone.
        progress: Told the share that is done and what is going on.

    Raises:
        LongdocError: Settings or texts are not as they must be, or the folder holds another
            pretraining.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp() + "/mine"
        >>> values = {"backbone": {"name": "mamba-mini", "pretrained": False},
        ...           "texts": {"sources": ["examples/letters.jsonl"], "vocabulary": 300},
        ...           "learning": {"piece_tokens": 64, "step_tokens": 512}}
        >>> sorted(file.suffix for file in pretrain(values, folder).glob("[mp]*"))
        ['.json', '.safetensors']
    """
    if not isinstance(settings, PretrainingSettings):
        settings = build(PretrainingSettings, settings)
    return pretraining.execute(settings, output, command="longdoc.pretrain", progress=progress)


def load_run(folder: str | Path) -> Run:
    """Read a complete run folder.

    Raises:
        RunError: It is none; the message says what is missing.

    Example:
        >>> load_run("no-such-folder")
        Traceback (most recent call last):
        ...
        longdoc.errors.RunError: there is no run folder no-such-folder
    """
    return store.load(folder)


def load_model(run_folder: Run | str | Path) -> tuple[Any, Any]:
    """Load a run's trained model and its tokenizer, for a program of your own.

    Unlike transformers' Auto classes it gives every run's model, also a BERT that is read by the
    mean of its tokens and one with adapters on Mamba's projections.

    Args:
        run_folder: A run or its folder.

    Returns:
        The model, in evaluation mode, and the tokenizer, which frames texts as training did and,
        with ``truncation=True``, cuts them; of longer texts it keeps the head.

    Raises:
        RunError: The folder is no complete run, or a run without a backbone of its own.
    """
    opened = run_folder if isinstance(run_folder, Run) else store.load(run_folder)
    loaded, tokenizer, _ = model.load_model(opened)
    return loaded, tokenizer


def predict(
    run_folder: Run | str | Path, texts: Iterable[str | Document], progress: Progress = silent
) -> Iterator[Prediction]:
    """Classify documents with a trained run, some hundred at a time.

    Args:
        run_folder: A run or its folder.
        texts: Texts, or documents with an identifier.
        progress: Told how far each part is.

    Yields:
        One prediction a document, in order.

    Raises:
        RunError: The folder is no complete run, a single text was given, or what is no text.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> data = {"dataset": "examples/letters.jsonl"}
        >>> run = train({"data": data, "baseline": {"name": "tfidf-svm"}}, folder)
        >>> [prediction.id for prediction in predict(run, ["I want my money back"])]
        ['0']
    """
    if isinstance(texts, str):
        message = "texts must be a list of texts; got one text"
        raise RunError(message)
    opened = run_folder if isinstance(run_folder, Run) else store.load(run_folder)
    scorer = _Scorer(opened)
    waiting: list[Document] = []
    for number, text in enumerate(texts):
        if not isinstance(text, str | Document):
            message = f"text {number} must be text; got {short(text)}"
            raise RunError(message)
        plain = Document(str(number), (text,), ()) if isinstance(text, str) else text
        waiting.append(replace(plain, paragraphs=tuple(map(readable, plain.paragraphs))))
        if len(waiting) == DOCUMENTS_A_CALL:
            yield from scorer(waiting, progress)
            waiting = []
    if waiting:
        yield from scorer(waiting, progress)


class _Scorer:
    """A run's model, loaded once."""

    def __init__(self, opened: Run) -> None:
        self.run = opened
        self.kind, self.labels = opened.data["kind"], opened.data["labels"]
        mode = opened.settings.thresholds.mode
        self.cuts = np.array(opened.metrics["thresholds"][mode])
        self.baseline: str = opened.settings.baseline.name
        self.members: list[tuple[_Scorer, float]] = []
        if opened.settings.ensemble.members or opened.settings.is_cross_fitted():
            self.baseline = "ensemble"
            for member in ensemble.load(opened.folder):
                self.members.append((_Scorer(store.load(member.folder)), member.weight))
        self.shift = recorded_shift(opened.environment["notes"])
        if self.baseline == "tfidf-svm":
            self.machine = tfidf_svm.load(opened.folder / "model")
        elif self.baseline == "none":
            self.model, self.tokenizer, self.causal = model.load_model(opened)

    def scores(self, documents: Sequence[Document], progress: Progress) -> Any:
        """Score documents, shape (documents, labels)."""
        if self.members:
            scored = [member.scores(documents, progress) for member, _ in self.members]
            return ensemble.combine(scored, [weight for _, weight in self.members], self.kind)
        if self.baseline == "majority":
            return majority.scores(np.array(self.run.data["training_counts"]), len(documents))
        if self.baseline == "tfidf-svm":
            return self.machine.scores([document.text for document in documents], self.kind)
        settings = self.run.settings
        encoded = encode(documents, self.tokenizer, settings.tokens, causal=self.causal)
        reader = Reader(
            self.model,
            self.tokenizer.pad_token_id,
            settings.training.batch_size,
            uses_bfloat16(settings.training.precision),
        )
        return reader.scores(encoded, self.kind, self.shift, progress)

    def __call__(self, documents: Sequence[Document], progress: Progress) -> Iterator[Prediction]:
        scores = self.scores(documents, progress)
        decided = decide(scores, self.kind, self.cuts)
        for document, row, given in zip(documents, scores, decided, strict=True):
            order = np.argsort(-row, kind="stable")
            yield Prediction(
                document.id,
                {self.labels[label]: float(row[label]) for label in order},
                tuple(self.labels[label] for label in order if given[label]),
            )


def compare(
    plan_file: str | Path | Mapping[str, Any],
    output: str | Path = "runs",
    progress: Progress = silent,
    *,
    processes: int = 1,
) -> Comparison:
    """Train and compare every system of a plan; what is there already is not trained again.

    Args:
        plan_file: A YAML file, or its content as nested values.
        output: Folder in which the plan gets a folder with runs and ``comparison.json``.
        progress: Told how far the whole plan is.
        processes: How many runs to have at work at once.

    Raises:
        LongdocError: The plan is not as it must be, or not one run succeeded.

    Example:
        >>> import tempfile
        >>> plan = {"name": "letters", "seeds": [0], "baselines": False, "resamples": 100,
        ...         "settings": {"data": {"dataset": "examples/letters.jsonl"}},
        ...         "systems": [{"name": "svm", "baseline": {"name": "tfidf-svm"}},
        ...                     {"name": "majority", "baseline": {"name": "majority"}}]}
        >>> compare(plan, tempfile.mkdtemp()).best().name
        'svm'
    """
    made = plan.make(plan_file) if isinstance(plan_file, Mapping) else plan.read(plan_file)
    return comparing.execute(made, output, progress, processes=processes)


def sweep(
    plan_file: str | Path | Mapping[str, Any],
    output: str | Path = "runs",
    progress: Progress = silent,
    *,
    processes: int = 1,
) -> Sweep:
    """Try many settings, and order them by a validation metric; what is there is not tried again.

    Args:
        plan_file: A YAML file, its content as nested values, or the name of a ready sweep.
        output: Folder in which the sweep gets a folder with journal, runs and the answer as JSON.
        progress: Told how far the whole sweep is.
        processes: How many trials to have at work at once.

    Raises:
        LongdocError: The sweep is not as it must be, or not one trial succeeded.

    Example:
        >>> import tempfile
        >>> plan = {"name": "letters", "seeds": [0], "space": {"baseline.c": [0.1, 1]},
        ...         "settings": {"data": {"dataset": "examples/letters.jsonl"},
        ...                      "baseline": {"name": "tfidf-svm"}}}
        >>> sorted(t.system.name for t in sweep(plan, tempfile.mkdtemp()).tried)
        ['c 0.1', 'c 1']
    """
    made = space.make(plan_file) if isinstance(plan_file, Mapping) else space.read(str(plan_file))
    return sweeping.execute(made, output, progress, processes=processes)


def write_report(comparison: Comparison | Sequence[str | Path | Run], file: str | Path) -> Path:
    """Write a comparison as one self-contained HTML page.

    Args:
        comparison: A comparison, or runs to compare, or their folders.
        file: Where to write it.

    Raises:
        RunError: A folder is no complete run, or runs were made on different documents.

    Example:
        >>> write_report([], "report.html")
        Traceback (most recent call last):
        ...
        longdoc.errors.RunError: there is no complete run to compare
    """
    if isinstance(comparison, str | Path):
        comparison = [comparison]
    if not isinstance(comparison, Comparison):
        runs = [part if isinstance(part, Run) else store.load(part) for part in comparison]
        comparison = comparing.from_runs(runs)
    return page.write(comparison, Path(file))

"""One system, one seed, from documents to a complete run folder."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from longdoc import environment, predictions
from longdoc.backbones import build as backbones
from longdoc.backbones.catalog import BackboneCard
from longdoc.baselines import majority, tfidf_svm
from longdoc.documents import catalog
from longdoc.documents.archives import cache_folder
from longdoc.documents.document import Corpus
from longdoc.documents.splits import group_numbers
from longdoc.errors import RunError
from longdoc.experiments import cross_fitting, ensemble_run, evaluate, store
from longdoc.experiments import job as jobs
from longdoc.experiments import model as models
from longdoc.experiments.job import Job
from longdoc.experiments.settings import Settings
from longdoc.experiments.store import HELD_OUT, Outcome
from longdoc.imbalance import catalog as imbalance
from longdoc.kernels.allocator import keep_freed_memory
from longdoc.metrics import cost
from longdoc.predictions import Predictions
from longdoc.progress import Progress, silent
from longdoc.tokens import tokenizers
from longdoc.tokens.corpus import encode_corpus
from longdoc.tokens.encoding import add_special_tokens, save_tokenizer
from longdoc.training import settings as training
from longdoc.training import workplace

CORPUS_DIGITS = 8
"""How much of the documents' digest ends a run folder's name."""


def run_name(settings: Settings, corpus: Corpus, name: str | None = None) -> str:
    """Name a run for people, and for itself: other settings or documents, another name."""
    safe = store.safe_name(name or settings.system())
    return (
        f"{safe}-seed{settings.training.seed}-{settings.digest()}{corpus.digest()[:CORPUS_DIGITS]}"
    )


def execute(
    settings: Settings,
    root: str | Path = "runs",
    *,
    name: str | None = None,
    corpus: Corpus | None = None,
    progress: Progress = silent,
) -> Path:
    """Train, predict, evaluate, and leave a complete run folder.

    A run that is already there is not made again; one that was interrupted goes on.

    Args:
        settings: Everything.
        root: Folder for run folders.
        name: Name of the system; made from the settings without.
        corpus: The documents, if they are already loaded.
        progress: Told how far it is.

    Returns:
        The run folder.

    Raises:
        LongdocError: Data, settings, or a part that is missing; the message says which.
    """
    training.check(settings.training)
    keep_freed_memory()
    if corpus is None:
        progress(0.0, "reading documents")
        corpus = catalog.prepare(settings.data)
    label = run_name(settings, corpus, name)
    final, partial = Path(root) / label, store.partial_folder(Path(root), label)
    if store.is_complete(final):
        store.check_settings(final, settings)
        models.check_checkpoint(final, settings)
        return final
    imbalance.check(settings.imbalance)
    if final.exists():
        message = f"{final} is there, but is no complete run; move it away"
        raise RunError(message)
    if settings.has_no_backbone() and not workplace.is_main_process():
        return final
    partial.mkdir(parents=True, exist_ok=True)
    with store.alone_in(partial) if workplace.is_main_process() else contextlib.nullcontext():
        if workplace.is_main_process():
            store.keep_settings(partial, settings, name or settings.system())
        if not store.holds_everything(partial):
            with store.gone_if_not_begun(partial):
                outcome = _system(settings)(settings, corpus, partial, progress)
            if workplace.is_main_process():
                _write(settings, corpus, partial, outcome)
        if workplace.is_main_process():
            _finish(partial, final)
    return final


def check(settings: Settings) -> None:
    """Refuse what is known to be wrong before documents are read.

    Raises:
        LongdocError: What it is.
    """
    training.check(settings.training)
    imbalance.check(settings.imbalance)
    catalog.check_here(settings.data)
    if not settings.has_no_backbone():
        backbones.check_name(settings.backbone)


def _system(settings: Settings) -> Callable[[Settings, Corpus, Path, Progress], Outcome]:
    if settings.ensemble.members:
        return _ensemble
    if settings.is_cross_fitted():
        return _cross_fitted
    return _baseline if settings.baseline.name != "none" else _backbone


def _ensemble(settings: Settings, corpus: Corpus, folder: Path, progress: Progress) -> Outcome:
    progress(0.0, "combining")
    return ensemble_run.execute(settings, corpus, folder, progress)


def _cross_fitted(settings: Settings, corpus: Corpus, folder: Path, progress: Progress) -> Outcome:
    def make(own: Settings, root: Path, name: str, part: Corpus, tell: Progress) -> Path:
        return execute(own, root, name=name, corpus=part, progress=tell)

    return cross_fitting.execute(settings, corpus, folder, make, progress)


def _finish(partial: Path, final: Path) -> None:
    """Give a run that has everything its name; what only resuming needs goes first."""
    shutil.rmtree(partial / "checkpoints", ignore_errors=True)
    for name in (workplace.ELAPSED, "trained.json", store.LOCK):
        (partial / name).unlink(missing_ok=True)
    store.settle(partial)
    partial.rename(final)


def _write(settings: Settings, corpus: Corpus, folder: Path, outcome: Outcome) -> None:
    data = corpus.describe()
    measured = evaluate.evaluate(
        outcome.parts,
        corpus.training_counts().tolist(),
        len(corpus.splits["train"]),
        settings.thresholds,
    )
    predictions.save(list(outcome.parts.values()), folder / "predictions.parquet")
    store.save_history(folder / "history.jsonl", outcome.history)
    about = environment.describe(settings.training.precision)
    store.write_json(folder / "environment.json", {**about, "notes": outcome.notes})
    store.write_json(folder / "data.json", data)
    store.write_json(folder / "metrics.json", measured)
    store.write_json(folder / "timings.json", outcome.timings)


def _predictions(
    corpus: Corpus,
    split: str,
    scores: NDArray[np.float32],
    tokens: list[int] | None = None,
    seen: list[int] | None = None,
) -> Predictions:
    documents = corpus.splits[split]
    nothing = [0] * len(documents)
    return Predictions(
        split=split,
        kind=corpus.kind,
        labels=corpus.labels,
        ids=tuple(document.id for document in documents),
        truth=corpus.truth(documents),
        scores=scores,
        tokens=np.array(tokens or nothing, dtype=np.int64),
        seen=np.array(seen or nothing, dtype=np.int64),
        groups=group_numbers(documents),
    )


def _baseline(settings: Settings, corpus: Corpus, folder: Path, progress: Progress) -> Outcome:
    texts = {split: [d.text for d in corpus.splits[split]] for split in ("train", *HELD_OUT)}
    counts = corpus.training_counts()
    found: dict[str, NDArray[np.float32]] = {}
    parameters = 0
    with cost.measured() as fitting:
        if settings.baseline.name == "tfidf-svm":
            truth = corpus.truth(corpus.splits["train"])
            seed = settings.training.seed
            names = [corpus.in_words(label) for label in corpus.labels]
            machine = tfidf_svm.fit(texts["train"], truth, settings.baseline, seed, progress, names)
            machine.save(folder / "model")
            parameters = machine.weights.size + machine.offsets.size
    with cost.measured() as predicting:
        for split in HELD_OUT:
            if settings.baseline.name == "tfidf-svm":
                found[split] = machine.scores(texts[split], corpus.kind)
            else:
                found[split] = majority.scores(counts, len(texts[split]))
    timings = {
        "train_seconds": fitting.seconds,
        "predict_seconds": predicting.seconds,
        "peak_bytes": max(fitting.peak_bytes, predicting.peak_bytes),
        "trainable_parameters": parameters,
        "parameters": parameters,
    }
    parts = {split: _predictions(corpus, split, found[split]) for split in HELD_OUT}
    return Outcome(parts, timings, {}, [])


def _tokenizer(
    settings: Settings, card: BackboneCard, corpus: Corpus, folder: Path
) -> PreTrainedTokenizerBase:
    """Give the backbone's tokenizer, kept in the run so that it goes on with the same one."""
    place = folder / "model" / "tokenizer"
    if (place / "tokenizer_config.json").exists():
        return AutoTokenizer.from_pretrained(place)

    def train() -> PreTrainedTokenizerBase:
        texts = (document.text for document in corpus.splits["train"])
        known = cache_folder() / "tokenizers"
        known.mkdir(parents=True, exist_ok=True)
        return tokenizers.train_cached(texts, settings.tokens.vocabulary, corpus.digest(), known)

    tokenizer = backbones.load_tokenizer(card, settings.backbone, train)
    add_special_tokens(tokenizer, settings.tokens, causal=card.causal)
    if workplace.is_main_process():
        unfinished = place.with_name("tokenizer.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        save_tokenizer(tokenizer, unfinished)
        unfinished.rename(place)
    return tokenizer


def _backbone(settings: Settings, corpus: Corpus, folder: Path, progress: Progress) -> Outcome:
    card = backbones.resolve(settings.backbone)
    training.check_report(settings.training)
    progress(0.0, "tokenizing")
    models.check_checkpoint(folder, settings)
    if workplace.is_main_process():
        models.keep_checkpoint(folder / "model", settings, card)
    tokenizer = _tokenizer(settings, card, corpus, folder)
    encoded = encode_corpus(corpus, tokenizer, settings.tokens, causal=card.causal)
    job = Job(settings, corpus, folder, tokenizer, encoded, progress)
    trained = jobs.train(job)
    with cost.measured() as predicting:
        scores = {split: jobs.score(job, trained, split) for split in HELD_OUT}
    parts = {
        split: _predictions(
            corpus,
            split,
            scores[split],
            [part.length for part in encoded[split]],
            [len(part.ids) for part in encoded[split]],
        )
        for split in HELD_OUT
    }
    read = trained.vectors.seconds if trained.vectors is not None else {}
    predict_seconds = predicting.seconds + sum(read.get(split, 0.0) for split in HELD_OUT)
    predicted = sum(len(part.ids) for split in HELD_OUT for part in encoded[split])
    timings = {
        **trained.timings,
        "predict_seconds": predict_seconds,
        "predict_tokens_per_second": predicted / predict_seconds,
        "peak_bytes": max(trained.timings["peak_bytes"], predicting.peak_bytes),
    }
    return Outcome(parts, timings, trained.notes, trained.history)

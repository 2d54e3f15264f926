"""Makes planned runs below one folder, reading each corpus once."""

from pathlib import Path

from longdoc.documents import catalog
from longdoc.documents.document import Corpus
from longdoc.errors import LongdocError, is_full
from longdoc.experiments import run, store
from longdoc.experiments.plan import PlannedRun
from longdoc.experiments.settings import Settings
from longdoc.experiments.store import Run
from longdoc.progress import Progress, silent


class Runner:
    """Makes runs; what is there already is read instead.

    Args:
        root: Folder for run folders.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.corpora: dict[str, Corpus] = {}
        self.digests: dict[str, str] = {}

    def corpus(self, settings: Settings, progress: Progress = silent) -> Corpus:
        """Give the documents of a run, read the first time they are asked for."""
        key = repr(settings.data)
        if key not in self.corpora:
            progress(0.0, "reading documents")
            self.corpora[key] = catalog.prepare(settings.data)
        return self.corpora[key]

    def digest(self, settings: Settings) -> str | None:
        """Give the digest of a run's documents, None where they cannot be had."""
        key = repr(settings.data)
        if key not in self.digests:
            try:
                self.digests[key] = self.corpus(settings).digest()
            except LongdocError:
                return None
        return self.digests[key]

    def make(self, planned: PlannedRun, progress: Progress = silent) -> Run:
        """Make one run.

        Raises:
            LongdocError: It cannot be made; the message says why.
        """
        folder = run.execute(
            planned.settings,
            self.root,
            name=planned.system,
            corpus=self.corpus(planned.settings, progress),
            progress=progress,
        )
        return store.load(folder)


def reason(error: BaseException) -> str:
    """Say in one sentence why a run was not made."""
    text = str(error)
    if not isinstance(error, LongdocError):
        text = f"{type(error).__name__}: {text}"
    if isinstance(error, MemoryError) or "allocate memory" in text:
        return "ran out of memory"
    if is_full(error):
        return f"there was no room for what is to be written ({type(error).__name__})"
    return text

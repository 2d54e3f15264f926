"""``git-log:PATH``: the commits of any git repository as dated texts by author.

For author identification with time profiles: a commit has an author, a text that a person wrote,
and the local time at which it was written. Unless names are asked for, labels are hashes, and
addresses and every word of an author's name are replaced in all texts, whoever wrote them and
whatever else the word may mean there. Nicknames that no author uses are not known, and stay.
"""

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import subprocess
import tempfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from longdoc.documents.archives import cache_folder
from longdoc.documents.document import Card, Corpus, Document, make_corpus
from longdoc.errors import DataError
from longdoc.settings import chosen, require

CARD = Card(
    name="git-log:PATH",
    summary="The commits of the git repository in PATH, by author, with their local times",
    tasks={"author": "multi-class: who wrote the commit's message"},
    licence="the repository's own; read in place, never copied",
    address="any git repository on this machine",
    reference="git2005",
    documents={},
)
PREFIX = "git-log:"
NOBODY = "AUTHOR"
"""Stands in texts for every author's name and address."""
TRAILER = re.compile(
    r"(?<=\n)(?:[\w-]+-by|cc|from|author)[ \t]*:.*$",
    re.I | re.M,
)
ADDRESS = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}"
)  # bounded, so that a long word takes no long time
FIELDS = ("%H", "%at", "%aI", "%ae", "%an", "%B")
OF_GIT = ("GIT_CEILING_DIRECTORIES", "GIT_SSL_CAINFO")
"""Variables of git that are passed on; others, such as GIT_DIR, would name another repository."""
SAFE = (
    "-c", "core.fsmonitor=false", "-c", "log.showSignature=false", "-c", "core.pager=cat",
    "-c", "gpg.program=false", "-c", "core.hooksPath=/dev/null",
    "-c", "protocol.allow=never", "-c", "protocol.file.allow=never",
)  # fmt: skip
"""A repository's own configuration can name programs; none of them runs."""
SHORTEST_NAME = 2
SALT_BYTES = 32
WORD = r"\w[\w.+-]*\w"
PART = r"[^\W_]+"
CHUNK = 2**20


@dataclass(frozen=True, kw_only=True)
class GitSettings:
    """How commits become documents."""

    names: bool = chosen(False, "who wrote what is personal data; what is not needed is not kept")
    """Whether labels are the authors' names; else salted hashes of their addresses. The salt is
    made once, at random, and stays in the cache."""
    fewest: int = chosen(
        1, "every author stays; 20 leave 14 commits to learn from, 2 to choose by and 4 to score",
        unit="commits",
    )  # fmt: skip
    """Authors of fewer commits are left out."""
    words: int = chosen(1, "every message that has a word stays", unit="words")
    """Shorter messages are left out."""

    def __post_init__(self) -> None:
        require(self.fewest >= 1, "data.git.fewest", "at least 1", self.fewest)
        require(self.words >= 1, "data.git.words", "at least 1", self.words)


@dataclass(frozen=True)
class Commit:
    """One commit as git prints it."""

    id: str
    name: str
    address: str
    date: str
    seconds: int
    message: str

    @property
    def who(self) -> str:
        """What tells authors apart."""
        return self.address or self.name


def load(path: str, settings: GitSettings) -> Corpus:
    """Read the commits of all authors with enough of them; merges are left out.

    Documents have the author's local time with its zone in ``about["date"]``, so that a time
    profile can be made; they are in order of time, without splits.

    Args:
        path: Of the repository.
        settings: What is left out, and whether names are shown.

    Raises:
        DataError: There is no repository, git is not installed, or fewer than two authors remain.
    """
    commits = list(_commits(path))
    salt = b"" if settings.names else _salt()
    hidden, shown = _names_of(commits), _labels_with_names(commits)
    written = []
    for commit in _distinct(commits):
        text = TRAILER.sub("", commit.message)
        if not settings.names:
            text = anonymous(text, *hidden)
        if len(text.split()) >= settings.words:
            paragraphs = tuple(line for line in text.splitlines() if line.strip())
            label = shown[commit.who] if settings.names else _label(commit.who, salt)
            written.append(Document(commit.id, paragraphs, (label,), about={"date": commit.date}))
    counts = Counter(document.labels[0] for document in written)
    kept = [d for d in written if counts[d.labels[0]] >= settings.fewest]
    notes = {
        "commits": len(commits),
        "commits_kept": len(kept),
        "authors": len(counts),
        "names_shown": settings.names,
    }
    if len({d.labels[0] for d in kept}) < 2:
        enough = sum(1 for n in counts.values() if n >= settings.fewest)
        message = (
            f"{path}: {enough} of {len(counts)} authors have at least {settings.fewest} commits of "
            f"at least {settings.words} words; two are needed (data.git.fewest, data.git.words)"
        )
        raise DataError(message)
    return make_corpus(PREFIX + path, "author", "multi-class", {"train": kept}, notes=notes)


def _distinct(commits: Sequence[Commit]) -> Iterator[Commit]:
    """Give commits in order of time; one that was picked or rebased elsewhere is one text."""
    seen = set()
    for commit in sorted(commits, key=lambda c: (c.seconds, c.id)):
        key = (commit.who, commit.seconds, commit.message.strip())
        if key not in seen:
            seen.add(key)
            yield commit


def _commits(path: str) -> Iterator[Commit]:
    """Ask git for every commit but merges; nothing of the repository is run."""
    with contextlib.suppress(RuntimeError):  # a home that is not known
        path = str(Path(path).expanduser()) if path else ""
    if not path or not Path(path).is_dir():
        message = f"there is no folder {path or '(empty)'}; {PREFIX} is followed by a repository"
        raise DataError(message)
    command = ["git", *SAFE, "-C", path, "--no-pager", "log", "--exclude=refs/stash",
               "--exclude=refs/notes/*", "--all", "--no-merges", "-z",
               "--no-show-signature", "--no-ext-diff", "--no-textconv", "--no-mailmap",
               "--encoding=UTF-8", "--format=" + "%x1f".join(FIELDS)]  # fmt: skip
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in OF_GIT}
    environment = {
        **kept, "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none",
        "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C",
    }  # fmt: skip
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=complaints, env=environment
            )
        except FileNotFoundError as error:
            message = "git is not installed, and git-log needs it"
            raise DataError(message) from error
        with process:
            for entry in _entries(process.stdout):
                fields = entry.decode("utf-8", "replace").strip("\n").split("\x1f", len(FIELDS) - 1)
                if len(fields) == len(FIELDS):
                    key, seconds, date, address, name, message = fields
                    yield Commit(key, name, address.lower(), date, int(seconds or 0), message)
        if process.returncode:
            complaints.seek(0)
            said = complaints.read(10_000).decode("utf-8", "replace").strip().splitlines()
            complaint = f"{path}: {said[0] if said else 'git log failed'}"
            raise DataError(complaint)


def _entries(stream: IO[bytes] | None) -> Iterator[bytes]:
    """Cut what git prints at its zeros, without holding all of it."""
    rest = b""
    while stream is not None and (chunk := stream.read(CHUNK)):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole
    if rest:
        yield rest


def _labels_with_names(commits: Sequence[Commit]) -> dict[str, str]:
    """Give each author's label that shows who it is, with the name of most of the commits."""
    names: dict[str, Counter[str]] = defaultdict(Counter)
    addresses = {commit.who: commit.address for commit in commits}
    for commit in commits:
        names[commit.who][commit.name] += 1
    most = {who: max(sorted(counts), key=counts.__getitem__) for who, counts in names.items()}
    return {who: f"{most[who]} <{address}>" for who, address in addresses.items()}


def _label(who: str, salt: bytes) -> str:
    digest = hmac.new(salt, who.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
    return f"author-{digest[:12]}"


def _salt() -> bytes:
    """Give this machine's salt; without it, hashes of known addresses could be looked up.

    Raises:
        DataError: It cannot be kept, or is damaged.
    """
    file = cache_folder() / "git-log-salt"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            unfinished = file.with_name(f"{file.name}.{os.getpid()}")
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(SALT_BYTES))
            with contextlib.suppress(FileExistsError):  # another process was first
                os.link(unfinished, file)
            unfinished.unlink()
        salt = file.read_bytes()
    except OSError as error:
        message = f"the salt that hides names cannot be kept in {file}: {error.strerror}"
        raise DataError(message) from error
    if len(salt) != SALT_BYTES:
        message = f"{file} is damaged; delete it, and authors get other labels"
        raise DataError(message)
    return salt


def _names_of(commits: Sequence[Commit]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Give what is to be replaced.

    Returns:
        The words of all names, their parts, and what stands before @ and behind a plus there, in
        lower case; and whole names of other
        scripts, longest first, which may stand in text without blanks.
    """
    names = {unicodedata.normalize("NFC", commit.name) for commit in commits}
    words = {word.lower() for name in names for word in re.findall(WORD, name)}
    words |= {word.lower() for name in names for word in re.findall(PART, name)}
    logins = {commit.address.partition("@")[0] for commit in commits}
    words |= logins | {p for login in logins for p in login.split("+") if not p.isdigit()}
    whole = {name for name in names if not name.isascii()}
    return (
        frozenset(word for word in words if len(word) >= SHORTEST_NAME),
        tuple(sorted((n for n in whole if len(n) >= SHORTEST_NAME), key=lambda n: (-len(n), n))),
    )


def anonymous(text: str, words: Collection[str], whole: Sequence[str] = ()) -> str:
    """Replace addresses and names, whoever's they are.

    Example:
        >>> anonymous("As Ann (ann-b) said, ask ann@b.org", {"ann", "ann-b"})
        'As AUTHOR (AUTHOR) said, ask AUTHOR'
    """
    text = ADDRESS.sub(NOBODY, unicodedata.normalize("NFC", text))
    for name in whole:
        text = text.replace(name, NOBODY)
    text = re.sub(WORD, lambda m: NOBODY if m[0].lower() in words else m[0], text)
    text = re.sub(r"\w+", lambda m: NOBODY if m[0].lower() in words else m[0], text)
    return re.sub(PART, lambda m: NOBODY if m[0].lower() in words else m[0], text)

"""``python-imports``: the Python files on this machine, labelled with the modules they import.

It needs no download and ships no text. Import statements are taken out of the text; names that
would give an answer away (``os.`` and the names modules are bound to) are masked.
"""

import ast
import functools
import io
import platform
import re
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from longdoc.documents.document import Card, Corpus, Document, by_frequency, make_corpus
from longdoc.documents.duplicates import distinct
from longdoc.documents.splits import split_groups
from longdoc.errors import DataError

CARD = Card(
    name="python-imports",
    summary="Python source files on this machine, labelled with the modules they import",
    tasks={"imports": "multi-label: the top-level modules that a file imports"},
    licence="each file its own (the standard library: PSF); read in place, never copied",
    address="the Python installation that runs longdoc",
    reference="python2023library",
    documents={},
)

MASK = "MODULE"
SHORTEST = 200
LARGE_PACKAGE = 20
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
NEAR = 0.8
PACKAGES = ("accelerate", "jinja2", "joblib", "networkx", "peft", "rich", "sklearn")
SKIPPED = {"test", "tests", "testing", "idle_test", "site-packages", "__pycache__", "lib2to3"}
MACHINE_MADE = re.compile(r"^(_sysconfigdata|config-)")


@dataclass(frozen=True)
class Source:
    """One parsed file: its text without imports, the modules it imports, the names they got."""

    id: str
    group: str
    text: str
    modules: tuple[str, ...]
    bound: frozenset[str]


def load(
    task: str = "imports", *, min_train_documents: int = 5, mask: bool = True, seed: int = 0
) -> Corpus:
    """Read, clean, split and label the Python files of this machine.

    Args:
        task: Only ``imports``.
        min_train_documents: Labels with fewer training documents go.
        mask: Whether module names and the names they are bound to are masked.
        seed: Of the split.

    Raises:
        DataError: The standard library's source is not on this machine.
    """
    sources = _all_sources()
    if not sources:
        message = f"python-imports: no Python source below {sysconfig.get_paths()['stdlib']}"
        raise DataError(message)
    modules = {module for source in sources for module in source.modules}
    documents = [_document(source, modules if mask else set(), mask) for source in sources]
    kept = distinct(documents, NEAR, content=skeleton)
    splits = split_groups(kept, SHARES, seed, large=LARGE_PACKAGE)
    labels = by_frequency(splits["train"], at_least=min_train_documents)
    allowed = set(labels)
    limited = {name: [_restrict(d, allowed) for d in part] for name, part in splits.items()}
    notes = {
        "python": platform.python_version(),
        "packages": {name: metadata.version(_project(name)) for name in _installed()},
        "files": len(sources),
        "exact_or_near_duplicates_left_out": len(documents) - len(kept),
        "labels_left_out_as_too_rare": len(by_frequency(splits["train"])) - len(labels),
        "module_names_masked": mask,
        "split_seed": seed,
    }
    return make_corpus(CARD.name, task, "multi-label", limited, labels=labels, notes=notes)


def _restrict(document: Document, allowed: set[str]) -> Document:
    labels = tuple(label for label in document.labels if label in allowed)
    return Document(document.id, document.paragraphs, labels, document.group)


def _installed() -> list[str]:
    return [name for name in PACKAGES if _folder(name).is_dir()]


def _folder(package: str) -> Path:
    return Path(sysconfig.get_paths()["purelib"]) / package


def _project(package: str) -> str:
    return {"sklearn": "scikit-learn"}.get(package, package)


@functools.cache
def _all_sources() -> tuple[Source, ...]:
    """Read every source once in a process; parsing takes most of the time."""
    return tuple(_sources())


def _sources() -> Iterator[Source]:
    """Read the standard library and the installed packages, in a fixed order."""
    roots = [("stdlib", Path(sysconfig.get_paths()["stdlib"]))]
    roots += [(name, _folder(name)) for name in _installed()]
    for origin, root in roots:
        for path in sorted(root.rglob("*.py")):
            inside = path.relative_to(root)
            parts = {*inside.parts[:-1]}
            if (
                parts & SKIPPED
                or MACHINE_MADE.match(inside.parts[0])
                or MACHINE_MADE.match(path.name)
            ):
                continue
            own = origin if origin != "stdlib" else inside.parts[0].removesuffix(".py")
            group = f"{origin}/{inside.parent.as_posix()}" if inside.parent.parts else ""
            source = _read(path, f"{origin}/{inside.as_posix()}", own, group)
            if source is not None:
                yield source


def _read(path: Path, identifier: str, own: str, group: str) -> Source | None:
    """Parse one file; files that are no Python 3, or next to empty, give nothing."""
    try:
        with tokenize.open(path) as stream:
            text = stream.read()
        tree = ast.parse(text)
    except (SyntaxError, ValueError, OSError):
        return None
    modules: dict[str, None] = {}
    bound: set[str] = set()
    spans = []
    for node in imports(tree):
        spans.append(node)
        _note_import(node, own, modules, bound)
    remaining = without(text, spans)
    if len(remaining.strip()) < SHORTEST:
        return None
    return Source(identifier, group, remaining, tuple(modules), frozenset(bound))


def imports(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """Find import statements at any depth; only statements are visited, which is fast."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        for field in ("finalbody", "orelse", "handlers", "cases", "body"):
            inside = getattr(node, field, None)
            if isinstance(inside, list):
                waiting.extend(reversed(inside))


def _note_import(
    node: ast.Import | ast.ImportFrom, own: str, modules: dict[str, None], bound: set[str]
) -> None:
    """Note the top-level modules of one statement, and the names that stand for modules."""
    if isinstance(node, ast.ImportFrom):
        names = [node.module] if node.module and not node.level else []
    else:
        names = [alias.name for alias in node.names]
        bound.update(alias.asname for alias in node.names if alias.asname)
    for name in names:
        top = name.split(".")[0]
        if top not in {own, "__future__"}:
            modules[top] = None


def without(text: str, nodes: list[ast.Import | ast.ImportFrom]) -> str:
    r"""Cut statements out of source text.

    Example:
        >>> source = "import os; x = 1\nfrom re import (\n  sub,\n)\ny = 2\n"
        >>> without(source, [n for n in ast.walk(ast.parse(source)) if hasattr(n, "names")])
        '; x = 1\n\ny = 2\n'
    """
    lines = [line.encode("utf-8", "surrogatepass") for line in io.StringIO(text, newline="")]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    content = b"".join(lines)
    for node in sorted(nodes, key=lambda n: (n.lineno, n.col_offset), reverse=True):
        first = starts[node.lineno - 1] + node.col_offset
        last = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        content = content[:first] + content[last:]
    return content.decode("utf-8", "surrogatepass")


def _document(source: Source, modules: set[str], mask: bool) -> Document:
    text = source.text
    if mask:
        text = masked(text, modules | source.bound)
    return Document(source.id, tuple(text.split("\n")), source.modules, source.group)


def masked(text: str, names: set[str] | frozenset[str]) -> str:
    """Replace whole words that are one of the names.

    Every file is masked for every module, imported or not: a mask that stood only in files that
    import a module would give the answer away again.

    Example:
        >>> masked("os.path, osmosis, np.array", {"os", "np"})
        'MODULE.path, osmosis, MODULE.array'
    """
    return re.sub(r"[A-Za-z_]\w*", lambda m: MASK if m[0] in names else m[0], text)


LITERAL = re.compile(
    r'''("""|\'\'\').*?\1|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*|\b\d[\w.]*''',
    re.DOTALL,
)


def skeleton(document: Document) -> str:
    """Give code without its strings, numbers and comments.

    The tables of ``encodings`` differ in these alone; what they import is the same.

    Example:
        >>> skeleton(Document("a", ("x = f('text', 12)  # why",), ()))
        'x = f(, )  '
    """
    return LITERAL.sub("", document.text)

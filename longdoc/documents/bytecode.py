"""``bytecode``: functions of the Python standard library with their disassembly.

Source code against low-level code, in both directions. Modules are compiled, never imported, so
nothing of them runs; no text is shipped.
"""

import ast
import dis
import platform
import sysconfig
import textwrap
import tokenize
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from longdoc.documents.document import Card, Corpus, Document, make_corpus
from longdoc.documents.duplicates import distinct
from longdoc.documents.splits import split_groups
from longdoc.errors import DataError

BELONG, DO_NOT = "belong together", "do not"
CARD = Card(
    name="bytecode",
    summary="Functions of Python's standard library and their bytecode: do these two belong?",
    tasks={
        "source-then-bytecode": "binary: a function, then a disassembly; do they belong together?",
        "bytecode-then-source": "binary: a disassembly, then a function; do they belong together?",
    },
    licence="the standard library's own (PSF); read in place, never copied",
    address="the Python installation that runs longdoc",
    reference="python2023library",
    documents={},
)
SHORTEST, LONGEST = 8, 400
"""Instructions a function has at least and at most: our choice, so that there is something to
recognise and no document is far longer than the others."""
LARGE_MODULE = 250
"""Functions from which a module goes to training, so that none fills a test split."""
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
NEAR = 0.8
SKIPPED = {"test", "tests", "idle_test", "site-packages", "__pycache__", "lib2to3", "idlelib"}
SEPARATOR = "---"
SILENT = ("CACHE", "RESUME", "NOP")
"""Instructions that do nothing to a value; a NOP stands where documentation was taken out."""


@dataclass(frozen=True)
class Pair:
    """One function in both forms.

    Attributes:
        id: Module, qualified name and line.
        module: Top-level module; the pairs of one module are in one split.
        source: Without indentation it had in its class, decorators and documentation.
        low_level: One instruction a line.
    """

    id: str
    module: str
    source: str
    low_level: str


def pairs(*, names: bool = False, seed: int = 0) -> dict[str, list[Pair]]:
    """Give every function of the standard library once, split by module.

    Args:
        names: Keep names and constants in the disassembly; without them it is as bare as a
            stripped program, and belonging cannot be read off common words.
        seed: Of the split.

    Returns:
        Split to pairs, sorted by identifier.

    Raises:
        DataError: The standard library's source is not on this machine.
    """
    found = {pair.id: pair for pair in _all_pairs(names)}
    if not found:
        message = f"bytecode: no Python source below {sysconfig.get_paths()['stdlib']}"
        raise DataError(message)
    first = _first_of_each_form(list(found.values()))
    documents = [Document(p.id, tuple(p.source.split("\n")), (p.module,), p.module) for p in first]
    kept = [replace(d, labels=()) for d in distinct(documents, NEAR)]
    splits = split_groups(kept, SHARES, seed, large=LARGE_MODULE)
    return {split: [found[d.id] for d in part] for split, part in splits.items()}


def load(task: str, *, names: bool = False, seed: int = 0) -> Corpus:
    """Give documents of a function and a disassembly, half of which belong together.

    Each function stands in two documents of its split: with its own disassembly, and with that of
    another function of about the same length, so that length does not tell.

    Args:
        task: Of ``CARD.tasks``: which form stands first.
        names: As for :func:`pairs`.
        seed: Of splits and of who meets whom.
    """
    splits = pairs(names=names, seed=seed)
    made = {split: _documents(part, task, seed) for split, part in splits.items()}
    notes = {
        "python": platform.python_version(),
        "functions": {split: len(part) for split, part in splits.items()},
        "names_in_bytecode": names,
        "split_seed": seed,
    }
    return make_corpus(CARD.name, task, "binary", made, labels=(DO_NOT, BELONG), notes=notes)


def _documents(part: Sequence[Pair], task: str, seed: int) -> list[Document]:
    made = []
    for pair, other in zip(part, _partners(part, seed), strict=True):
        for label, low_level in ((BELONG, pair.low_level), (DO_NOT, other.low_level)):
            both = (pair.source, low_level)
            first, second = both if task == "source-then-bytecode" else both[::-1]
            paragraphs = (*first.split("\n"), SEPARATOR, *second.split("\n"))
            made.append(Document(f"{pair.id} {label}", paragraphs, (label,), pair.module))
    return made


def _partners(part: Sequence[Pair], seed: int) -> list[Pair]:
    """Give each pair another one near it in length; each is a partner once."""
    generator = np.random.default_rng(seed)
    lengths = np.array([pair.low_level.count("\n") for pair in part]) + generator.random(len(part))
    order = np.argsort(lengths, kind="stable")
    partners: list[Pair] = list(part)
    for place, row in enumerate(order.tolist()):
        partners[row] = part[int(order[(place + 1) % len(order)])]
    return partners


def _first_of_each_form(found: Sequence[Pair]) -> list[Pair]:
    """Leave out functions whose disassembly another has, too."""
    forms: dict[str, Pair] = {}
    for pair in found:
        forms.setdefault(pair.low_level, pair)
    return list(forms.values())


@cache
def _all_pairs(names: bool) -> tuple[Pair, ...]:
    """Compile every module once in a process."""
    root = Path(sysconfig.get_paths()["stdlib"])
    made: list[Pair] = []
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root)
        if not {*inside.parts[:-1]} & SKIPPED and not inside.name.startswith("_sysconfigdata"):
            made += _module_pairs(path, inside, names)
    return tuple(made)


def _module_pairs(path: Path, inside: Path, names: bool) -> Iterator[Pair]:
    """Match the functions of a module's syntax tree with its code objects."""
    try:
        with tokenize.open(path) as stream:
            text = stream.read()
        tree = ast.parse(text)
        code = compile(tree, str(inside), "exec", dont_inherit=True, optimize=2)
    except (SyntaxError, ValueError, OSError, RecursionError):
        return
    codes = {(c.co_name, c.co_firstlineno): c for c in _code_objects(code)}
    module = inside.parts[0].removesuffix(".py")
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        own = codes.get((node.name, first))
        if own is None:
            continue
        low_level = disassembly(own, names)
        if SHORTEST <= low_level.count("\n") + 1 <= LONGEST:
            identifier = f"{inside.as_posix()}:{own.co_qualname}:{node.lineno}"
            source = _source(text, node)
            if source:
                yield Pair(identifier, module, source, low_level)


def _code_objects(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _code_objects(constant)


def _source(text: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Give a function's lines without decorators and documentation."""
    lines = text.split("\n")  # as the syntax tree counts them
    start, end = node.lineno - 1, node.end_lineno or node.lineno
    kept = lines[start:end]
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None and len(node.body) > 1:
        inside = range(first.lineno - 1 - start, (first.end_lineno or first.lineno) - start)
        kept = [line for number, line in enumerate(kept) if number not in inside]
    return textwrap.dedent("\n".join(kept)).strip()


def disassembly(code: types.CodeType, names: bool) -> str:
    r"""Give a function's instructions, one a line; of constants and names only where asked for.

    Targets of jumps are numbered in order, variables by their slot.

    Example:
        >>> print(disassembly((lambda x: x + 1).__code__, names=False).split("\n")[-1])
        RETURN_VALUE
    """
    instructions = list(dis.get_instructions(code))
    targets = [i.offset for i in instructions if i.is_jump_target]
    marks = {offset: f"L{number}" for number, offset in enumerate(targets)}
    lines = []
    for instruction in instructions:
        if instruction.opname in SILENT:
            continue
        label = f"{marks[instruction.offset]}: " if instruction.offset in marks else ""
        lines.append(f"{label}{instruction.opname}{_argument(instruction, marks, names)}")
    return "\n".join(lines)


def _argument(instruction: dis.Instruction, marks: dict[int, str], names: bool) -> str:
    """Say what an instruction works on."""
    opcode = instruction.opcode
    if instruction.arg is None:
        return ""
    if opcode in dis.hasjrel or opcode in dis.hasjabs:
        return " " + marks.get(int(instruction.argval), "?")
    if opcode in dis.hascompare or instruction.opname == "BINARY_OP":
        return " " + instruction.argrepr
    hidden = opcode in dis.hasconst or opcode in dis.hasname or opcode in dis.hasfree
    if names and (hidden or opcode in dis.haslocal):
        kind = instruction.argrepr
        return " code" if isinstance(instruction.argval, types.CodeType) else f" {kind}"
    return "" if opcode in dis.hasconst else f" {instruction.arg}"

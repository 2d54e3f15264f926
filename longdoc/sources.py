"""Every paper, once: ``references.bib`` as records."""

import functools
from dataclasses import dataclass
from importlib import resources

from bibtexparser.entrypoint import parse_string
from bibtexparser.middlewares import LatexDecodingMiddleware

from longdoc.errors import UnknownNameError, nearest


@dataclass(frozen=True)
class Reference:
    """One entry of ``references.bib``."""

    key: str
    title: str
    authors: str
    year: str
    venue: str
    address: str

    def short(self) -> str:
        """Give the reference as a reader names it in a sentence.

        Example:
            >>> lookup("hu2022lora").short()
            'Hu et al. 2022'
        """
        names = [name.split(",")[0].strip() for name in self.authors.split(" and ")]
        shown = names[0] if len(names) == 1 else " and ".join(names[:2])
        return f"{shown if len(names) < 3 else names[0] + ' et al.'} {self.year}"


def _address(entry: dict[str, str]) -> str:
    if entry.get("doi"):
        return f"https://doi.org/{entry['doi']}"
    if entry.get("eprint"):
        return f"https://arxiv.org/abs/{entry['eprint']}"
    return entry.get("url", "")


@functools.cache
def references() -> dict[str, Reference]:
    """Read every entry of ``references.bib``, in its order."""
    text = resources.files("longdoc").joinpath("references.bib").read_text(encoding="utf-8")
    found = {}
    for entry in parse_string(text, append_middleware=[LatexDecodingMiddleware()]).entries:
        fields = {f.key: str(f.value).replace("{", "").replace("}", "") for f in entry.fields}
        venue = next(
            (fields[k] for k in ("booktitle", "journal", "howpublished") if k in fields), ""
        )
        found[entry.key] = Reference(
            entry.key, fields["title"], fields["author"], fields["year"], venue, _address(fields)
        )
    return found


def lookup(key: str) -> Reference:
    """Find a reference by its key.

    Raises:
        UnknownNameError: No entry has this key.
    """
    if key not in references():
        message = f"no reference named {key!r}; {nearest(key, references())}"
        raise UnknownNameError(message)
    return references()[key]

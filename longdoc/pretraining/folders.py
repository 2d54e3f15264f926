"""Which pretraining a folder holds, begun or finished."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from longdoc.backbones.catalog import BACKBONES
from longdoc.backbones.checkpoints import RECORD
from longdoc.errors import DataError, RunError, SettingsError
from longdoc.pretraining.settings import PretrainingSettings
from longdoc.pretraining.texts import Source
from longdoc.settings import disagreement, to_mapping
from longdoc.training import workplace


def check_name(final: Path) -> None:
    """Refuse a name under which no command would find what is made.

    Raises:
        SettingsError: So it is.
    """
    if not final.name or final.name == "..":
        message = f"--output must name a folder that is to be made; got {str(final)!r}"
        raise SettingsError(message)
    if len(final.parts) == 1 and final.name in BACKBONES:
        message = (
            f"--output {final} is the name of a backbone of the catalogue, by which other commands "
            f"would find that one; name another"
        )
        raise SettingsError(message)


def check_same(
    settings: PretrainingSettings, final: Path, sources: Callable[[], list[Source]]
) -> None:
    """Refuse to hand back a finished pretraining of other settings, or of other texts.

    Args:
        settings: What is asked for.
        final: The folder.
        sources: Opens what is asked for.

    Raises:
        RunError: So it is.
    """
    file = final / RECORD
    made: Any = None
    with contextlib.suppress(OSError, ValueError, RecursionError):
        made = json.loads(file.read_text(encoding="utf-8"))
    whole = isinstance(made, dict) and {"settings", "texts", "measured"} <= set(made)
    if not whole or disagreement(made["settings"], settings):
        message = f"{final} is there and holds something else; name another --output"
        raise RunError(message)
    with contextlib.suppress(DataError):  # texts that are no longer there say nothing
        digests = {source.name: source.digest for source in sources()}
        kept = {name: about["digest"] for name, about in made["texts"].items()}
        _check_texts(final, kept, digests)


def _check_texts(place: Path, kept: dict[str, str], now: dict[str, str]) -> None:
    changed = [name for name in kept if now.get(name) != kept[name]]
    if changed:
        message = (
            f"{place} is of other texts: {', '.join(changed)} changed since; "
            f"remove it, or name another --output"
        )
        raise RunError(message)


def keep_texts(sources: list[Source], partial: Path) -> None:
    """Note which texts are at work here; leftovers of others are not gone on with.

    Raises:
        RunError: There are some.
    """
    file = partial / "texts.json"
    digests = {source.name: source.digest for source in sources}
    if file.exists():
        _check_texts(partial, json.loads(file.read_text(encoding="utf-8")), digests)
    elif (partial / "stream").exists():
        message = f"{partial} was begun by another version of longdoc; remove it"
        raise RunError(message)
    workplace.write_json(file, digests)


def keep_settings(settings: PretrainingSettings, partial: Path) -> None:
    """Note what is at work here; another pretraining's leftovers are not gone on with.

    Raises:
        RunError: There are some.
    """
    file = partial / "settings.json"
    if file.exists() and disagreement(json.loads(file.read_text(encoding="utf-8")), settings):
        message = (
            f"{partial} holds an unfinished pretraining with other settings; "
            f"remove it, or name another --output"
        )
        raise RunError(message)
    workplace.write_json(file, to_mapping(settings))

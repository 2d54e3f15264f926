"""A checkpoint's weights into a model, all of them or none: what is missing would be random."""

import errno
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from longdoc.backbones import hub
from longdoc.errors import DataError, LongdocError, MissingPartError

NEW = ("score", "classifier", "lm_head", "cls")
"""Names of what stands on top of a backbone, for a task that the checkpoint was not made for."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "tokenizer.model")
"""One of which every tokenizer leaves where it is saved."""
READING = (OSError, ValueError, RuntimeError, KeyError, SafetensorError)
"""What transformers raises where a checkpoint is not there, damaged, or another's."""


def load(
    model: Any, place: str | Path, config: PreTrainedConfig, pooler: bool, **options: Any
) -> Any:
    """Load a checkpoint into a model of its family; a classifier's head starts at random.

    Args:
        model: A transformers class.
        place: Folder, or name of the hub.
        config: The model's.
        pooler: Whether a BERT's pooler must be there.
        **options: For the hub.

    Raises:
        DataError: The weights lack something that the configuration has, or are of other sizes.
    """
    found, about = model.from_pretrained(
        place,
        config=config,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **options,
    )
    sizes = [entry[0] for entry in about["mismatched_keys"]]
    _refuse(place, found, "have other sizes than config.json says for", _old(sizes, NEW))
    optional = NEW if pooler else (*NEW, "pooler")
    _refuse(place, found, "lack", _old(about["missing_keys"], optional))
    for name in ("score", "classifier"):
        head = getattr(found, name, None)
        if head is not None and f"{name}.weight" not in {*about["missing_keys"], *sizes}:
            _restart(found, head)
    return found


def _old(names: Collection[str], new: Collection[str]) -> list[str]:
    return sorted(name for name in names if not set(name.split(".")) & set(new))


def _refuse(place: str | Path, model: PreTrainedModel, what: str, names: list[str]) -> None:
    if not names:
        return
    number = len(model.state_dict())
    message = (
        f"{place}: its weights {what} {len(names)} of the {number} tensors of a "
        f"{model.config.model_type}, such as {names[0]}; they would be random"
    )
    if all("pooler" in name.split(".") for name in names):
        message += "; backbone.pooling mean does without"
    raise DataError(message)


def _restart(model: PreTrainedModel, head: torch.nn.Module) -> None:
    """Draw a head anew: a checkpoint's is of other labels, even where there are as many."""
    # transformers draws nothing that bears this mark, which it leaves on all it has read.
    for part in head.modules():
        for parameter in part.parameters(recurse=False):
            parameter._is_hf_initialized = False  # type: ignore[attr-defined]
        model._init_weights(part)


def has_pooler(folder: Path) -> bool:
    """Say whether a local folder's weights may have a BERT's pooler."""
    files = sorted(folder.glob("*.safetensors"))
    names: set[str] = set()
    for file in files:
        try:
            with safe_open(file, "pt") as tensors:
                names |= set(tensors.keys())
        except (OSError, SafetensorError):
            return True  # loading says what is wrong
    return not files or any("pooler.dense.weight" in name for name in names)


def translated(read: Callable[[], Any], name: str, what: str) -> Any:
    """Read from a local folder or the hub; what goes wrong is said in one sentence.

    Args:
        read: Reads.
        name: Of the checkpoint.
        what: What is read.

    Raises:
        DataError: A local folder has no such thing, or it is damaged.
        MissingPartError: The hub cannot be reached, or has no such thing.
    """
    try:
        with hub.asked_only_if_reachable(name):
            return read()
    except LongdocError:
        raise
    except READING as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        if Path(name).is_dir():
            message = f"{name}: {what} cannot be read from this folder{_advice(Path(name), what)}"
            raise DataError(f"{message}: {first_line(error)}") from error
        if not isinstance(error, OSError | ValueError):
            message = f"{name}: {what} cannot be read: {first_line(error)}"
            raise DataError(message) from error
        message = (
            f"{name} is neither in the local cache nor to be had from the hub; name a "
            f"local folder, or a backbone that needs no hub: mamba-mini, gpt-neo-mini, bert-mini"
        )
        raise MissingPartError(message) from error


def first_line(error: Exception) -> str:
    """Give what an error says, without the list of attempts that transformers adds."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def _advice(folder: Path, what: str) -> str:
    if what == "weights" and not any(folder.glob("*.safetensors")) and any(folder.glob("*.bin")):
        return " (it has .bin files alone; save it again with save_pretrained, as .safetensors)"
    return ""


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse a tokenizer that knows no words, as transformers makes up where there is none.

    Raises:
        DataError: It has nothing but special tokens.
    """
    folder = Path(name)
    lacks = folder.is_dir() and not any((folder / file).is_file() for file in TOKENIZER_FILES)
    if lacks or len(tokenizer) <= len(set(tokenizer.all_special_ids)) + 1:
        message = (
            f"{name} has no tokenizer, without which its weights say nothing; save it beside "
            f"config.json (tokenizer.save_pretrained)"
        )
        raise DataError(message)


def settle_padding(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
    """Let a tokenizer pad with a token that the model has a vector for.

    Any will do, as what is padded is masked or left out.
    """
    padding = tokenizer.pad_token_id
    if padding is None or padding >= vocabulary:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.sep_token

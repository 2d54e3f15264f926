"""How to count the tokens of a text, by the name of a tokenizer."""

from collections.abc import Callable

from longdoc.backbones import build
from longdoc.backbones.catalog import BACKBONES
from longdoc.backbones.settings import BackboneSettings
from longdoc.errors import SettingsError
from longdoc.tokens import tokenizers


def words(texts: list[str]) -> list[int]:
    """Count what stands between blanks.

    Example:
        >>> words(["to be or not"])
        [4]
    """
    return [len(text.split()) for text in texts]


def counter(name: str) -> Callable[[list[str]], list[int]]:
    """Give a function that counts the tokens of texts.

    Args:
        name: ``words``, a backbone's name, a local folder or a hub name.

    Raises:
        LongdocError: There is no such tokenizer, or it cannot be had.
    """
    if name == "words":
        return words
    settings = BackboneSettings(name=name)
    try:
        card = build.resolve(settings)
    except SettingsError as error:
        without = ", ".join(card.name for card in BACKBONES.values() if card.make)
        message = f"no tokenizer named {name!r}; without a hub: words, {without}"
        raise SettingsError(message) from error
    tokenizer = build.own_tokenizer(card, settings)
    return lambda texts: tokenizers.count(tokenizer, texts)

"""Every setting as an option, made from the settings records themselves."""

import contextlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, Union, get_args

import transformers
from cyclopts import Parameter, Token

from longdoc.experiments import explain
from longdoc.experiments.plan import read_yaml
from longdoc.experiments.settings import Settings
from longdoc.kernels import native_library
from longdoc.settings import at, build, merge, walk

T = TypeVar("T")


def whole(_: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number; cyclopts rounds others without a word.

    Raises:
        ValueError: It is something else.
    """
    text = tokens[0].value
    based = text.lstrip("+-")[:2].lower() in ("0x", "0o", "0b")
    with contextlib.suppress(ValueError):
        return int(text, 0 if based else 10)
    with contextlib.suppress(ValueError):
        if "." in text and float(text).is_integer():
            return int(float(text))
    message = f'"{text}" is no whole number.'
    raise ValueError(message)


def whole_or_none(kind: Any, tokens: Sequence[Token]) -> int | None:
    """Read a whole number, or none."""
    return None if tokens[0].value.lower() in ("none", "null") else whole(kind, tokens)


def with_settings(command: Callable[..., None], record: type = Settings) -> Callable[..., None]:
    """Give a command one option a setting; those used arrive in its ``options``.

    The help of an option is the setting's own docstring, default and source.
    """
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
    made = []
    for setting in walk(record):
        flag = "--" + setting.name.replace("_", "-")
        text = f"{setting.meaning} [default: {explain.value(setting)}; {explain.source(setting)}]"
        group = setting.name.split(".")[0].capitalize() + " settings"
        number = setting.type is int or int in get_args(setting.type)
        about = Parameter(
            name=flag, help=text, group=group, show_default=False, negative=(),
            converter=whole_or_none if number else None,
        )  # fmt: skip
        made.append(
            inspect.Parameter(
                setting.name.replace(".", "__"),
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[Union[setting.type, None], about],  # noqa: UP007
            )
        )

    def call(*positional: Any, **named: Any) -> None:
        settings = {p.name: named.pop(p.name) for p in made if p.name in named}
        options = {name: value for name, value in settings.items() if value is not None}
        command(*positional, **named, options=options)

    call.__signature__ = inspect.Signature([*own, *made])  # type: ignore[attr-defined]
    call.__doc__, call.__name__ = command.__doc__, command.__name__
    return call


def settings_from(
    file: str | None,
    options: Mapping[str, Any],
    record: type[T],
) -> T:
    """Read settings from a YAML file, and lay the options over them.

    Raises:
        SettingsError: Something is not known or not allowed.
    """
    values: dict[str, Any] = read_yaml(file) if file else {}
    return build(record, merge(values, nested(options)))


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give options as nested values, as they would stand in YAML.

    Example:
        >>> nested({"adapter__rank": 8, "adapter__alpha": 16.0})
        {'adapter': {'rank': 8, 'alpha': 16.0}}
    """
    values: dict[str, Any] = {}
    for name, value in options.items():
        values = merge(values, at(name.split("__"), value))
    return values


def prepare() -> None:
    """Keep libraries from talking into the progress bar, and say when kernels are slow."""
    if native_library.load() is None:
        sys.stderr.write(f"longdoc: Mamba is slow here: {native_library.reason()}\n")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

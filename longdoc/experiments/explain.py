"""Every setting with its default, meaning, unit and source, in words."""

from collections.abc import Iterable

from longdoc.errors import SettingsError, nearest
from longdoc.experiments.plan import PlanSettings
from longdoc.experiments.settings import Settings
from longdoc.experiments.space import SweepSettings
from longdoc.pretraining.settings import PretrainingSettings
from longdoc.settings import Setting, spell, walk
from longdoc.sources import lookup


def every_setting() -> list[Setting]:
    """List every setting of a run, then those of a plan, a sweep and a pretraining."""
    pretraining = [s for s in walk(PretrainingSettings) if not s.name.startswith("backbone.")]
    studies = [*walk(PlanSettings, "plan."), *walk(SweepSettings, "sweep.")]
    return [*walk(Settings), *studies, *pretraining]


def find(name: str | None) -> list[Setting]:
    """Find one setting, a group of them, or all.

    Raises:
        SettingsError: No setting or group has this name.
    """
    settings = every_setting()
    if name is None:
        return settings
    wanted = name.replace("-", "_").lstrip("_")
    found = [s for s in settings if s.name == wanted or s.name.startswith(wanted + ".")]
    found = found or [s for s in settings if s.name.split(".")[-1] == wanted]
    if not found:
        message = f"no setting named {name!r}; {_close(wanted, [s.name for s in settings])}"
        raise SettingsError(message)
    return found


def _close(wanted: str, names: list[str]) -> str:
    ends = {name.split(".")[-1]: name for name in names}
    hint = nearest(wanted, [*names, *ends]).split("? ")
    groups = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
    return f"{hint[0]}? groups: {groups}" if len(hint) > 1 else f"groups: {groups}"


def source(setting: Setting) -> str:
    """Say where a default comes from, in one sentence."""
    origin = setting.origin
    if origin is None:
        return "no source"
    if origin.key:
        reference = lookup(origin.key)
        text = f"{reference.short()}, {origin.where} [{origin.key}]"
    else:
        text = f"our choice: {origin.because}" if origin.because else "our choice"
    return f"{text}; {origin.note}" if origin.note else text


def value(setting: Setting) -> str:
    """Give a default as it is written in YAML, with its unit."""
    given = setting.default
    text = (
        {None: "not set", True: "true", False: "false"}.get(given, str(given))
        if not isinstance(given, int | float) or isinstance(given, bool)
        else f"{given:g}"
    )
    if isinstance(given, tuple):
        text = ", ".join(map(str, given)) or "none"
    unit = setting.origin.unit if setting.origin else ""
    return f"{text} {unit}".strip()


def markdown(settings: Iterable[Setting]) -> str:
    """Write ``docs/defaults.md``."""
    lines = [
        "# Settings and where their defaults come from",
        "",
        "Made by `longdoc explain --markdown`; do not edit.",
    ]
    group = ""
    for setting in settings:
        top, _, rest = setting.name.partition(".")
        if top != group:
            group = top
            lines += [
                "",
                f"## {group}",
                "",
                "| Setting | Default | Meaning | Source |",
                "|---|---|---|---|",
            ]
        cells = (f"`{rest}`", value(setting), setting.meaning, source(setting))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def lines(setting: Setting) -> list[str]:
    """Explain one setting in a few lines."""
    return [
        setting.name,
        f"  default  {value(setting)}  ({spell(setting.type)})",
        f"  meaning  {setting.meaning}",
        f"  source   {source(setting)}",
    ]

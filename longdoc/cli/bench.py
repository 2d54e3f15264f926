"""``longdoc bench``."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from longdoc import environment
from longdoc.benchmark import page, roofline, suite
from longdoc.cli.options import whole
from longdoc.errors import RunError
from longdoc.settings import require
from longdoc.training.workplace import write_json


def bench(
    *,
    part: suite.Part = "all",
    quick: bool = False,
    rounds: Annotated[int, Parameter(converter=whole)] = 3,
    json_file: Path | None = None,
    roofline_file: Path | None = None,
    markdown: bool = False,
) -> None:
    """Measure the kernels against what else is installed, and against what the machine can do.

    Without --quick it takes half an hour and 20 GB. mambapy is measured where it is installed
    (pip install "longdoc[bench]").

    Example: longdoc bench --quick

    Parameters
    ----------
    part
        Whole models against the machine's limit, layers against other systems, unusual lengths and
        padding, or a whole training against its bare passes.
    quick
        Fewer layers and tokens; minutes instead of half an hour.
    rounds
        Measured runs of each case, after one that is not measured.
    json_file
        Where everything is kept as JSON. What an interrupted command measured stands beside it, as
        NAME.unfinished: figures that are compared come from one command, so none is gone on with.
    roofline_file
        Where the roofline of a Mamba layer's pieces is drawn, as SVG.
    markdown
        Print Markdown instead of columns.
    """
    require(rounds >= 1, "--rounds", "1 or more", rounds)
    for file in (json_file, roofline_file):
        if file is not None and (file.is_dir() or not file.parent.is_dir()):
            message = f"cannot write to {str(file)!r}; name a file in a folder that is there"
            raise RunError(message)
    missing = suite.left_out(part)
    if missing:
        print(missing, file=sys.stderr)
    found: list[suite.Measured] = []
    for measured in suite.run(part, quick, rounds, lambda text: print(text, file=sys.stderr)):
        found.append(measured)
        if json_file is not None:
            kept = {"environment": environment.describe(), "measured": [m.as_json() for m in found]}
            write_json(_unfinished(json_file), kept)
    if json_file is not None and found:
        _unfinished(json_file).replace(json_file)
    print(page.markdown(found) if markdown else page.table(found))
    if markdown:
        options = f" --part {part}" * (part != "all") + " --quick" * quick
        print(f"\n{page.origin(f'longdoc bench{options} --rounds {rounds}')}")
        if missing:
            print(f"\n({missing})")
    if roofline_file is not None:
        roofline.draw(*roofline.measure(), roofline_file)


def _unfinished(file: Path) -> Path:
    return file.with_name(f"{file.name}.unfinished")

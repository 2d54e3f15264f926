"""``longdoc bench``."""

import json
import sys
from pathlib import Path

from longdoc.benchmark import page, suite
from longdoc.experiments import environment


def bench(
    *,
    quick: bool = False,
    rounds: int = 3,
    json_file: Path | None = None,
    markdown: bool = False,
) -> None:
    """Measure the kernels against what else is installed, and against what the machine can do.

    Without --quick it takes half an hour and 10 GB. mambapy is measured where it is installed
    (pip install "longdoc[bench]").

    Example: longdoc bench --quick

    Parameters
    ----------
    quick
        Fewer layers and tokens; minutes instead of half an hour.
    rounds
        Measured runs of each case, after one that is not measured.
    json_file
        Where everything is kept as JSON.
    markdown
        Print Markdown instead of columns.
    """
    found = []
    for measured in suite.run(quick, rounds, lambda text: print(text, file=sys.stderr)):
        found.append(measured)
        if json_file is not None:
            kept = {"environment": environment.describe(), "measured": [m.as_json() for m in found]}
            unfinished = json_file.with_name(f".{json_file.name}")
            unfinished.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            unfinished.replace(json_file)
    print(page.markdown(found) if markdown else page.table(found))

"""``longdoc evaluate``."""

import json
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter
from rich.table import Table

from longdoc.cli.console import console, printable
from longdoc.experiments import evaluate as evaluation
from longdoc.experiments import store
from longdoc.experiments.store import Run
from longdoc.metrics.thresholds import MODES


def evaluate(
    run: Annotated[str, Parameter(help="Run folder")],
    *,
    split: Annotated[Literal["test", "validation"], Parameter(help="Which documents")] = "test",
    labels: Annotated[bool, Parameter(help="Also a row a label", negative=())] = False,
    format: Annotated[Literal["table", "json"], Parameter(help="How to print")] = "table",
) -> None:
    """Show a run's metrics, computed anew from its predictions.

    Example: longdoc evaluate runs/RUN --split test
    """
    opened = store.load(run)
    counts, documents = opened.data["training_counts"], opened.data["documents"]["train"]
    parts = opened.predictions()
    found = evaluation.evaluate(parts, counts, documents, opened.settings.thresholds)
    cuts = {mode: np.array(cut) for mode, cut in found["thresholds"].items()}
    rows = evaluation.label_rows(parts[split], counts, cuts) if labels else []
    if format == "json":
        shown = {"run": opened.name, "split": split, "metrics": found["splits"][split]}
        print(json.dumps({**shown, **({"labels": rows} if labels else {})}, indent=1))
        return
    print_run(replace(opened, metrics={**opened.metrics, **found}), split)
    if labels:
        _print_labels(rows, split, opened.settings.thresholds.mode)


def print_run(run: Run, split: str) -> None:
    """Print a run's metrics at all three kinds of thresholds."""
    table = Table(title=f"{run.system}: {run.data['dataset']} {run.data['task']}, {split}")
    table.add_column("metric")
    for mode in MODES:
        table.add_column(f"{mode} threshold", justify="right")
    metrics = run.metrics["splits"][split]
    for name in metrics[MODES[0]]:
        table.add_row(name, *(f"{metrics[mode][name]:.4f}" for mode in MODES))
    table.add_section()
    for name, value in metrics["ranking"].items():
        table.add_row(name, f"{value:.4f}", "", "")
    for group, measures in metrics.get("shots", {}).items():
        for name in ("rp@5", "ndcg@5"):
            title = f"{name}, {group} ({measures['labels']} labels)"
            table.add_row(title, f"{measures[name]:.4f}", "", "")
    console().print(table)
    for name, value in run.environment["notes"].items():
        print(f"{name.replace('_', ' ')}: {value}")


def _print_labels(rows: list[dict[str, Any]], split: str, mode: str) -> None:
    table = Table(title=f"labels on the {split} split, {mode} thresholds")
    for name in ("label", "train", split, "precision", "recall", "f1"):
        table.add_column(name, justify="left" if name == "label" else "right")
    for row in rows:
        shown = [f"{row[mode][name]:.3f}" for name in ("precision", "recall", "f1")]
        table.add_row(printable(row["label"]), str(row["train"]), str(row[split]), *shown)
    console().print(table)

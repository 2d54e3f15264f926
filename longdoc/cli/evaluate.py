"""``longdoc evaluate``."""

import json
from dataclasses import replace
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from longdoc.cli.console import console
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
    found = evaluation.evaluate(opened.predictions(), counts, documents, opened.settings.thresholds)
    if format == "json":
        shown = {"run": opened.name, "split": split, "metrics": found["splits"][split]}
        print(json.dumps({**shown, **({"labels": found["labels"]} if labels else {})}, indent=1))
        return
    print_run(replace(opened, metrics={**opened.metrics, **found}), split)
    if labels:
        _print_labels(found["labels"], opened.settings.thresholds.mode)


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


def _print_labels(rows: list[dict[str, object]], mode: str) -> None:
    table = Table(title=f"labels on the test split, {mode} thresholds")
    for name in ("label", "train", "test", "precision", "recall", "f1"):
        table.add_column(name, justify="left" if name == "label" else "right")
    for row in rows:
        measures: dict[str, float] = row[mode]  # type: ignore[assignment]
        shown = [f"{measures[name]:.3f}" for name in ("precision", "recall", "f1")]
        table.add_row(str(row["label"]), str(row["train"]), str(row["test"]), *shown)
    console().print(table)

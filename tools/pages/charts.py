"""The charts of a page, drawn with the templates of `dvc plots`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from dvc_render.vega import VegaRenderer

from stages.dataset import CLASSES
from tools import ROOT
from tools.pages.subject import Subject

TEMPLATES = ROOT / ".dvc/plots"


def chart(template: str, rows: Sequence[Mapping[str, Any]], **properties: str) -> dict[str, Any]:
    """Fill one of DVC's templates."""
    filled: dict[str, Any] = VegaRenderer(
        list(rows), template, template=template, template_dir=str(TEMPLATES), **properties
    ).get_filled_template()
    return filled


def charts(subject: Subject) -> dict[str, Any]:
    """Make the charts of all runs, by the name of their place in the page."""
    made = {
        quantity: chart(
            quantity,
            [
                {"rev": str(run), "field": f"{part}_{quantity}", "epoch": epoch, "value": value}
                for run in subject.runs
                for part in ("training", "validation")
                for epoch, value in zip(
                    run.history["epoch"].tolist(), run.history[f"{part}_{quantity}"].tolist(), strict=True
                )
            ],
            title=title, x="epoch", y="value", x_label="epoch", y_label=label,
        )
        for quantity, title, label in (
            ("accuracy", "Accuracy after each epoch (log scale of the errors)", "images classified correctly"),
            ("loss", "Loss after each epoch (log scale)", "mean cross-entropy (nats)"),
        )
    }  # fmt: skip
    counts = {str(run): run.counts for run in subject.runs}
    made["matrices"] = chart(
        "errors",
        [
            {"rev": name, "actual": actual, **{str(digit): int(row[digit]) for digit in range(CLASSES)}}
            for name, matrix in counts.items()
            for actual, row in enumerate(matrix)
        ],
        title="Test images by actual and predicted digit, and their share of the actual digit",
        x_label="predicted digit", y_label="actual digit",
    )  # fmt: skip
    if subject.paired:
        was, now = counts.values()
        made["difference"] = chart(
            "difference",
            [
                {"actual": actual, "predicted": predicted, "before": int(was[actual, predicted]),
                 "after": int(count), "more": int(count - was[actual, predicted])}
                for (actual, predicted), count in np.ndenumerate(now)
            ],
            title=f"Difference: images of {subject.after} less images of {subject.before}",
            x_label="predicted digit", y_label="actual digit",
        )  # fmt: skip
        low, high = subject.paired.interval
        made["interval"] = chart(
            "interval",
            [{"low": 100 * low, "high": 100 * high, "difference": 100 * subject.paired.difference}],
            title="Difference in test accuracy and its 95% interval",
            x_label="percentage points; right of 0 is better",
        )
    return made

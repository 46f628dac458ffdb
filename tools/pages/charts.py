"""The charts of a page, drawn with the templates of `dvc plots`."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from dvc_render.vega import VegaRenderer

from tools import ROOT
from tools.pages.subject import Subject
from tools.runs.paired import signed

TEMPLATES = ROOT / ".dvc/plots"


def chart(template: str, rows: Sequence[Mapping[str, Any]], **properties: str) -> dict[str, Any]:
    """Fill one of DVC's templates."""
    filled: dict[str, Any] = VegaRenderer(
        list(rows), template, template=template, template_dir=str(TEMPLATES), **properties
    ).get_filled_template()
    return filled


def charts(subject: Subject) -> dict[str, Any]:
    """Make the charts of all runs, by the name of their place in the page.

    Runs that cannot be compared have charts of their own, whose names end with the run's place, each in its own colour.
    """
    together = [subject.runs] if subject.paired or not subject.before else [[run] for run in subject.runs]
    made = {
        f"{quantity}{place or ''}": learning(quantity, {str(run): run.history for run in runs}, colour=place)
        for quantity in LEARNING
        for place, runs in enumerate(together)
    }
    if subject.paired and not subject.same:
        low, high = subject.paired.interval
        made["interval"] = chart(
            "interval",
            [
                {
                    "low": 100 * low,
                    "high": 100 * high,
                    "difference": 100 * subject.paired.difference,
                    "text": f"{signed(100 * low)} to {signed(100 * high)}",
                }
            ],
            title="Difference in test accuracy and its 95% interval",
            x_label="percentage points; right of 0 is better",
        )
    return made


LEARNING = {
    "accuracy": ("Accuracy after each epoch (log scale of the errors)", "images classified correctly"),
    "loss": ("Loss after each epoch (log scale)", "mean cross-entropy (nats)"),
}


def learning(quantity: str, histories: Mapping[str, pd.DataFrame], *, colour: int = 0) -> dict[str, Any]:
    """Draw how runs learned, by their names, from the palette's colour of this number on."""
    title, label = LEARNING[quantity]
    made = chart(
        quantity,
        [
            {"rev": name, "field": f"{part}_{quantity}", "epoch": epoch, "value": value}
            for name, history in histories.items()
            for part in ("training", "validation")
            for epoch, value in zip(
                history["epoch"].tolist(), history[f"{part}_{quantity}"].tolist(), strict=True
            )
        ],
        title=title, x="epoch", y="value", x_label="epoch", y_label=label,
    )  # fmt: skip
    scale = made["encoding"]["color"]["scale"]
    scale["range"] = scale["range"][colour:]
    return made

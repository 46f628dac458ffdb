"""The pictures of reports/. Colour-blind readers and readers of prints can tell the colours and marks apart."""

# ruff: noqa: E402 - Matplotlib reads these settings while it is imported.

import logging
import math
import os
from pathlib import Path

# Ignore the user's settings. They may name a back end of a notebook, or a file that does not exist.
os.environ["MPLBACKEND"] = "agg"
os.environ["MATPLOTLIBRC"] = os.devnull
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # Matplotlib warns if it cannot write to the user's home

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from stages.files import replacing

LEARNING_CURVES = Path("reports/learning_curves.png")
CONFUSION_MATRIX = Path("reports/confusion_matrix.png")
MISTAKES = Path("reports/mistakes.png")

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito's palette

mpl.rcdefaults()  # overrides a matplotlibrc in this folder
mpl.rcParams.update(
    {
        "font.family": "DejaVu Sans",  # part of Matplotlib, so the same everywhere
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "legend.frameon": False,
        "savefig.dpi": 120,
    }
)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG with the same bytes each time."""
    with replacing(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})


def learning_curves(history: pd.DataFrame) -> Figure:
    """Draw accuracy and loss after each epoch, for training and validation.

    `history` has the columns epoch, training_accuracy, training_loss, validation_accuracy and validation_loss.
    """
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    accuracy, loss = figure.subplots(1, 2)
    _training_and_validation(accuracy, history, "accuracy")
    accuracy.set(title="Accuracy", ylabel="images classified correctly")
    accuracy.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    _training_and_validation(loss, history, "loss")
    loss.set(title="Loss", ylabel="mean cross-entropy (nats, log scale)", yscale="log")
    loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _training_and_validation(axes: Axes, history: pd.DataFrame, quantity: str) -> None:
    axes.plot(
        history["epoch"],
        history[f"training_{quantity}"],
        "o--",
        color=BLUE,
        label="training (running mean, with dropout)",
    )
    axes.plot(history["epoch"], history[f"validation_{quantity}"], "s-", color=ORANGE, label="validation")
    axes.set(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def confusion_matrix(counts: NDArray[np.int64]) -> Figure:
    """Draw counts of (actual, predicted) digits. Cells with more errors are darker."""
    errors = counts.astype(float)
    np.fill_diagonal(errors, 0)
    total = int(counts.sum())
    wrong = int(errors.sum())
    figure = Figure(figsize=(7.2, 7.2), layout="constrained")
    axes = figure.subplots()
    darkest = max(errors.max(), 1)
    axes.imshow(errors, cmap="Oranges", vmin=0, vmax=1.6 * darkest)
    for (actual, predicted), count in np.ndenumerate(counts):
        right = actual == predicted
        axes.text(
            predicted,
            actual,
            f"{count:,}" if count else "·",
            ha="center",
            va="center",
            fontweight="bold" if right else "normal",
            color=BLUE if right else "black" if count else "0.6",
        )
    digits = range(len(counts))
    axes.set(
        title=f"Confusion matrix: {total - wrong:,} of {total:,} test images right, {wrong:,} wrong",
        xlabel="predicted digit",
        ylabel="actual digit",
        xticks=digits,
        yticks=digits,
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


SHOWN_MISTAKES = 30
COLUMNS = 6


def most_confident_mistakes(images: NDArray[np.float32], predictions: pd.DataFrame) -> Figure:
    """Draw the images (n, 28, 28) that were misclassified with the highest confidence, the most confident first.

    `predictions` has the columns actual, predicted and confidence, and one row for each image.
    """
    labels, predicted, confidence = (predictions[name].to_numpy() for name in ("actual", "predicted", "confidence"))
    wrong = np.flatnonzero(predicted != labels)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN_MISTAKES]
    rows = math.ceil(SHOWN_MISTAKES / COLUMNS)
    figure = Figure(figsize=(9.8, 9.2 * rows / 5), layout="constrained")
    figure.suptitle(
        f"The {len(shown)} most confident of {len(wrong):,} mistakes on {len(labels):,} test images",
        fontweight="bold",
    )
    grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, index in zip(grid, shown, strict=False):  # there may be fewer mistakes than axes
        axes.imshow(images[index], cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(
            f"{labels[index]}, taken for {predicted[index]}\n{confidence[index]:.1%} sure, no. {index}",
            fontsize=9,
            fontweight="normal",
            loc="center",
        )
    return figure

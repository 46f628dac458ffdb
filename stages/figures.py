"""The pictures of reports/. Colour-blind readers and readers of prints can tell the colours and marks apart."""

# ruff: noqa: E402 - Matplotlib reads these settings while it is imported.

import logging
import math
import os
from pathlib import Path

# Ignore the user's settings. They may name a back end of a notebook, or a file that does not exist.
# FreeType's and HarfBuzz's settings change the shapes and places of letters.
for name in [name for name in os.environ if name.startswith(("FREETYPE_", "HB_"))]:
    del os.environ[name]
os.environ["MPLBACKEND"] = "agg"
os.environ["MATPLOTLIBRC"] = os.devnull
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # Matplotlib warns if it cannot write to the user's home

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
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
    accuracy.set(title="Accuracy", ylabel="images classified correctly (log scale of the errors)")
    accuracy.set_yscale("function", functions=(_log_of_errors, lambda height: 1 - 10.0**-height))
    shares = 1 - history[["training_accuracy", "validation_accuracy"]].to_numpy()
    errors = _ticks(shares.round(9), least=LEAST_ERRORS, most=1)
    accuracy.set_yticks([1 - error for error in errors], [_percent(1 - error) for error in errors])
    accuracy.set_ylim(1 - errors[-1], 1 - errors[0])
    _training_and_validation(loss, history, "loss")
    loss.set(title="Loss", ylabel="mean cross-entropy (nats, log scale)", yscale="log")
    losses = _ticks(history[["training_loss", "validation_loss"]].to_numpy(), least=1e-6, most=1e6)
    loss.set_yticks(losses, [f"{value:g}" for value in losses])
    loss.set_ylim(losses[0], losses[-1])
    loss.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


LEAST_ERRORS = 1e-4  # that the scale shows, as on the pages


def _log_of_errors(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    height: NDArray[np.float64] = -np.log10(np.clip(1 - accuracy, LEAST_ERRORS, None))
    return height


def _percent(accuracy: float) -> str:
    decimals = 2 if accuracy > 0.999 else 1 if accuracy > 0.99 else 0
    return f"{accuracy:.{decimals}%}"


def _ticks(values: NDArray[np.float64], *, least: float, most: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten, at least three, from below all values to above them."""
    steps = [float(f"{first}e{power}") for power in range(-6, 7) for first in (1, 2, 5)]
    steps = [step for step in steps if least <= step <= most]
    low, high = np.clip([values.min(), values.max()], least, most)
    begin = max(at for at, step in enumerate(steps) if step <= low)
    end = min(at for at, step in enumerate(steps) if step >= high)
    begin = max(0, min(begin, end - 2))
    return steps[begin : max(end, begin + 2) + 1]


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
        axes.set_axis_on()
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color="0.85")
        axes.set_title(
            f"{labels[index]}, taken for {predicted[index]}\n{confidence[index]:.1%} sure, no. {index}",
            fontsize=9,
            fontweight="normal",
            loc="center",
            pad=3,
        )
    # A caption is nearer to its own picture, which has a frame, than to the one above.
    figure.get_layout_engine().set(hspace=0.1)  # type: ignore[union-attr, call-arg]
    return figure

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from stages import figures
from stages.history import Epoch
from tools import ROOT

HISTORY = pd.DataFrame([[1, 0.8, 0.6, 0.9, 0.3, 0.001], [2, 0.95, 0.2, 0.97, 0.1, 0.0]], columns=list(Epoch._fields))
COUNTS = np.diag(np.arange(90, 100)) + np.eye(10, k=1, dtype=int) * 3


def mistakes(count: int) -> Figure:
    rng = np.random.default_rng(0)
    predictions = pd.DataFrame({"actual": 0, "predicted": 0, "confidence": np.linspace(0.5, 1, 100)})
    predictions.loc[: count - 1, "predicted"] = 7
    return figures.most_confident_mistakes(rng.random((100, 28, 28), np.float32), predictions)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize(
    "draw",
    [lambda: figures.learning_curves(HISTORY), lambda: figures.confusion_matrix(COUNTS), lambda: mistakes(40)],
)
def test_a_picture_has_the_same_bytes_each_time(draw: object, tmp_path: Path) -> None:
    assert callable(draw)
    for name in ("first.png", "second.png"):
        figures.save(draw(), tmp_path / name)
    content = (tmp_path / "first.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content == (tmp_path / "second.png").read_bytes()
    assert b"Matplotlib" not in content


def test_learning_curves_show_both_sets_with_labels() -> None:
    accuracy, loss = figures.learning_curves(HISTORY).axes
    for axes, quantity in ((accuracy, "accuracy"), (loss, "loss")):
        training, validation = axes.lines
        np.testing.assert_array_equal(training.get_ydata(), HISTORY[f"training_{quantity}"])
        np.testing.assert_array_equal(validation.get_ydata(), HISTORY[f"validation_{quantity}"])
        np.testing.assert_array_equal(training.get_xdata(), [1, 2])
        assert axes.get_xlabel() == "epoch"
        assert axes.get_ylabel()
        # The lines can be told apart without colour.
        assert training.get_linestyle() != validation.get_linestyle()
        assert training.get_marker() != validation.get_marker()


@pytest.mark.parametrize(
    ("accuracies", "losses", "labels"),
    [
        ([0.64, 0.64], [1.2, 1.2], [["50%", "80%", "90%"], ["0.5", "1", "2"]]),
        ([0.8, 0.9995], [0.6, 0.002], [["80%", "90%", "95%", "98%", "99%", "99.5%", "99.8%", "99.9%", "99.95%"],
                                       ["0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]]),
        ([1.0, 1.0], [1e-6, 1e-6], [["99.95%", "99.98%", "99.99%"], ["1e-06", "2e-06", "5e-06"]]),
    ],
)  # fmt: skip
def test_learning_curves_have_the_scales_of_the_pages(
    accuracies: list[float], losses: list[float], labels: list[list[str]]
) -> None:
    rows = [
        [epoch + 1, accuracy, loss, accuracy, loss, 0.001]
        for epoch, (accuracy, loss) in enumerate(zip(accuracies, losses, strict=True))
    ]
    for axes, expected in zip(
        figures.learning_curves(pd.DataFrame(rows, columns=list(Epoch._fields))).axes, labels, strict=True
    ):
        found = [
            (label.get_text(), place) for label, place in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
        ]
        assert sorted(text for text, _ in found) == sorted(expected)
        places = sorted(place for _, place in found)
        # Both ends have a label.
        np.testing.assert_allclose(sorted(axes.get_ylim()), [places[0], places[-1]])


def test_a_caption_is_nearer_to_its_own_picture() -> None:
    figure = mistakes(40)
    figure.draw_without_rendering()
    first, below = figure.axes[0], figure.axes[figures.COLUMNS]
    caption = below.title.get_window_extent()
    to_its_own = caption.y0 - below.get_window_extent().y1
    to_the_one_above = first.get_window_extent().y0 - caption.y1
    assert 0 < to_its_own < to_the_one_above / 2


def test_the_confusion_matrix_shows_every_count() -> None:
    figure = figures.confusion_matrix(COUNTS)
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "Confusion matrix: 945 of 972 test images right, 27 wrong"
    assert texts(figure) == [f"{count}" if count else "·" for count in COUNTS.ravel()]


def test_the_most_confident_mistakes_come_first() -> None:
    figure = mistakes(40)
    titles = [axes.get_title(loc="center") for axes in figure.axes]
    assert len(titles) == 30
    assert titles[0] == "0, taken for 7\n69.7% sure, no. 39"
    assert titles[-1] == "0, taken for 7\n55.1% sure, no. 10"


@pytest.mark.parametrize("count", [0, 1])
def test_few_or_no_mistakes_are_drawn_too(count: int, tmp_path: Path) -> None:
    figure = mistakes(count)
    figures.save(figure, tmp_path / "mistakes.png")
    assert sum(bool(axes.get_title(loc="center")) for axes in figure.axes) == count


@pytest.mark.parametrize("shown", [1, 6, 29, 31, 40])
def test_shown_mistakes_sets_the_number_of_drawn_mistakes(
    shown: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(figures, "SHOWN_MISTAKES", shown)
    figure = mistakes(40)
    figures.save(figure, tmp_path / "mistakes.png")
    titles = [axes.get_title(loc="center") for axes in figure.axes if axes.get_title(loc="center")]
    assert len(titles) == shown
    assert titles[-1].endswith(f"no. {40 - shown}")
    assert figure.get_suptitle() == f"The {shown} most confident of 40 mistakes on 100 test images"


def test_the_users_settings_change_nothing(tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.write_text("backend: unknown\nfont.size: 40\nno setting\n")
    program = """
import sys
from pathlib import Path
import numpy as np
from stages import figures
from stages.history import Epoch
figures.save(figures.confusion_matrix(np.eye(10, dtype=int)), Path(sys.argv[1]))
"""
    pictures: list[bytes] = []
    for settings in (
        {},
        {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},  # what a notebook sets
        {"MPLBACKEND": "unknown"},
        {"MATPLOTLIBRC": str(tmp_path / "nowhere")},
        {"MATPLOTLIBRC": str(odd)},
        {"MPLCONFIGDIR": os.devnull},
        {"FREETYPE_PROPERTIES": "autofitter:no-stem-darkening=0"},  # what some users set for darker letters
        {"HB_SHAPER_LIST": "fallback"},
    ):
        path = tmp_path / f"{len(pictures)}.png"
        done = subprocess.run(
            [sys.executable, "-c", program, path],
            cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), settings
        pictures.append(path.read_bytes())
    assert len(set(pictures)) == 1

"""A page about a run, or about what a change made of it: `make report`, `make compare REV=before [REV2=after]`.

Everything on it is in git and DVC at the revisions: commits, branches, tags, experiments or registered versions.
Nothing is trained again. The page is one file, its charts and images inside; `--markdown` prints the same in short.
"""

import argparse
import base64
import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from dvc_render.vega import VegaRenderer
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages import dataset
from stages.dataset import CLASSES, SIDE
from stages.errors import InputError, one_line_errors
from stages.files import replacing
from stages.history import COLUMNS, HISTORY
from tools import paired, plots_page, revision
from tools.card import ENVIRONMENT, METRICS, share
from tools.paired import Paired
from tools.revision import ROOT, Revision

REPORT, COMPARISON = Path("reports/report.html"), Path("reports/compare.html")
CHARTS = ROOT / ".dvc/plots"  # as of `dvc plots`

DATA = "data/processed/"
PICTURES = {
    "Confusion matrix": "reports/confusion_matrix.png",
    "Learning curves": "reports/learning_curves.png",
    "Mistakes": "reports/mistakes.png",
}
HASH = 12  # digits of a hash that are shown
SHOWN = 500  # images of a group at most, which keeps the page below 3 MB
ACROSS = 25  # images beside each other in a file of them

Images = NDArray[np.float32]  # (n, 28, 28)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Part(Section):
    accuracy: float
    loss: float


class OfDigit(Section):
    digit: int
    images: int
    precision: float
    recall: float
    f1: float


class Tested(Part):
    errors: int
    calibration_error: float
    f1: float
    per_class: Annotated[list[OfDigit], Field(min_length=CLASSES, max_length=CLASSES)]


class Size(Section):
    parameters: int


class Metrics(Section):
    """What is shown of metrics.json."""

    train: Part
    validation: Part
    test: Tested
    model: Size


@dataclass(frozen=True)
class Run:
    """What lies at a revision."""

    revision: Revision
    params: Mapping[str, Any]  # by section.name
    metrics: Metrics
    history: pd.DataFrame
    predictions: pd.DataFrame
    environment: Mapping[str, str]  # processor and packages that trained
    packages: Mapping[str, str]  # versions, by name
    code: Mapping[str, str]  # hashes, abbreviated, of the stages' files
    data: Mapping[str, str]  # hashes, abbreviated, of what `prepare` made
    missing: str  # why the environment is not there, and the command that gets it

    def __str__(self) -> str:
        return self.revision.name


@dataclass(frozen=True)
class Subject:
    """What a page is about: a run, or what a change made of it."""

    after: Run
    before: Run | None = None
    paired: Paired | None = None  # if there are two runs on the same test images
    incomparable: str = ""  # why there are two runs and no `paired`

    @property
    def runs(self) -> list[Run]:
        return [self.before, self.after] if self.before else [self.after]

    @property
    def verdict(self) -> str:
        """What became of it, in a word."""
        if not (self.before and self.paired):
            return "◇ Not comparable"
        if self.before.predictions.equals(self.after.predictions):
            return "◆ The same predictions"
        return {"better": "▲ Better", "worse": "▼ Worse", "inconclusive": "◆ Inconclusive"}[self.paired.verdict]

    def proves_on(self, part: str) -> bool:
        """Whether the runs are proven to differ, and have the same images in a part of the data."""
        data = [run.data.get(f"{DATA}{part}.npz") for run in self.runs]
        return bool(self.paired and self.paired.verdict != "inconclusive" and data[0] == data[-1])

    @property
    def sentence(self) -> str:
        """What became of it, with the figures."""
        return paired.sentence(self.paired, str(self.before), str(self.after)) if self.paired else self.incomparable


class Headline(NamedTuple):
    """A metric that is shown first."""

    name: str
    path: str  # in metrics.json
    form: str  # in which it is printed
    difference: str
    direction: int  # 1 if more is better, -1 if less is, 0 if neither


HEADLINES = (
    Headline("test accuracy", "test.accuracy", "{:.2%}", "{:+.2f} points", 1),
    Headline("test errors", "test.errors", "{:,}", "{:+,}", -1),
    Headline("test loss (nats)", "test.loss", "{:.4f}", "{:+.4f}", -1),
    Headline("test F1, mean of classes", "test.f1", "{:.2%}", "{:+.2f} points", 1),
    Headline("calibration error", "test.calibration_error", "{:.2%}", "{:+.2f} points", -1),
    Headline("validation accuracy", "validation.accuracy", "{:.2%}", "{:+.2f} points", 1),
    Headline("validation loss (nats)", "validation.loss", "{:.4f}", "{:+.4f}", -1),
    Headline("training accuracy", "train.accuracy", "{:.2%}", "{:+.2f} points", 1),
    Headline("parameters of the network", "model.parameters", "{:,}", "{:+,}", 0),
)


class Row(NamedTuple):
    """A line of a table: what something was before and is after."""

    name: str
    before: str
    after: str
    difference: str = ""
    judgement: str = ""  # better or worse, if it is either


@dataclass(frozen=True)
class Digit:
    """A test image and what it was taken for."""

    index: int
    actual: int
    before: int
    before_confidence: float
    after: int
    after_confidence: float


@dataclass(frozen=True)
class Group:
    """Test images of one fate, the most confident mistakes first."""

    title: str
    explanation: str
    count: int
    shown: Sequence[Digit]
    images: str  # the shown ones in one PNG, as a data URI; empty if they are not there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", nargs="?", help="revision to compare with; without it, the page is about HEAD alone")
    parser.add_argument("after", nargs="?", default="HEAD", help="the revision after the change (default: HEAD)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown for a pull request, and write no page")
    parser.add_argument("--pictures", metavar="URL", help="of the committed files, up to the commit, for Markdown")
    arguments = parser.parse_args()
    if arguments.pictures and not arguments.markdown:
        raise InputError("--pictures is for --markdown alone: the page has no links")
    after = load(revision.resolve(arguments.after))
    subject = compare(load(revision.resolve(arguments.before)), after) if arguments.before else Subject(after)
    if arguments.markdown:
        print(markdown(subject, arguments.pictures))
        return
    images, missing = (None, "") if subject.incomparable else load_images(after)
    path = COMPARISON if subject.before else REPORT
    with replacing(path) as temporary:
        temporary.write_text(page(subject, images, missing), encoding="utf-8")
    if subject.before:
        print(subject.sentence)
    for line in unavailable(subject, missing):
        print(line)
    print(f"{path.absolute().as_uri()} ({path.stat().st_size / 1e6:.1f} MB)")


# What lies at a revision


def load(of: Revision) -> Run:
    """Read a revision's evidence.

    Raises `InputError` if a file is missing that is in git, or is not what the stages write.
    """
    lock = revision.lock(of)["stages"]
    try:
        environment, missing = revision.read_values(of, ENVIRONMENT), ""
    except InputError as error:
        environment, missing = {}, str(error)
    return Run(
        of,
        flat(revision.read_values(of, "params.yaml")),
        load_metrics(of),
        load_history(of),
        paired.load_predictions(of),
        environment,
        dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", revision.read_text(of, "requirements.txt"), re.MULTILINE)),
        {
            dep["path"]: str(dep.get("md5"))[:HASH]
            for stage in lock.values()
            for dep in stage.get("deps", [])
            if dep["path"].endswith(".py")
        },
        {path: hash_[:HASH] for path, hash_ in revision.hashes(of).items() if path.startswith(DATA)},
        missing,
    )


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name nested values by their whole path, with dots between."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{prefix}{name}"
        result |= flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return result


def load_metrics(of: Revision) -> Metrics:
    try:
        return Metrics.model_validate(revision.read_values(of, METRICS))
    except ValidationError as invalid:
        faults = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in invalid.errors()]
        raise InputError(f"{METRICS} at {of}: {'; '.join(faults)}; {revision.REMAKE}") from None


def load_history(of: Revision) -> pd.DataFrame:
    path = str(HISTORY)
    try:
        history = pd.read_csv(io.StringIO(revision.read_text(of, path)))
    except ValueError as error:
        raise InputError(f"{path} at {of}: no table: {error}") from None
    numbers = history.apply(pd.to_numeric, errors="coerce").astype(float)
    if list(history.columns) != COLUMNS or history.empty or not np.isfinite(numbers).all(axis=None):
        raise InputError(
            f"{path} at {of}: expected finite numbers {', '.join(COLUMNS)} of at least one epoch, found "
            f"{np.isfinite(numbers).all(axis=1).sum()} such rows of {', '.join(history.columns)}; {revision.REMAKE}"
        )
    return numbers


def load_images(of: Run) -> tuple[Images | None, str]:
    """Read the test images, or say why they are not there and how to get them."""
    path = str(dataset.TEST)
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        try:
            file.write(revision.read_bytes(of.revision, path))
            file.flush()
            images = dataset.load(Path(file.name)).images
        except InputError as error:
            return None, str(error).replace(file.name, f"{path} at {of}")
    if len(images) != len(of.predictions):
        return None, (
            f"{path} at {of}: expected {len(of.predictions):,} images, as {paired.PREDICTIONS} has rows, found "
            f"{len(images):,}; {revision.REMAKE}"
        )
    return images, ""


# What is said of it


def compare(before: Run, after: Run) -> Subject:
    """Compare two runs, image by image where both were tested on the same.

    Raises `InputError` if they are one.
    """
    if before.revision.commit == after.revision.commit:
        raise InputError(f"{before} and {after} are the same commit: nothing to compare; `make report` shows one")
    try:
        return Subject(after, before, paired.compare_revisions(before.revision, after.revision))
    except InputError as error:
        return Subject(after, before, incomparable=str(error))


def headlines(subject: Subject) -> list[Row]:
    """Lay out the metrics that come first, with their differences.

    A difference is called better or worse only on the same images, and if the test proves that the runs differ.
    """
    old = flat(subject.before.metrics.model_dump()) if subject.before else None
    new = flat(subject.after.metrics.model_dump())
    rows = []
    for name, path, form, difference, direction in HEADLINES:
        if not old:
            rows.append(Row(name, "", form.format(new[path])))
            continue
        change = new[path] - old[path]
        shown = difference.format(100 * change if "points" in difference else change)
        gain = change * direction if subject.proves_on(path.partition(".")[0]) else 0
        rows.append(
            Row(name, form.format(old[path]), form.format(new[path]), shown,
                "better" if gain > 0 else "worse" if gain < 0 else "")
        )  # fmt: skip
    return rows


def changes(before: Run, after: Run) -> dict[str, list[Row]]:
    """List what differs between two runs: parameters, data, code and environment."""
    return {
        "Parameters": differing(before.params, after.params),
        "Data": differing(before.data, after.data),
        "Code": differing(before.code, after.code),
        "Environment": [*differing_environments(before, after), *differing(before.packages, after.packages)],
    }


def differing_environments(before: Run, after: Run) -> list[Row]:
    """List what differs between the processors and packages that trained, if both are known."""
    if before.environment and after.environment:
        return differing(before.environment, after.environment)
    return [Row(ENVIRONMENT, *("recorded" if run.environment else "not known" for run in (before, after)))]


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Row]:
    """List the values that differ, `none` where there is none."""
    return [
        Row(name, *(str(values[name]) if name in values else "none" for values in (before, after)))
        for name in sorted({**before, **after})
        if before.get(name, _NONE) != after.get(name, _NONE)
    ]


_NONE = object()


def groups(subject: Subject, images: Images | None) -> list[Group]:
    """Sort the test images that either run gets wrong by what became of them; none if there are two sets of them."""
    if subject.incomparable:
        return []
    new = subject.after.predictions
    old = subject.before.predictions if subject.before else new
    actual = new["actual"]
    was_right, is_right = old["predicted"] == actual, new["predicted"] == actual
    if not subject.before:
        return [group("Wrong", "The digits it takes for others.", old, new, mistakes=new[~is_right], images=images)]
    return [
        group(
            "Newly fixed", "Wrong before, right after.", old, new, mistakes=old[~was_right & is_right], images=images
        ),
        group(
            "Newly broken", "Right before, wrong after.", old, new, mistakes=new[was_right & ~is_right], images=images
        ),
        group("Still wrong", "Wrong before and after.", old, new, mistakes=new[~was_right & ~is_right], images=images),
    ]


def group(
    title: str,
    explanation: str,
    old: pd.DataFrame,
    new: pd.DataFrame,
    *,
    mistakes: pd.DataFrame,  # the rows, of one of the two, that are wrong
    images: Images | None,
) -> Group:
    """Show the images of mistakes, the surest first."""
    order = mistakes["confidence"].sort_values(ascending=False, kind="stable").index[:SHOWN]
    digits = [
        Digit(index, actual, before, before_confidence, after, after_confidence)
        for index, actual, before, before_confidence, after, after_confidence in zip(
            new["index"][order].tolist(),
            new["actual"][order].tolist(),
            old["predicted"][order].tolist(),
            old["confidence"][order].tolist(),
            new["predicted"][order].tolist(),
            new["confidence"][order].tolist(),
            strict=True,
        )
    ]
    picture = sheet(images[order]) if images is not None and len(order) else ""
    return Group(title, explanation, len(mistakes), digits, picture)


def sheet(images: Images) -> str:
    """Put images (n, 28, 28) into one PNG, black on white and `ACROSS` in a row, and return it as a data URI."""
    down = -(-len(images) // ACROSS)
    canvas = np.zeros((down * ACROSS, SIDE, SIDE), np.float32)
    canvas[: len(images)] = images
    pixels = canvas.reshape(down, ACROSS, SIDE, SIDE).transpose(0, 2, 1, 3).reshape(down * SIDE, ACROSS * SIDE)
    file = io.BytesIO()
    Image.fromarray((255 - 255 * pixels).round().astype(np.uint8)).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def per_class(subject: Subject) -> list[dict[str, Any]]:
    """Put each digit's figures of both runs side by side."""
    old = subject.before.metrics.test.per_class if subject.before else [None] * CLASSES
    fates = subject.paired.per_class if subject.paired else [None] * CLASSES
    return [
        {"before": was, "after": now, "fate": fate}
        for was, now, fate in zip(old, subject.after.metrics.test.per_class, fates, strict=True)
    ]


def unavailable(subject: Subject, images: str) -> list[str]:
    """List what is not on the page, and the commands that get it."""
    return list(filter(None, [*(run.missing for run in subject.runs), images]))


# The charts, as of `dvc plots`


def chart(template: str, rows: Sequence[Mapping[str, Any]], **properties: str) -> dict[str, Any]:
    """Fill one of DVC's templates."""
    filled: dict[str, Any] = VegaRenderer(
        list(rows), template, template=template, template_dir=str(CHARTS), **properties
    ).get_filled_template()
    return filled


def charts(subject: Subject) -> dict[str, Any]:
    """Make the charts of all runs, by the place in the page that they go to."""
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
    counts = {str(run): paired.confusion(run.predictions) for run in subject.runs}
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


# The page and its short form


def page(subject: Subject, images: Images | None, missing: str) -> str:
    """Return the whole page; everything that comes from files is escaped."""
    return (
        templates(escape_html=True)
        .get_template("compare.html.j2")
        .render(
            context(subject),
            drawing=Markup(plots_page.drawing(plots_page.PAGE.read_text(encoding="utf-8"))),  # noqa: S704 - our own
            charts=charts(subject),
            groups=groups(subject, images),
            missing=unavailable(subject, missing),
            counts=[paired.confusion(run.predictions) for run in subject.runs],
            across=ACROSS,
            side=SIDE,
        )
    )


def markdown(subject: Subject, pictures: str | None) -> str:
    """Return the short form; `pictures` is where the repository's files are, up to the commit."""
    return (
        templates(escape_html=False)
        .get_template("compare.md.j2")
        .render(
            context(subject),
            pictures=pictures and pictures.rstrip("/"),
            files=changed_pictures(subject),
            missing=unavailable(subject, images=""),
        )
    )


def changed_pictures(subject: Subject) -> dict[str, str]:
    """Choose the pictures, by title, that are not the same in all runs."""
    if not subject.before:
        return PICTURES
    hashes = [revision.hashes(run.revision) for run in subject.runs]
    return {title: path for title, path in PICTURES.items() if len({of.get(path) for of in hashes}) > 1}


def context(subject: Subject) -> dict[str, Any]:
    """What both forms say."""
    before, after = subject.before, subject.after
    return {
        "before": before,
        "after": after,
        "runs": subject.runs,
        "paired": subject.paired,
        "verdict": subject.verdict,
        "sentence": subject.sentence,
        "headlines": headlines(subject),
        "interval": share(
            (after.predictions["actual"] == after.predictions["predicted"]).sum(), len(after.predictions)
        )[1],
        "changes": changes(before, after) if before else {},
        "per_class": per_class(subject),
    }


def templates(*, escape_html: bool) -> Environment:
    """Make what fills the templates in; nothing from a file is taken for markup, neither of HTML nor of Markdown."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=escape_html,  # noqa: S701 - `plain` does it for Markdown
        finalize=None if escape_html else plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def plain(value: object) -> str:
    """Write a value so that Markdown and HTML take nothing in it for markup: other characters as entities."""
    return re.sub(r"[^A-Za-z0-9 .,:;%/+=()▲▼◆◇-]", lambda found: f"&#{ord(found[0])};", " ".join(str(value).split()))


if __name__ == "__main__":
    with one_line_errors():
        main()

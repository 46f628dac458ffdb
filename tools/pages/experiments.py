"""Write a page about all experiments and versions, to sort, filter and compare them: `make experiments`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from stages import dataset
from stages.errors import InputError, one_line_errors
from stages.files import replacing
from tools import make_parser
from tools.pages import compare, plots_page
from tools.pages.charts import learning
from tools.pages.page import templates
from tools.pages.subject import test_images
from tools.runs.experiments import Entry, load_all
from tools.runs.paired import exact_interval
from tools.runs.versions import ARTIFACT

EXPERIMENTS = Path("reports/experiments.html")
SEED = "train.seed"  # runs that differ in nothing else are one candidate

# Metrics of the table: field of the report, name, decimals of the value in percent or as it is, and whether it is shown
# at first.
METRICS = (
    ("test.accuracy", "test accuracy", "percent", True),
    ("test.errors", "test errors", "count", True),
    ("test.loss", "test loss", "number", False),
    ("test.f1", "test F1", "percent", False),
    ("test.calibration_error", "calibration error", "percent", False),
    ("validation.accuracy", "validation accuracy", "percent", True),
    ("validation.loss", "validation loss", "number", False),
    ("train.accuracy", "training accuracy", "percent", False),
    ("train.loss", "training loss", "number", False),
    ("model.parameters", "parameters of the network", "count", False),
)


def main() -> None:
    make_parser(__doc__).parse_args()
    entries, faults = load_all()
    if not entries:
        raise InputError("; ".join(faults))
    with replacing(EXPERIMENTS) as temporary:
        temporary.write_text(page(entries, faults, compare.kept()), encoding="utf-8")
    for fault in faults:
        print(f"not on the page: {fault}")
    print(f"{len(entries):,} runs: {EXPERIMENTS.absolute().as_uri()} ({EXPERIMENTS.stat().st_size / 1e6:.1f} MB)")


def page(entries: Sequence[Entry], faults: Sequence[str], comparisons: Sequence[str] = ()) -> str:
    """Return the whole page, which links the pages of compared runs beside it. Texts from files are escaped."""
    best = [max(of, key=lambda entry: entry.report.test.accuracy) for of in by_test_set(entries).values()]
    # The page replaces the data by those of the chosen runs.
    charts = {quantity: learning(quantity, {best[0].name: best[0].history}) for quantity in ("accuracy", "loss")}
    return (
        templates(escape_html=True)
        .get_template("experiments.html.j2")
        .render(
            drawing=Markup(plots_page.drawing(plots_page.PAGE.read_text(encoding="utf-8"))),  # noqa: S704 - our own
            best=[(tested_on(entry), entry, interval(entry)) for entry in best],
            count=len(entries),
            consists=consists(entries),
            faults=faults,
            charts=charts,
            table=table(entries),
            comparisons=comparisons,
        )
    )


def consists(entries: Sequence[Entry]) -> str:
    """Say how many runs of which kind there are."""
    experiments = sum(entry.about.kind == "experiment" for entry in entries)
    versions = sum(entry.name.startswith(f"{ARTIFACT}@") for entry in entries)
    others = [entry.name for entry in entries if entry.about.kind == "workspace" or entry.name == "HEAD"]
    counted = ((versions, "version"), (experiments, "experiment"))
    return ", ".join([*others, *(f"{count:,} {kind}{'' if count == 1 else 's'}" for count, kind in counted)])


def by_test_set(entries: Sequence[Entry]) -> dict[object, list[Entry]]:
    """Group runs by the images that they were tested on, the largest group first. Only within one, runs compare."""
    groups: dict[object, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_test_set(entry), []).append(entry)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def _test_set(entry: Entry) -> object:
    return dict(entry.made_of).get(dataset.TEST.as_posix())


def tested_on(entry: Entry) -> str:
    """Name a run's test images in words."""
    return test_images(entry.params, images_of(entry))


def images_of(entry: Entry) -> int:
    return sum(digit.images for digit in entry.report.test.per_class or ())


def table(entries: Sequence[Entry]) -> dict[str, Any]:
    """Collect what the page's table shows. Values are in the order of the columns."""
    names = sorted({name for entry in entries for name in entry.params})
    varying = [name for name in names if len({text(entry.params.get(name)) for entry in entries}) > 1]
    code: dict[object, int] = {}
    sets = list(by_test_set(entries))
    return {
        "metrics": [{"name": name, "form": form, "shown": shown} for _, name, form, shown in METRICS],
        "sets": len(sets),
        "params": [{"name": name, "shown": name in varying} for name in names],
        "rows": [
            {
                "name": entry.name,
                "kind": entry.about.kind,
                "commit": entry.about.commit[:10],
                "subject": entry.about.subject,
                "author": entry.about.author,
                "date": entry.about.date.strftime("%Y-%m-%d %H:%M"),
                "metrics": [_value(entry, field) for field, *_ in METRICS],
                "interval": interval(entry),
                "set": sets.index(_test_set(entry)),
                "tested": tested_on(entry),
                "params": [plain(entry.params.get(name)) for name in names],
                "candidate": code.setdefault(_candidate(entry), len(code)),
                "history": {
                    f"{part}_{quantity}": entry.history[f"{part}_{quantity}"].round(5).tolist()
                    for quantity in ("accuracy", "loss")
                    for part in ("training", "validation")
                },
            }
            for entry in entries
        ],
    }


def _candidate(entry: Entry) -> object:
    """Return what the seeds of one candidate share: all parameters but the seed, code, requirements and data."""
    return frozenset((name, text(value)) for name, value in entry.params.items() if name != SEED), entry.made_of


def _value(entry: Entry, field: str) -> float | None:
    section, name = field.split(".")
    value: float | None = getattr(getattr(entry.report, section), name, None)
    return value


def interval(entry: Entry) -> tuple[float, float] | None:
    """Return Clopper and Pearson's exact 95% interval of the test accuracy, where the number of images is known."""
    test = entry.report.test
    images = images_of(entry)
    right = images - test.errors
    if not 0 <= right <= images or not images:
        return None
    low, high = exact_interval(right, images)
    return round(low, 6), round(high, 6)


def plain(value: object) -> object:
    """Return a parameter as the page sorts and shows it: a number, or its text."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else text(value)


def text(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)


if __name__ == "__main__":
    with one_line_errors():
        main()

"""The model card of a registered version, which is its tag's message: `make card VERSION=v1.0.0` prints it.

`make register` makes it of what the commit records; nothing in it is written by hand.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from scipy.stats import binomtest
from scmrepo.git import Git

from stages.dataset import CLASSES
from stages.errors import InputError, one_line_errors
from tools import registry, revision
from tools.paired import compare_revisions, confusion, load_predictions, sentence
from tools.revision import LOCK, ROOT, Revision

MODEL = "models/lstm.keras"
ENVIRONMENT = "models/environment.json"
METRICS = "reports/metrics.json"
DATA = Path("data")

# By params.yaml's prepare.dataset.
LICENCES = {
    "mnist": "MNIST, Yann LeCun, Corinna Cortes and Christopher J. C. Burges: CC BY-SA 3.0",
    "digits": "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, in scikit-learn: CC BY 4.0",
}
WORST = 5  # pairs of digits
WEAKEST = 3  # digits
SURE = 0.99  # confidence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version", help="v1.0.0")
    name = parser.parse_args().version
    with closing(Git(str(ROOT))) as scm:
        print(registry.message(scm, registry.find_version(scm, name)))


def card(name: str, of: Revision, parent: Revision | None) -> str:
    """Describe the model of a revision in Markdown, as the version `name` that follows `parent`."""
    lock = revision.lock(of)
    hashes = revision.hashes(of)
    params = params_of(lock)
    predictions = load_predictions(of)
    counts = confusion(predictions)
    try:
        metrics = json.loads(revision.read_text(of, METRICS))
        dataset = params["prepare"]["dataset"]
        size = metrics["model"]
        test = metrics["test"]
        figures = {"loss (nats)": test["loss"], "calibration error": test["calibration_error"]}
        summary = f"{size['parameters']:,} parameters, {size['bytes']:,} bytes, MD5 {hashes[MODEL]}"
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{METRICS} and {LOCK} at {of}: no complete run ({error!r}); run `dvc repro`") from None
    return "\n\n".join(
        [
            f"# {registry.ARTIFACT} {name}",
            f"{MODEL} of commit {of.commit}: {summary}.",
            "## Data",
            markdown(("file", "MD5"), ((path, md5) for path, md5 in hashes.items() if DATA in Path(path).parents)),
            f"Licence: {LICENCES[dataset]}.",
            "## Results on the test images",
            markdown(
                ("", "value", "95% interval"),
                [("accuracy", *share(counts.trace(), counts.sum())), *((*row, "") for row in figures.items())],
            ),
            markdown(("digit", "images", "recall", "95% interval", "precision", "95% interval"), per_class(counts)),
            "## Confusion and known weaknesses",
            *weaknesses(predictions, counts),
            "## Parent",
            *lineage(name, of, parent),
            "## Parameters",
            "```yaml\n" + yaml.safe_dump(params, sort_keys=False) + "```",
            "## Environment of the training",
            markdown(("", ""), revision.read_values(of, ENVIRONMENT).items())
            if ENVIRONMENT in hashes
            else "Not recorded.",
        ]
    )


def params_of(lock: Any) -> dict[str, Any]:
    """Read the parameters that the stages ran with, section by section."""
    sections: dict[str, Any] = {}
    for stage in lock["stages"].values():
        sections |= stage.get("params", {}).get("params.yaml", {})
    return sections


def share(part: int | np.integer, whole: int | np.integer) -> tuple[str, str]:
    """Show a share in percent, and Clopper and Pearson's exact interval for it."""
    if not whole:
        return "", ""
    interval = binomtest(int(part), int(whole)).proportion_ci()
    return f"{part / whole:.2%}", f"{interval.low:.2%} to {interval.high:.2%}"


def per_class(counts: NDArray[np.int64]) -> list[tuple[object, ...]]:
    """Show of each digit how many of its images are recognized, and how many of the images taken for it are it."""
    actual, predicted = counts.sum(axis=1), counts.sum(axis=0)
    return [
        (
            digit,
            f"{actual[digit]:,}",
            *share(counts[digit, digit], actual[digit]),
            *share(counts[digit, digit], predicted[digit]),
        )
        for digit in range(CLASSES)
    ]


def weaknesses(predictions: pd.DataFrame, counts: NDArray[np.int64]) -> list[str]:
    """Say which digits are missed and taken for which, most often first, and how sure the model was."""
    images = counts.sum(axis=1)
    recall = {digit: counts[digit, digit] / images[digit] for digit in range(CLASSES) if images[digit]}
    weakest = sorted(recall, key=recall.__getitem__)[:WEAKEST]
    mistakes = {pair: count for pair, count in np.ndenumerate(counts) if count and pair[0] != pair[1]}
    worst = sorted(mistakes, key=mistakes.__getitem__, reverse=True)[:WORST]
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    sure = int((wrong["confidence"] >= SURE).sum())
    return [
        "Lowest recall: " + ", ".join(f"{digit} ({recall[digit]:.2%})" for digit in weakest) + ".",
        f"{len(wrong):,} mistakes, {sure:,} of them with a confidence of {SURE:.0%} or more. Most often confused:",
        markdown(
            ("actual", "predicted", "images", "of the actual"),
            [(*pair, mistakes[pair], f"{mistakes[pair] / images[pair[0]]:.2%}") for pair in worst],
        ),
    ]


def lineage(name: str, of: Revision, parent: Revision | None) -> list[str]:
    """Say which version this one follows, and compare the two."""
    if parent is None:
        return ["None: this is the first version."]
    try:
        paired = compare_revisions(parent, of)
    except InputError as error:
        return [f"{parent}, not compared: {error}"]
    changes = [
        (change.digit, f"{change.images:,}", change.fixed, change.broken)
        for change in paired.per_class
        if change.fixed or change.broken
    ]
    return [
        f"{parent}: {sentence(paired, parent.name, f'{registry.ARTIFACT}@{name}')}.",
        *([markdown(("digit", "images", "fixed", "broken"), changes)] if changes else []),
    ]


def markdown(head: Sequence[object], rows: Iterable[Iterable[object]]) -> str:
    """Lay out a table, its cells' text as it is."""
    lines = [head, ("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    with one_line_errors():
        main()

"""The model card of a registered version, which is its tag's message: `make card VERSION=v1.0.0` prints it.

`make register` makes it of what the commit records; nothing in it is written by hand. What was decided on its test
images since then is added when it is printed.
"""

from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from scmrepo.git import Git

from stages import archive, dataset
from stages.dataset import CLASSES
from stages.errors import InputError, one_line_errors
from stages.terminal import printable
from tools import ROOT, make_parser
from tools.registry import attempts
from tools.registry.attempts import Attempt
from tools.runs import run, versions
from tools.runs.paired import SIGNIFICANCE, compare_revisions, sentence, share
from tools.runs.revision import Revision, git_errors, read_lock, resolve
from tools.runs.run import Run
from tools.tables import markdown

DATA = Path("data")

# By params.yaml's prepare.dataset.
LICENCES = {
    "mnist": "MNIST, Yann LeCun, Corinna Cortes and Christopher J. C. Burges: CC BY-SA 3.0",
    "digits": "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, in scikit-learn: CC BY 4.0",
}
WORST = 5  # pairs of digits
WEAKEST = 3  # digits
SURE = 0.99  # confidence
SINGLE = (
    f"This is a single comparison, two-sided at {SIGNIFICANCE:.0%}. `make promote` asks for more before it calls a "
    "version better."
)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("version", help="v1.0.0")
    name = parser.parse_args().version
    with git_errors(ROOT), closing(Git(str(ROOT))) as scm:
        version = versions.find_version(scm, name)
        print(shown(versions.message(scm, version)))
        test_set = read_lock(resolve(version.tag)).hashes.get(dataset.TEST.as_posix())
        known = attempts.load(scm, test_set) if test_set else []
        print(shown(f"\n## Choice on the test images\n\n{choice(known, version.commit)}"))


def shown(text: str) -> str:
    """Show text that anyone may have written into a tag, line by line."""
    return "\n".join(map(printable, text.split("\n")))


def card(name: str, of: Revision, parent: Revision | None) -> str:
    """Describe the model of a revision in Markdown, as the version `name` that follows `parent`."""
    described = run.load(of)
    counts = described.counts
    hashes, test = described.lock.hashes, described.report.test
    data = [(path, md5) for path, md5 in hashes.items() if DATA in Path(path).parents]
    return "\n\n".join(
        [
            f"# {versions.ARTIFACT} {name}",
            f"{archive.PATH} of commit {of.commit}: {summary(described)}.",
            "## Data",
            markdown(("file", "MD5"), data, left=2),
            f"Licence: {licence(described)}.",
            "## Results on the test images",
            markdown(
                ("", "value", "95% interval"),
                [
                    ("accuracy", *share(counts.trace(), counts.sum())),
                    ("loss (nats)", recorded(test.loss), ""),
                    ("calibration error", recorded(test.calibration_error), ""),
                ],
            ),
            *own_results(described),
            markdown(("digit", "images", "recall", "95% interval", "precision", "95% interval"), per_class(counts)),
            "## Confusion and known weaknesses",
            *weaknesses(described.predictions, counts),
            "## Parent",
            *lineage(name, of, parent),
            "## Parameters",
            "```yaml\n" + yaml.safe_dump(described.lock.params, sort_keys=False) + "```",
            "## Environment of the training",
            markdown(("", ""), described.environment.items(), left=2)
            if described.environment
            else described.missing or "Not recorded.",
        ]
    )


def own_results(of: Run) -> list[str]:
    """Say how the model reads own test pictures; nothing if there are none."""
    own = of.report.own_test
    if own is None:
        return []
    accuracy, interval = share(own.images - own.errors, own.images)
    return [
        f"On {own.images:,} own test pictures: accuracy {accuracy} (95% interval {interval}), {own.errors:,} errors."
    ]


def choice(known: list[Attempt], commit: str) -> str:
    """Say how often versions were compared on the test images, how often this one won, and what that means."""
    took_part = [each for each in known if commit in (each.candidate_commit, each.holder_commit)]
    won = [each for each in took_part if (each.decision == "promoted") == (each.candidate_commit == commit)]
    if not known:
        return "No versions were compared for a promotion on these test images."
    said = f"Versions were compared for a promotion on these test images {times(len(known))}, this one "
    if not took_part:
        return f"{said}never."
    selected = (
        f"It won {times(len(won))}. So it was selected by its test accuracy: expect a lower accuracy on new images."
    )
    has_own = any(each.own for each in took_part)  # which may decide alone
    head = ("attempt", "candidate", "holder", "fixed", "broken", "p", *(["p on own pictures"] if has_own else []),
            "p needed", "decision")  # fmt: skip
    rows = [
        (each.attempt, each.candidate, each.holder, each.fixed, each.broken, f"{each.p:.3g}",
         *([f"{each.own.p:.3g}" if each.own else ""] if has_own else []), f"{each.alpha:.3g}", each.decision)
        for each in took_part
    ]  # fmt: skip
    return "\n\n".join([f"{said}{times(len(took_part))}.", *([selected] if won else []), markdown(head, rows)])


def times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def summary(of: Run) -> str:
    """Say how large the model is, and which file it is."""
    size = of.report.model
    parts = (
        f"{size.parameters:,} parameters" if size else "number of parameters not recorded",
        f"{size.bytes:,} bytes" if size and size.bytes else "",
        f"MD5 {of.lock.hashes.get(archive.PATH.as_posix(), 'not recorded')}",
    )
    return ", ".join(filter(None, parts))


def licence(of: Run) -> str:
    """Name the licence of the data that the model was trained on."""
    name = of.params.get("prepare.dataset")
    return LICENCES.get(
        str(name), f"not recorded for the data set {name}; add it to LICENCES in tools/registry/card.py"
    )


def recorded(value: float | None) -> str:
    return "not recorded" if value is None else str(value)


def per_class(counts: NDArray[np.int64]) -> list[tuple[object, ...]]:
    """Show of each digit the recall and the precision, each with its interval."""
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
    """List the most frequent confusions, and how confident the model was."""
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
        f"{parent}: {sentence(paired, parent.name, f'{versions.ARTIFACT}@{name}')}. {SINGLE}",
        *([markdown(("digit", "images", "fixed", "broken"), changes)] if changes else []),
    ]


if __name__ == "__main__":
    with one_line_errors():
        main()

import hashlib
import json
import re
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import yaml

from stages.errors import InputError
from stages.params import Prepare
from tests.clones import Clone, error_of
from tests.tables import cells
from tools.registry.attempts import Attempt, judge, share_of
from tools.registry.card import LICENCES, card, choice, lineage, per_class, shown, weaknesses
from tools.runs.paired import Paired, compare_predictions, one_sided
from tools.runs.revision import Revision, resolve
from tools.runs.versions import Version


def test_the_card_is_the_tags_message_and_says_what_the_commit_records(releases: Clone) -> None:
    printed = releases.run("python", "-m", "tools.registry.card", "v1.0.1")
    message = releases.run("git", "tag", "--list", "--format=%(contents)", "lstm@v1.0.1").strip()
    assert printed == (
        f"{message}\n\n## Choice on the test images\n\n"
        "No versions were compared for a promotion on these test images.\n"
    )
    assert printed.startswith("# lstm v1.0.1\n")

    commit = releases.run("git", "rev-parse", "run-v1.0.1").strip()
    assert f"models/lstm.keras of commit {commit}: " in printed
    lock = yaml.safe_load(releases.run("git", "show", "run-v1.0.1:dvc.lock"))
    for out in lock["stages"]["prepare"]["outs"]:
        assert [out["path"], out["md5"]] in cells(printed)
    assert f"Licence: {LICENCES['digits']}." in printed
    parameters = re.search("```yaml\n(.*)```", printed, re.DOTALL)
    assert parameters
    assert yaml.safe_load(parameters[1]) == yaml.safe_load(releases.run("git", "show", "run-v1.0.1:params.yaml"))
    for name, value in json.loads((releases.folder / "models/environment.json").read_text()).items():
        assert [name, value] in cells(printed)

    assert "lstm@v1.0.0: lstm@v1.0.1 is better than lstm@v1.0.0 on 359 test images: " in printed
    assert "None: this is the first version." in releases.run("python", "-m", "tools.registry.card", "lstm@v1.0.0")
    assert "lstm@v1.1.0: lstm@v1.1.1 is better than lstm@v1.1.0 on 359 test images: " in releases.run(
        "python", "-m", "tools.registry.card", "v1.1.1"
    )


def test_the_card_says_that_its_comparison_is_not_the_decision_on_a_promotion(monkeypatch: pytest.MonkeyPatch) -> None:
    actual = np.zeros(1_000, int)
    before, after = np.arange(1_000) < 8, np.arange(1_000) >= 999  # 8 are fixed, and 1 is broken
    paired = compare_predictions(actual, before.astype(int), after.astype(int))
    monkeypatch.setattr("tools.registry.card.compare_revisions", lambda *_: paired)
    older, newer = (Revision(name, name[-1] * 40, ".") for name in ("lstm@v1.0.0", "HEAD"))
    told, _ = lineage("v1.0.1", newer, older)
    assert told == (
        "lstm@v1.0.0: lstm@v1.0.1 is better than lstm@v1.0.0 on 1,000 test images: 8 fixed, 1 broken, accuracy +0.70 "
        "points (95% interval +0.15 to +1.48), exact McNemar p = 0.039. This is a single comparison, two-sided at 5%. "
        "`make promote` asks for more before it calls a version better."
    )
    assert share_of(1) < one_sided(8, 1) < 0.05, "the gate would refuse it"


def test_what_moves_a_cursor_is_shown_as_an_escape() -> None:
    assert shown("# lstm v1.0.0\n\n| \x1b[2J\r | \u2212 |") == "# lstm v1.0.0\n\n| \\x1b[2J\\r | \u2212 |"


def test_a_card_of_no_version_is_refused(releases: Clone) -> None:
    printed = releases.run("python", "-m", "tools.registry.card", "v7.0.0", exit_code=1)
    assert error_of(printed).startswith("error: v7.0.0: no registered version; found v1.0.0, ")


def test_other_test_images_are_said_and_not_compared(releases: Clone) -> None:
    lock = releases.folder / "dvc.lock"
    (hash_,) = {
        out["md5"]
        for stage in yaml.safe_load(lock.read_text())["stages"].values()
        for out in stage["outs"]
        if out["path"] == "data/processed/test.npz"
    }
    lock.write_text(lock.read_text().replace(hash_, "f" * 32))
    releases.commit("Other images")
    described = card("v2.0.0", resolve("HEAD", releases.folder), resolve("lstm@v1.1.1", releases.folder))
    assert "lstm@v1.1.1, not compared: lstm@v1.1.1 and HEAD were tested on other images" in described


def test_a_run_without_a_record_of_its_environment_has_a_card(releases: Clone) -> None:
    lock = yaml.safe_load((releases.folder / "dvc.lock").read_text())
    train = lock["stages"]["train"]
    train["outs"] = [out for out in train["outs"] if out["path"] != "models/environment.json"]
    (releases.folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    releases.commit("Older")
    assert card("v2.0.0", resolve("HEAD", releases.folder), None).endswith(
        "## Environment of the training\n\nNot recorded."
    )


def test_incomplete_metrics_are_named(releases: Clone) -> None:
    path = releases.folder / "reports/metrics.json"
    before = path.read_bytes()
    path.write_text('{"test": {}}')
    lock = releases.folder / "dvc.lock"
    old, new = (hashlib.md5(content).hexdigest() for content in (before, path.read_bytes()))  # noqa: S324 - DVC's choice
    lock.write_text(lock.read_text().replace(old, new))
    releases.commit("Incomplete")
    with pytest.raises(InputError, match=r"metrics\.json at HEAD: test\.accuracy: Field required; test\.errors: Field"):
        card("v2.0.0", resolve("HEAD", releases.folder), None)


def test_the_tables_count_confusions() -> None:
    predictions = pd.DataFrame(
        {
            "actual": [0, 0, 0, 0, 1, 1, 2],
            "predicted": [0, 0, 1, 1, 1, 0, 2],
            "confidence": [1, 1, 0.99, 0.5, 1, 0.5, 1],
        }
    )
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (predictions["actual"], predictions["predicted"]), 1)
    rows = per_class(counts)
    assert rows[0] == (0, "4", "50.00%", "6.76% to 93.24%", "66.67%", "9.43% to 99.16%")
    assert rows[9] == (9, "0", "", "", "", "")
    recall, mistakes, pairs = weaknesses(predictions, counts)
    assert recall == "Lowest recall: 0 (50.00%), 1 (50.00%), 2 (100.00%)."
    assert mistakes == "3 mistakes, 1 of them with a confidence of 99% or more. Most often confused:"
    assert cells(pairs)[2:] == [["0", "1", "2", "50.00%"], ["1", "0", "1", "50.00%"]]


def test_every_data_set_has_a_licence() -> None:
    assert set(LICENCES) == set(get_args(Prepare.model_fields["dataset"].annotation))


def test_the_card_says_how_often_it_was_chosen_on_the_test_images() -> None:
    older, newer, other = (Version(name, name[-1] * 40) for name in ("v1.0.0", "v1.1.1", "v1.2.2"))

    def paired(fixed: int, broken: int) -> Paired:
        before, after = np.arange(100) < fixed, np.arange(100) >= 100 - broken
        return compare_predictions(np.zeros(100, int), before.astype(int), after.astype(int))

    def judged(number: int, candidate: Version, holder: Version, fixed: int, own: Paired | None = None) -> Attempt:
        return judge(
            paired(fixed, 5), own, number=number, test_set="f" * 32, stage="prod", candidate=candidate, holder=holder
        )

    known = [judged(1, newer, older, 30), judged(2, other, newer, 5), judged(3, newer, other, 4)]
    assert [each.decision for each in known] == ["promoted", "refused", "refused"]
    assert choice([], older.commit) == "No versions were compared for a promotion on these test images."
    assert choice(known[1:], older.commit) == (
        "Versions were compared for a promotion on these test images twice, this one never."
    )
    said, table = choice(known[:1], older.commit).split("\n\n")  # it lost
    assert said == "Versions were compared for a promotion on these test images once, this one once."
    assert [row[0] for row in cells(table)[2:]] == ["1"]
    said, selected, table = choice(known, newer.commit).split("\n\n")
    assert said == "Versions were compared for a promotion on these test images 3 times, this one 3 times."
    assert selected == ("It won twice. So it was selected by its test accuracy: expect a lower accuracy on new images.")
    assert cells(table)[0] == ["attempt", "candidate", "holder", "fixed", "broken", "p", "p needed", "decision"]
    assert cells(table)[2:] == [
        ["1", "v1.1.1", "v1.0.0", "30", "5", "1.12e-05", "0.00833", "promoted"],
        ["2", "v1.2.2", "v1.1.1", "5", "5", "0.623", "0.00595", "refused"],
        ["3", "v1.1.1", "v1.2.2", "4", "5", "0.746", "0.00446", "refused"],
    ]
    on_own = judged(4, older, newer, 5, own=paired(20, 0))  # promoted by own test pictures alone
    _, _, table = choice([*known, on_own], older.commit).split("\n\n")
    assert cells(table)[0][5:] == ["p", "p on own pictures", "p needed", "decision"]
    assert [row[5:] for row in cells(table)[2:]] == [
        ["1.12e-05", "", "0.00833", "promoted"],
        ["0.623", "9.54e-07", "0.00174", "promoted"],
    ]

"""Reports may get more columns and metrics: the tools of each of two commits read the reports of the other."""

from pathlib import Path

import pytest

from stages import history, predictions, report
from tests.clones import Clone
from tools.verify import SAME

OLDER, NEWER = "lstm@v1.0.0", "lstm@v1.0.1"


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


@pytest.fixture
def grown(clone: Clone) -> Clone:
    """Two registered runs. The later run's code records one more column in both tables and one more metric."""
    clone.run("dvc", "push")
    clone.run("python", "-m", "tools.registry.register", "--bump", "major")
    stages = clone.folder / "stages"
    change(stages / "history.py", "    learning_rate: float", "    seconds: float = 0.5\n    learning_rate: float = 0")
    change(stages / "predictions.py", "(dict(zip(COLUMNS, columns, strict=True)))",
           "(dict(zip(COLUMNS, columns, strict=True))).assign(margin=0.5)")  # fmt: skip
    change(
        stages / "report.py",
        "    errors: int  # images\n    calibration",
        "    brier: float | None = None\n    errors: int  # images\n    calibration",
    )
    change(stages / "evaluate.py", "        errors=int(", "        brier=0.25,\n        errors=int(")
    clone.run("dvc", "repro")
    clone.commit("Another column in both tables, and another metric")
    clone.run("dvc", "push")
    clone.run("python", "-m", "tools.registry.register")
    return clone


@pytest.mark.timeout(900)
def test_the_tools_of_either_commit_read_the_other(grown: Clone) -> None:
    for path, name in ((history.PATH, "seconds"), (predictions.PATH, "margin"), (report.PATH, "brier")):
        assert name in grown.run("git", "show", f"{NEWER}:{path}")
        assert name not in grown.run("git", "show", f"{OLDER}:{path}")
    for here, other in ((OLDER, NEWER), (NEWER, OLDER)):
        grown.run("git", "checkout", "--quiet", here)
        grown.run("dvc", "checkout", "--quiet", "--force")
        for pair in ((here, other), (other, here)):
            assert "0 fixed, 0 broken" in grown.run("python", "-m", "tools.pages.compare", *pair)
            grown.run("python", "-m", "tools.pages.compare", *pair, "--markdown")
        assert grown.run("python", "-m", "tools.storage.check") == "everything is in order\n"
        stage = f"stage-{here[-1]}"
        grown.run("python", "-m", "tools.registry.promote", here, "--stage", stage)
        refused = grown.run("python", "-m", "tools.registry.promote", other, "--stage", stage, exit_code=1)
        assert f"{stage} stays with {here.removeprefix('lstm@')}" in refused
        for version in (here, other):
            assert f"# lstm {version.removeprefix('lstm@')}" in grown.run(
                "python", "-m", "tools.registry.card", version
            )
        assert f"{other}: all " in grown.run("python", "-m", "tools.verify", "--rev", other, exit_code=SAME)

"""Two people collect pictures at once, train on those of both, and compare."""

import re
import subprocess
from pathlib import Path

import pytest

from stages import archive, own, predictions
from tests.clones import Clone
from tests.own_pictures import draw_all
from tests.team.people import Team
from tests.team.test_day import check
from tools.runs.revision import read_lock, resolve


def collect(clone: Clone, folder: Path, numbers: range) -> str:
    """Label the drawn pictures with these numbers, and collect them."""
    for number, (digit, picture) in enumerate(draw_all(numbers.stop)):
        if number in numbers:
            path = folder / str(digit) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    return clone.run("python", "-m", "tools.collect", str(folder))


def names(clone: Clone) -> set[str]:
    return {path.name for path in (clone.folder / own.FOLDER).glob("[0-9]/*")}


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("storage", ["s3"], indirect=True)
def test_what_two_people_collect_is_merged_trained_on_compared_and_promoted(team: Team, tmp_path: Path) -> None:
    team.ann.run("python", "-m", "tools.registry.register", "--bump", "major")
    team.ann.run("python", "-m", "tools.registry.promote", "v1.0.0", "--stage", "prod")
    team.ann.run("git", "push", "--quiet", "origin", "lstm@v1.0.0", "lstm#prod#1")

    # Both add pictures of every digit, some of them the same, and neither has any before.
    assert "39 taken, 0 already there, 1 refused" in collect(team.ann, tmp_path / "of ann", range(40))
    assert "20 taken, 0 already there, 0 refused" in collect(team.ben, tmp_path / "of ben", range(35, 55))
    of_both = names(team.ann) | names(team.ben)
    assert len(of_both) == 54
    team.ann.run("dvc", "repro")
    team.ann.commit("Pictures of Ann, and a run on them")
    team.ann.run("dvc", "push")
    team.ann.run("git", "push", "--quiet")
    team.ben.commit("Pictures of Ben")
    merged = subprocess.run(
        ["git", "pull", "--no-rebase", "--no-edit", "--tags", "origin", "main"],
        cwd=team.ben.folder, env=team.ben.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert merged.stderr.count(".dvc: has the pictures of both sides; now run `dvc repro --pull`") == 10
    assert "test accuracy" in team.ben.run("dvc", "repro", "--pull")
    assert names(team.ben) == of_both
    team.ben.commit("The pictures of both, and a run on them")
    team.ben.run("dvc", "push")
    team.ben.run("git", "push", "--quiet")

    # Ann gets everything; without `dvc pull` her older folders are not taken for what she wants.
    team.ann.run("git", "pull", "--quiet")
    assert "HEAD has pictures of others" in team.ann.run("dvc", "repro", exit_code=255)
    team.ann.run("git", "restore", ".")
    team.ann.run("dvc", "pull")
    assert names(team.ann) == of_both
    assert team.ann.content() == team.ben.content()
    assert "everything is in order" in check(team.ann)
    third = team.join("third")
    third.run("dvc", "pull")
    assert third.content() == team.ben.content()

    # The model that never saw the pictures, on the same test pictures.
    team.ben.run("dvc", "exp", "run", "--temp", "--name", "before", "--set-param", "prepare.own_repeats=0")
    table = predictions.parse_own((team.ben.folder / predictions.OWN_PATH).read_text(), "own")
    told = team.ben.run("python", "-m", "tools.pages.compare", "before", "HEAD", "--markdown")
    assert re.search(rf"(better than|worse than|not proven different from) .* on {len(table)} own test pictures", told)
    first, before = (read_lock(resolve(rev, team.ben.folder)).hashes for rev in ("lstm@v1.0.0", "before"))
    for path in (archive.PATH, predictions.PATH):
        assert first[str(path)] == before[str(path)], "it is the model of the first run"

    # A moved picture has another digit, and a removed one is gone.
    moved, removed = sorted((third.folder / own.FOLDER / "3").iterdir())[:2]
    moved.rename(third.folder / own.FOLDER / "5" / moved.name)
    removed.unlink()
    third.run("dvc", "repro", "prepare")
    changed = third.run("git", "status", "--short").splitlines()
    assert changed == [f" M {own.FOLDER}/3.dvc", f" M {own.FOLDER}/5.dvc", " M dvc.lock"]

    team.ben.run("python", "-m", "tools.registry.register", "--bump", "minor")
    card = team.ben.run("python", "-m", "tools.registry.card", "v1.1.0")
    assert f"On {len(table)} own test pictures: accuracy " in card
    done = subprocess.run(
        ["python", "-m", "tools.registry.promote", "v1.1.0", "--stage", "prod"],
        cwd=team.ben.folder, env=team.ben.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert re.search("^v1.1.0 holds prod$|^prod stays with v1.0.0$", done.stdout, re.MULTILINE), done.stderr

"""Labelled pictures of our own, as `prepare` finds, splits and reads them."""

import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from stages import dataset, own, prepare
from stages.errors import InputError
from stages.pictures import read
from tests.clones import Clone
from tests.own_pictures import draw_all
from tests.parameters import SMALL, write_params
from tools import ROOT

COUNT = 40
UNREADABLE = {13}  # the stroke falls apart


def label(folder: Path, count: int = COUNT) -> list[Path]:
    """Put drawn pictures into a folder's data/own, as if DVC tracked them."""
    paths = []
    for number, (digit, picture) in enumerate(draw_all(count)):
        if number in UNREADABLE:
            continue
        path = folder / own.FOLDER / str(digit) / f"{number}.{'jpg' if number % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.with_suffix(".dvc").touch()
        picture.save(path)
        paths.append(path)
    return paths


@pytest.fixture
def labelled(in_empty_folder: Path) -> list[Path]:
    return label(in_empty_folder)


def prepared(**changes: object) -> list[bytes]:
    """Run the stage, and return what it makes."""
    write_params(Path(), **(SMALL | changes))
    prepare.main()
    paths = (dataset.TRAIN, dataset.VALIDATION, dataset.TEST, dataset.OWN_TEST)
    return [path.read_bytes() for path in paths]


def test_without_own_pictures_the_sets_have_the_bytes_of_before(in_empty_folder: Path) -> None:
    made = prepared()
    assert [hashlib.md5(content, usedforsecurity=False).hexdigest() for content in made[:3]] == [
        "7ec6171f3ce2cf17389f2b9eaf10fa71",
        "c8b751ade2b695bf639e9cd483139a61",
        "2e5e14dfdda832cd4bc6a277ffbdd0e4",
    ]
    assert len(dataset.load_named()) == 0
    (in_empty_folder / own.FOLDER).mkdir()
    shutil.copy(ROOT / own.FOLDER / ".gitignore", in_empty_folder / own.FOLDER)
    assert prepared(prepare__own_repeats=3) == made


def test_a_picture_is_normalized_as_for_a_prediction_and_seen_as_often_as_the_parameter_says(
    labelled: list[Path],
) -> None:
    without = prepared(prepare__own_repeats=0)
    assert without[:3] == [*prepared(prepare__own_repeats=0)][:3]
    alone, validation = dataset.load(dataset.TRAIN), dataset.load(dataset.VALIDATION)
    assert (len(alone), len(validation)) == (1_238, 200)
    prepared(prepare__own_repeats=3)
    train = dataset.load(dataset.TRAIN)
    of_part: dict[str, list[own.Picture]] = {part: [] for part in own.PARTS}
    for picture in own.find():
        of_part[picture.part].append(picture)
    assert sum(map(len, of_part.values())) == len(labelled)
    assert all(of_part.values())
    for images, before, part, times in (
        (train, alone, "training", 3),
        (dataset.load(dataset.VALIDATION), validation, "validation", 1),
    ):
        expected = np.stack([read(picture.path) for picture in of_part[part]])
        np.testing.assert_array_equal(images.images[: len(before)], before.images)
        np.testing.assert_array_equal(images.images[len(before) :], np.concatenate([expected] * times))
        digits = [picture.digit for picture in of_part[part]]
        assert images.labels[len(before) :].tolist() == digits * times
    test = dataset.load_named()
    np.testing.assert_array_equal(test.images, np.stack([read(picture.path) for picture in of_part["test"]]))
    assert test.names.tolist() == [picture.name for picture in of_part["test"]]
    assert dataset.OWN_TEST.read_bytes() == without[3], "the test pictures are the same with and without the training"


def test_a_picture_never_moves_between_the_parts(labelled: list[Path]) -> None:
    first = {picture.sha256: picture.part for picture in own.find()}
    added = label(Path(), 2 * COUNT)
    moved = labelled[0].rename(own.FOLDER / "1" / "renamed.png")
    later = {picture.sha256: (picture.part, picture.path) for picture in own.find()}
    assert len(later) == len(added)
    assert {sha256: later[sha256][0] for sha256 in first} == first
    assert moved in {path for _, path in later.values()}


def test_the_parts_have_their_shares() -> None:
    parts = [
        own.Picture(Path(), 0, hashlib.sha256(bytes([*divmod(number, 256)])).hexdigest()).part
        for number in range(5_000)
    ]
    shares = [parts.count(part) / len(parts) for part in own.PARTS]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.02)


def spoil(kind: str) -> str:
    """Spoil data/own, and return the message that is expected."""
    folder = own.FOLDER
    match kind:
        case "twice":
            shutil.copy(folder / "3" / "3.jpg", folder / "5" / "copy.jpg")
            return f"{folder}/3/3.jpg and {folder}/5/copy.jpg: the same picture twice; remove one"
        case "not tracked":
            (folder / "4.dvc").unlink()
            return f"{folder}/4: DVC does not track it, so nobody else would get it; run `dvc add {folder}/4`"
        case "not here":
            shutil.rmtree(folder / "4")
            return f"{folder}/4: not here, though {folder}/4.dvc names it; get it with `dvc pull`, or drop all its "
        case "another name":
            (folder / "ten").mkdir()
            return f"{folder}/ten: expected folders 0 to 9; move or remove it"
        case "a folder":
            (folder / "4" / "more").mkdir()
            return f"{folder}/4/more: expected a PNG or JPEG, found none; move or remove it"
        case _:
            (folder / "4" / "notes\n.txt").write_text("no picture")
            return rf"{folder}/4/notes\n.txt: no readable PNG or JPEG; move or remove it"


@pytest.mark.parametrize("kind", ["twice", "not tracked", "not here", "another name", "a folder", "no picture"])
def test_what_is_no_labelled_picture_is_named_with_a_remedy(kind: str, labelled: list[Path]) -> None:
    assert labelled
    expected = spoil(kind)
    with pytest.raises(InputError, match="^" + re.escape(expected)):
        prepared()
    assert not dataset.TRAIN.exists()


def test_a_file_in_place_of_a_folder_is_named_with_a_remedy(labelled: list[Path]) -> None:
    shutil.rmtree(labelled[0].parent)
    labelled[0].parent.touch()
    with pytest.raises(InputError, match=r"^data/own/0: expected a folder, found none; move or remove it$"):
        own.find()


def test_hidden_files_are_no_pictures(labelled: list[Path]) -> None:
    (own.FOLDER / ".DS_Store").touch()
    (own.FOLDER / "3" / ".DS_Store").touch()
    assert len(own.find()) == len(labelled)


# By the real `dvc`


def test_a_pipeline_of_head_that_dvc_cannot_read_hides_no_pictures_of_others(clone: Clone) -> None:
    label(clone.folder, 20)
    pipeline = (clone.folder / "dvc.yaml").read_text()
    (clone.folder / "dvc.yaml").write_text(f"<<<<<<< HEAD\n{pipeline}")
    clone.commit("A conflict")
    (clone.folder / "dvc.yaml").write_text(pipeline)
    printed = clone.run("dvc", "repro", "--force", "prepare", exit_code=255)
    assert "error: HEAD: DVC cannot read it (" in printed


def test_pictures_of_others_that_were_never_here_are_not_taken_for_removed(clone: Clone, tmp_path: Path) -> None:
    label(clone.folder, 20)
    for file in (clone.folder / own.FOLDER).glob("*.dvc"):
        file.unlink()
    digits = [f"{own.FOLDER}/{digit}" for digit in own.DIGITS]
    clone.run("dvc", "add", *digits)
    clone.commit("Pictures")
    clone.run("dvc", "push")
    other = Clone(tmp_path / "other")
    clone.run("git", "clone", "--quiet", ".", str(other.folder))
    other.run("dvc", "pull", *(f"{digit}.dvc" for digit in digits))

    added = clone.folder / own.FOLDER / "3" / "more.png"
    next(picture for digit, picture in draw_all(40) if digit == 3).save(added)
    clone.run("dvc", "add", f"{own.FOLDER}/3")
    removed = clone.folder / own.FOLDER / "4" / "4.png"
    removed.unlink()
    clone.run("dvc", "add", f"{own.FOLDER}/4")
    clone.commit("One more, and one less")
    clone.run("dvc", "push")
    other.run("git", "pull", "--quiet")
    printed = other.run("dvc", "repro", "prepare", exit_code=255)
    assert f"error: {own.FOLDER}/3: HEAD has pictures of others that this clone has not got yet" in printed
    other.run("sh", "-c", printed.split("before anything else: `")[1].split("`")[0])
    assert (other.folder / added.relative_to(clone.folder)).exists()
    assert not (other.folder / removed.relative_to(clone.folder)).exists()

    # What was here may go, and `dvc repro` records it.
    (other.folder / added.relative_to(clone.folder)).unlink()
    assert "own_test.npz" in other.run("dvc", "repro", "prepare")
    assert other.run("git", "status", "--short", str(own.FOLDER)) == f" M {own.FOLDER}/3.dvc\n"

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import archive, dataset
from stages.errors import InputError
from stages.model import Predictor
from stages.pictures import MANY, read
from tests.clones import Clone, error_of
from tools import predict
from tools.serve.source import fetch

PREDICT = ("python", "-m", "tools.predict")
COUNT = 50


@pytest.fixture(scope="module")
def pictures(first_run: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first test images as large dark digits on light paper, named by number and actual digit."""
    folder = tmp_path_factory.mktemp("pictures")
    test = dataset.load(first_run.folder / dataset.TEST)
    for number, (image, label) in enumerate(zip(test.images[:COUNT], test.labels, strict=False)):
        large = Image.fromarray(255 - (image * 255).astype(np.uint8)).resize((112, 112), Image.Resampling.BICUBIC)
        large.save(folder / f"{number:02}-{label}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324 - DVC's choice


def test_a_folder_is_classified_by_the_workspaces_model(first_run: Clone, pictures: Path) -> None:
    printed = json.loads(first_run.run(*PREDICT, str(pictures), "--json"))
    assert printed["model"] == "models/lstm.keras"
    assert printed["md5"] == md5_of(first_run.folder / archive.PATH)
    images = printed["images"]
    assert [image["image"] for image in images] == [str(path) for path in sorted(pictures.glob("*.png"))]
    for image in images:
        confidence = image["confidence"]
        assert list(confidence) == [str(digit) for digit in range(10)]
        assert sum(confidence.values()) == pytest.approx(1, abs=1e-5)
        assert max(confidence, key=confidence.__getitem__) == str(image["digit"])
    predictor = Predictor(archive.load(first_run.folder / archive.PATH))
    expected = predictor(np.stack([read(Path(image["image"])) for image in images]))
    np.testing.assert_allclose([list(image["confidence"].values()) for image in images], expected, rtol=0, atol=1e-5)


def test_named_pictures_make_a_table(first_run: Clone, pictures: Path) -> None:
    first, second = (str(path) for path in sorted(pictures.glob("*.png"))[:2])
    head, *rows = first_run.run(*PREDICT, second, first).splitlines()
    assert head.split() == ["image", "digit", *"0123456789"]
    assert [row.split()[0] for row in rows] == [second, first]
    for row in rows:
        _, digit, *shares = row.split()
        numbers = [float(share.rstrip("%")) for share in shares]
        assert sum(numbers) == pytest.approx(100, abs=0.5)
        assert int(digit) == int(np.argmax(numbers))


@pytest.fixture
def bare(releases: Clone, tmp_path: Path) -> str:
    """A hosting site's copy, whose storage any clone reaches, with v1.0.1 in production."""
    storage = releases.folder.parent / "mnist-lstm-storage"
    releases.run("dvc", "remote", "modify", "storage", "url", str(storage))
    releases.commit("Storage")
    releases.run("gto", "assign", "lstm", "--version", "v1.0.1", "--stage", "prod")
    releases.run("git", "clone", "--quiet", "--bare", ".", str(tmp_path / "hosted.git"))
    return str(tmp_path / "hosted.git")


def test_versions_of_this_and_any_clone_are_fetched_once(
    releases: Clone, bare: str, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "temporary").mkdir()
    elsewhere = Clone(tmp_path)
    elsewhere.environment |= {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path / "temporary"),
        "PYTHONPATH": str(releases.folder),
    }
    picture = str(next(pictures.glob("*.png")))

    def md5(*options: str) -> str:
        return str(elsewhere.json(*PREDICT, picture, "--json", *options)["md5"])

    def recorded(tag: str) -> str:
        lock = releases.run("git", "show", f"{tag}:dvc.lock").split("path: models/lstm.keras\n", 1)[1]
        return lock.split("md5: ")[1].split()[0]

    assert md5("--model", "lstm@v1.0.0") == recorded("run-v1.0.0")
    assert md5("--model", "lstm@prod") == recorded("run-v1.0.1")
    kept = tmp_path / "cache/mnist-lstm/models" / f"{recorded('run-v1.0.1')}.keras"
    assert md5_of(kept) == recorded("run-v1.0.1")

    # From elsewhere, damaged in the user's cache.
    kept.write_bytes(b"damaged")
    assert md5("--model", "lstm@prod", "--repo", bare) == recorded("run-v1.0.1")
    assert md5_of(kept) == recorded("run-v1.0.1")

    # From the user's cache alone.
    shutil.rmtree(releases.folder / ".dvc/cache")
    (releases.folder.parent / "mnist-lstm-storage").rename(tmp_path / "gone")
    assert md5("--model", "lstm@prod", "--repo", str(releases.folder)) == recorded("run-v1.0.1")
    printed = elsewhere.run(*PREDICT, picture, "--model", "lstm@v1.1.0", exit_code=1)
    assert "models/lstm.keras at lstm@v1.1.0: neither in the cache nor in the storage" in error_of(printed)
    assert list((tmp_path / "temporary").iterdir()) == [], "clones are left behind"


def test_many_pictures_are_read_side_by_side_in_their_order(first_run: Clone, pictures: Path, tmp_path: Path) -> None:
    originals = sorted(pictures.glob("*.png"))
    for number in range(MANY):
        shutil.copy(originals[number % len(originals)], tmp_path / f"{number:03}.png")
    (tmp_path / "100-none.png").write_text("no picture")
    images = json.loads(first_run.run(*PREDICT, str(tmp_path), "--json"))["images"]
    assert [image["image"] for image in images] == [str(tmp_path / f"{number:03}.png") for number in range(MANY)]
    alone = json.loads(first_run.run(*PREDICT, str(pictures), "--json"))["images"]
    for number, image in enumerate(images):
        np.testing.assert_allclose(
            list(image["confidence"].values()), list(alone[number % len(alone)]["confidence"].values()), atol=1e-6
        )


def test_what_cannot_be_read_in_a_folder_is_skipped_named_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = Image.new("L", (60, 60), 255)
    image.save(tmp_path / "blank.png")
    image.paste(0, (20, 10, 40, 50))
    image.save(tmp_path / "b.PNG")
    image.save(tmp_path / "a", "JPEG")
    image.save(tmp_path / "c.webp")
    image.save(tmp_path / "d.gif")
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7 what macOS writes beside a picture")
    (tmp_path / "notes\x1b[2J.txt").write_text("no picture")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    paths, images = predict.read([tmp_path])
    assert paths == [tmp_path / "a", tmp_path / "b.PNG"]
    assert images.shape == (2, 28, 28)
    none = "no readable PNG or JPEG"
    reasons = {
        "._a.png": none,
        "blank.png": "blank: expected a digit that stands out from its paper",
        "c.webp": none,
        "d.gif": none,
        "folder": f"{none}: expected a file, found a folder, pipe or device",
        r"notes\x1b[2J.txt": none,
        "pipe.png": f"{none}: expected a file, found a folder, pipe or device",
    }
    skipped = [f"skipped {tmp_path / name}: {reason}" for name, reason in reasons.items()]
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [*skipped, "skipped 7 of 9 files"]
    assert printed.out == ""


def test_a_named_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(InputError, match=r"a\.png: no readable PNG or JPEG"):
        predict.read([tmp_path / "a.png"])


@pytest.mark.parametrize("names", [[], ["notes.txt"]])
def test_a_folder_without_pictures_is_named(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("no picture")
    with pytest.raises(InputError, match=rf"{tmp_path}: expected pictures of a digit in PNG or JPEG, found none"):
        predict.read([tmp_path])


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_any_name_is_printed_in_any_encoding(first_run: Clone, pictures: Path, encoding: str, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff") + "\x1b[31m数.png"
    shutil.copy(next(pictures.glob("*.png")), tmp_path / name)
    table = first_run.run(*PREDICT, str(tmp_path), PYTHONIOENCODING=encoding)
    number = "数" if encoding == "utf-8" else r"\u6570"
    assert table.splitlines()[1].split()[0] == rf"{tmp_path}/\udcff\x1b[31m{number}.png"
    printed = json.loads(first_run.run(*PREDICT, str(tmp_path), "--json", PYTHONIOENCODING=encoding))
    assert printed["images"][0]["image"] == f"{tmp_path}/{name}"


def test_a_model_without_probabilities_is_refused(clone: Clone, pictures: Path) -> None:
    path = clone.folder / archive.PATH
    network = archive.load(path)
    network.set_weights([np.full_like(weights, np.nan) for weights in network.get_weights()])
    path.unlink()  # it may be a link into the cache
    archive.save(network, path)
    printed = clone.run(*PREDICT, str(pictures), "--json", exit_code=1)
    assert error_of(printed) == (
        "error: models/lstm.keras: expected probabilities with a sum of 1 for every image, found others"
    )
    assert '"digit"' not in printed


@pytest.mark.parametrize("option", ["--model", "--repo"])
def test_an_empty_option_is_refused(first_run: Clone, option: str) -> None:
    printed = first_run.run(*PREDICT, "picture.png", option, "", exit_code=1)
    assert error_of(printed) == f"error: {option} is empty; give it a value, or leave it out"


def test_a_clone_that_fails_leaves_nothing_behind(first_run: Clone, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    picture, url = str(next(pictures.glob("*.png"))), (tmp_path / "none.git").as_uri()
    printed = first_run.run(
        *PREDICT, picture, "--model", "v1", "--repo", url, exit_code=1, TMPDIR=str(tmp_path / "temporary")
    )
    assert f"{url}: not readable as a git repository" in error_of(printed)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_version_that_is_not_there_is_named(first_run: Clone) -> None:
    with pytest.raises(InputError, match="lstm@prod: no version holds the stage prod here"):
        fetch("lstm@prod", str(first_run.folder))
    with pytest.raises(InputError, match="/nowhere: not readable as a git repository"):
        fetch("lstm@prod", "/nowhere")


def test_a_picture_that_is_not_there_is_one_line(first_run: Clone) -> None:
    assert error_of(first_run.run(*PREDICT, "none.png", exit_code=1)) == "error: none.png: not found"


def test_a_repository_without_a_revision_is_asked_for_one(first_run: Clone) -> None:
    printed = first_run.run(*PREDICT, "picture.png", "--repo", ".", exit_code=1)
    assert error_of(printed) == "error: --repo needs --model, which names the revision of the model"

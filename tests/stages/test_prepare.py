import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from stages import dataset, download, mnist, prepare
from stages.dataset import Dataset
from stages.errors import InputError
from tests.clones import Clone
from tests.parameters import write_params
from tools import ROOT

NAMES = ("TRAIN_IMAGES", "TRAIN_LABELS", "TEST_IMAGES", "TEST_LABELS")


def make_mirror(mirror: Path) -> tuple[mnist.IdxFile, ...]:
    """Write valid IDX files of 200 and 50 random images, with the names of the official files."""
    rng = np.random.default_rng(0)
    mirror.mkdir()
    files = []
    for file in mnist.FILES:
        shape = (200 if file.name.startswith("train") else 50, *file.shape[1:])
        items = rng.integers(0, 256, shape) if len(shape) == 3 else np.arange(shape[0]) % 10
        header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
        content = gzip.compress(header + items.astype(np.uint8).tobytes(), mtime=0)
        (mirror / file.name).write_bytes(content)
        files.append(replace(file, size=len(content), sha256=hashlib.sha256(content).hexdigest(), shape=shape))
    return tuple(files)


@pytest.fixture
def small_mnist(in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with four small files instead of the official ones."""
    mirror = in_empty_folder / "mirror"
    files = make_mirror(mirror)
    monkeypatch.setattr(mnist, "FILES", files)
    for name, file in zip(NAMES, files, strict=True):
        monkeypatch.setattr(mnist, name, file)
    monkeypatch.setenv("MNIST_MIRROR", str(mirror))
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_empty_folder / "cache"))
    return mirror


def processed() -> tuple[Dataset, Dataset, Dataset]:
    return dataset.load(dataset.TRAIN), dataset.load(dataset.VALIDATION), dataset.load(dataset.TEST)


def test_mnist_is_normalized_split_and_kept_raw(small_mnist: Path) -> None:
    write_params(Path(), prepare__dataset="mnist", prepare__validation_size=50)
    mnist.RAW.mkdir(parents=True)
    (mnist.RAW / "left over").touch()
    prepare.main()
    train, validation, test = processed()
    assert (len(train), len(validation), len(test)) == (150, 50, 50)
    assert (np.bincount(train.labels) == 15).all()
    assert (np.bincount(validation.labels) == 5).all()
    # Every image is in exactly one part, scaled from 0-255 to 0-1.
    original = mnist.read_idx(small_mnist / mnist.TRAIN_IMAGES.name, (200, 28, 28))
    both = np.concatenate([train.images, validation.images])
    assert sorted(image.tobytes() for image in np.rint(both * 255).astype(np.uint8)) == sorted(
        image.tobytes() for image in original
    )
    assert train.images.max() == 1
    assert {path.name for path in mnist.RAW.iterdir()} == {file.name for file in mnist.FILES}
    for path in mnist.RAW.iterdir():
        assert path.read_bytes() == (small_mnist / path.name).read_bytes()


def test_without_a_validation_set_the_test_set_takes_its_place(small_mnist: Path) -> None:
    write_params(Path(), prepare__dataset="mnist", prepare__validation_size=0)
    prepare.main()
    train, _, test = processed()
    assert (len(train), len(test)) == (200, 50)
    assert dataset.VALIDATION.read_bytes() == dataset.TEST.read_bytes()
    assert small_mnist.exists()


def test_the_seed_and_nothing_else_decides_the_split(small_mnist: Path) -> None:
    contents = []
    for seed in (0, 0, 1):
        write_params(Path(), prepare__dataset="mnist", prepare__validation_size=50, prepare__seed=seed)
        prepare.main()
        contents.append([path.read_bytes() for path in (dataset.TRAIN, dataset.VALIDATION, dataset.TEST)])
    assert contents[0] == contents[1]
    assert contents[0][0] != contents[2][0]
    assert contents[0][2] == contents[2][2]
    assert small_mnist.exists()


@pytest.mark.parametrize("place", ["/dev/null", "a file", "/proc/none"])
@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME"])
def test_the_files_are_fetched_without_a_cache_folder_too(
    variable: str, place: str, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small_mnist.parent
    (folder / "a file").touch()
    (folder / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "temporary"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv(variable, str(folder / place))
    write_params(folder, prepare__dataset="mnist", prepare__validation_size=50)
    prepare.main()
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith(f"note: {folder / place}")
    assert note.endswith(", so downloads are not kept; set XDG_CACHE_HOME to another folder")
    for file in mnist.FILES:
        assert (mnist.RAW / file.name).read_bytes() == (small_mnist / file.name).read_bytes()
    assert list((folder / "temporary").iterdir()) == []


def test_a_cache_that_has_the_files_is_not_written_to(
    small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(small_mnist.parent, prepare__dataset="mnist", prepare__validation_size=50)
    prepare.main()
    with download.cache_folder() as cache:
        assert {path.name for path in cache.iterdir()} == {file.name for file in mnist.FILES}
    before = cache.stat().st_mtime_ns
    monkeypatch.setenv("MNIST_MIRROR", "/none")
    prepare.main()
    assert cache.stat().st_mtime_ns == before
    assert capsys.readouterr().err == ""


def test_a_damaged_file_in_a_cache_that_cannot_be_written_is_fetched_elsewhere(
    small_mnist: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    write_params(small_mnist.parent, prepare__dataset="mnist", prepare__validation_size=50)
    prepare.main()
    with download.cache_folder() as cache:
        (cache / mnist.TEST_LABELS.name).write_bytes(b"damaged")
    capsys.readouterr()
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    prepare.main()
    assert "cannot be written to (Read-only file system), so downloads are not kept" in capsys.readouterr().err
    assert (mnist.RAW / mnist.TEST_LABELS.name).read_bytes() == (small_mnist / mnist.TEST_LABELS.name).read_bytes()


# This repository's own data, by the real `dvc`

# The stage with the test's files and without public mirrors.
STAGE = """
import json
from pathlib import Path
from stages import download, mnist, prepare
from stages.errors import one_line_errors

download.MIRRORS = ()
mnist.FILES = [mnist.IdxFile(**file) for file in json.loads(Path("files.json").read_text())]
mnist.TRAIN_IMAGES, mnist.TRAIN_LABELS, mnist.TEST_IMAGES, mnist.TEST_LABELS = mnist.FILES
with one_line_errors():
    prepare.main()
"""

DVC_YAML = """
stages:
  prepare:
    cmd: python stage.py
    params: [prepare]
    outs: [data/raw, data/processed]
"""

CONFIG = """
[core]
    analytics = false
    remote = storage
['remote "storage"']
    url = ../../storage
"""


def write_split(clone: Clone, seed: int) -> None:
    write_params(clone.folder, prepare__dataset="mnist", prepare__validation_size=50, prepare__seed=seed)


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A repository with a commit whose raw files are in DVC's cache, in a storage beside the clone and in a mirror."""
    clone = Clone(tmp_path_factory.mktemp("pushed") / "clone")
    (clone.folder / ".dvc").mkdir(parents=True)
    files = [asdict(file) for file in make_mirror(clone.folder.parent / "mirror")]
    texts = {"stage.py": STAGE, "dvc.yaml": DVC_YAML, "files.json": json.dumps(files), ".dvc/config": CONFIG}
    for name, text in {**texts, ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n"}.items():
        (clone.folder / name).write_text(text, encoding="utf-8")
    clone.run("git", "init", "--quiet")
    write_split(clone, seed=0)
    mirror, cache = (str(clone.folder.parent / name) for name in ("mirror", "cache"))
    clone.run("dvc", "repro", MNIST_MIRROR=mirror, XDG_CACHE_HOME=cache, PYTHONPATH=str(ROOT))
    clone.commit("First run")
    clone.run("dvc", "push")
    return clone


@pytest.fixture
def team(pushed: Clone, tmp_path: Path) -> Clone:
    """A copy of the repository, with its storage, in which neither the user's cache nor a mirror has the files."""
    shutil.copytree(pushed.folder.parent, tmp_path / "team")
    team = Clone(tmp_path / "team" / "clone")
    team.environment |= {"XDG_CACHE_HOME": str(tmp_path / "empty"), "PYTHONPATH": str(ROOT)}
    team.environment.pop("MNIST_MIRROR", None)
    return team


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_another_split_reads_the_files_from_the_cache_of_dvc(team: Clone) -> None:
    shutil.rmtree(team.folder.parent / "storage")
    write_split(team, seed=1)
    assert "data/processed/train.npz: 150 images" in team.run("dvc", "repro")
    assert content(team.folder / mnist.RAW) == content(team.folder.parent / "mirror")


def test_an_experiment_in_another_folder_reads_the_files_from_the_storage(team: Clone) -> None:
    shutil.rmtree(team.folder / ".dvc" / "cache")
    team.run("dvc", "exp", "run", "--temp", "--set-param", "prepare.seed=1")
    for file in (team.folder.parent / "mirror").iterdir():
        md5 = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        made = team.folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
        assert made.read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("others", "reason"),
    [(None, "No storage files available"), (b"other", "SHA256 hash of downloaded file .* but got ")],
)
def test_files_that_the_repository_lost_are_named_with_one_reason(
    others: bytes | None, reason: str, team: Clone
) -> None:
    for place in (team.folder / ".dvc" / "cache", team.folder.parent / "storage"):
        for path in [path for path in place.rglob("*") if path.is_file() and path.suffix != ".dir"]:
            path.unlink()
            if others:
                path.write_bytes(others)
    write_split(team, seed=1)
    printed = team.run("python", "stage.py", exit_code=1)
    assert re.fullmatch(
        rf"error: train-images-idx3-ubyte.gz: no source has it. Ways out: .* Tried data/raw at HEAD: .*{reason}.*\n",
        printed,
    )


def test_digits_need_no_download(in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_MIRROR", str(in_empty_folder / "none"))
    write_params(in_empty_folder, prepare__dataset="digits", prepare__validation_size=200)
    prepare.main()
    train, validation, test = processed()
    assert (len(train), len(validation), len(test)) == (1_238, 200, 359)
    assert np.bincount(test.labels).min() >= 34
    assert [path.name for path in mnist.RAW.iterdir()] == ["digits.csv.gz"]
    # Each pixel of the original is a block of 3x3 within a margin of 2.
    digits = load_digits()
    originals = {(image / 16).astype(np.float32).tobytes() for image in digits.images}
    assert {np.ascontiguousarray(image[3:26:3, 3:26:3]).tobytes() for image in test.images} <= originals
    frame = np.ones((28, 28), bool)
    frame[2:-2, 2:-2] = False
    assert (train.images[:, frame] == 0).all()


@pytest.mark.parametrize("size", [9, 1_429])
def test_a_validation_set_that_leaves_a_class_out_is_refused(size: int, in_empty_folder: Path) -> None:
    write_params(in_empty_folder, prepare__dataset="digits", prepare__validation_size=size)
    with pytest.raises(
        InputError, match=r"prepare\.validation_size: expected 0 or 10 to 1,428 of 1,438 images, found .*git restore"
    ):
        prepare.main()


def test_prepare_starts_without_tensorflow_and_dvc() -> None:
    program = "import sys, stages.prepare; print(*sys.modules.keys() & {'tensorflow', 'keras', 'dvc'})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_no_network_is_one_clear_line(in_empty_folder: Path) -> None:
    write_params(in_empty_folder, prepare__dataset="mnist", prepare__validation_size=50)
    done = subprocess.run(
        [sys.executable, "-m", "stages.prepare"],
        cwd=in_empty_folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MNIST_MIRROR": str(in_empty_folder / "none"),
            "XDG_CACHE_HOME": str(in_empty_folder / "cache"),
            # Nothing listens on port 1, so the public mirrors cannot be reached, as without a network.
            "HTTPS_PROXY": "http://127.0.0.1:1",
            "https_proxy": "http://127.0.0.1:1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: train-images-idx3-ubyte.gz: no source has it")
    for words in ("No such file", *download.MIRRORS, "MNIST_MIRROR", "dvc pull", "make demo"):
        assert words in error
    assert "Traceback" not in done.stderr
    assert not (in_empty_folder / "data").exists()

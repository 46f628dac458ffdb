"""Download and verify MNIST -> data/raw; normalize and split the images, and our own -> data/processed/*.npz."""

import shutil
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from stages import dataset, download, mnist, own
from stages.dataset import Dataset
from stages.errors import InputError, one_line_errors
from stages.files import replacing
from stages.params import LAST_RUN, load_params


def main() -> None:
    params = load_params().prepare
    pictures = own.find()
    learning, test = mnist_images() if params.dataset == "mnist" else digits_images()
    if params.validation_size == 0:
        train, validation = learning, test
    else:
        train, validation = split(learning, size=params.validation_size, seed=params.seed)
    if params.own_repeats:
        train = joined(train, own.read(_for("training", pictures)), times=params.own_repeats)
        validation = joined(validation, own.read(_for("validation", pictures)), times=1)
    for part, path in (
        (train, dataset.TRAIN),
        (validation, dataset.VALIDATION),
        (test, dataset.TEST),
        (own.read(_for("test", pictures)), dataset.OWN_TEST),
    ):
        dataset.save(part, path)
        print(f"{path}: {len(part):,} images")


def _for(part: own.Part, pictures: list[own.Picture]) -> list[own.Picture]:
    return [picture for picture in pictures if picture.part == part]


def joined(images: Dataset, more: Dataset, *, times: int) -> Dataset:
    """Append more images, each so many times."""
    return Dataset(
        np.concatenate([images.images, *[more.images] * times]), np.concatenate([images.labels, *[more.labels] * times])
    )


def mnist_images() -> tuple[Dataset, Dataset]:
    """Fetch the four official files into data/raw, and read the 60,000 training and 10,000 test images."""
    with download.cache_folder() as cache:
        fill_raw(download.fetch(mnist.FILES, download.sources(), cache=cache))
    return (
        _read_normalized(mnist.TRAIN_IMAGES, mnist.TRAIN_LABELS),
        _read_normalized(mnist.TEST_IMAGES, mnist.TEST_LABELS),
    )


def _read_normalized(images: mnist.IdxFile, labels: mnist.IdxFile) -> Dataset:
    return normalized(
        mnist.read_idx(mnist.RAW / images.name, images.shape),
        mnist.read_labels(mnist.RAW / labels.name, labels.shape),
        white=255,
    )


def digits_images() -> tuple[Dataset, Dataset]:
    """Enlarge scikit-learn's 8x8 digits to 28x28. A fixed stratified fifth of them is the test set.

    Each pixel becomes 3x3 pixels. A margin of 2 pixels surrounds the image.
    """
    with as_file(files("sklearn.datasets.data") / "digits.csv.gz") as embedded:
        fill_raw([embedded])
    digits = load_digits()
    enlarged = digits.images.repeat(3, axis=1).repeat(3, axis=2)
    everything = normalized(np.pad(enlarged, ((0, 0), (2, 2), (2, 2))), digits.target, white=16)
    return split(everything, size=len(everything) // 5, seed=0)


def fill_raw(originals: list[Path]) -> None:
    """Replace data/raw by a folder with exactly these files."""
    with replacing(mnist.RAW) as fresh:
        fresh.mkdir()
        for original in originals:
            shutil.copyfile(original, fresh / original.name)


def normalized(images: ArrayLike, labels: ArrayLike, *, white: int) -> Dataset:
    """Scale grey values of 0 to `white` to float32 of 0 to 1."""
    return Dataset(np.asarray(images, np.float32) / np.float32(white), np.asarray(labels, np.uint8))


def split(images: Dataset, *, size: int, seed: int) -> tuple[Dataset, Dataset]:
    """Hold out `size` images, stratified by class, and keep the order within both parts.

    Raises `InputError` if a part would be too small to contain every class.
    """
    largest = len(images) - dataset.CLASSES
    if not dataset.CLASSES <= size <= largest:
        raise InputError(
            f"params.yaml: prepare.validation_size: expected 0 or {dataset.CLASSES} to {largest:,} "
            f"of {len(images):,} images, found {size:,}; {LAST_RUN}"
        )
    kept, held_out = train_test_split(np.arange(len(images)), test_size=size, stratify=images.labels, random_state=seed)
    return _subset(images, np.sort(kept)), _subset(images, np.sort(held_out))


def _subset(images: Dataset, indices: NDArray[np.intp]) -> Dataset:
    return Dataset(images.images[indices], images.labels[indices])


if __name__ == "__main__":
    with one_line_errors():
        main()

import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stages import pictures
from stages.dataset import Dataset
from stages.errors import InputError
from stages.find_digit import centred, normalized, scaled
from stages.pictures import load, read, to_grey
from tests import photos
from tools import ROOT


def bar(height: int, width: int, *, grey: int = 0, paper: int = 255, top: int = 10, left: int = 10) -> Image.Image:
    """A bar of one shade on paper of another."""
    image = Image.new("L", (120, 120), paper)
    image.paste(grey, (left, top, left + width, top + height))
    return image


def ink_box(field: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """First and last row and column with ink."""
    rows, columns = (np.flatnonzero((field > 0.1).any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_the_processes_that_read_many_pictures_end_with_a_killed_one(tmp_path: Path) -> None:
    path = saved(bar(60, 30), tmp_path / "bar.png")
    program = f"""
import os, signal
from pathlib import Path
from stages.pictures import read_all
next(read_all([Path({str(path)!r})] * 100_000))
os.kill(os.getpid(), signal.SIGKILL)
"""
    # The other processes hold the pipe too, so its end shows that they have ended.
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == -9


# The bar is 20 x 10 pixels, its centre of mass at the lower right of the four pixels in the middle, as MNIST's are.
EXPECTED = (4, 23, 9, 18)


@pytest.mark.parametrize("scale", [0.1, 0.2, 1, 2.5])
@pytest.mark.parametrize(("grey", "paper"), [(0, 255), (255, 0), (90, 180), (200, 120)])
def test_size_and_shade_and_polarity_do_not_matter(scale: float, grey: int, paper: int, tmp_path: Path) -> None:
    image = bar(80, 40, grey=grey, paper=paper)
    size = round(120 * scale)
    path = saved(image.resize((size, size), Image.Resampling.BOX), tmp_path / "bar.png")
    field = read(path)
    assert field.shape == (28, 28)
    assert field.dtype == np.float32
    assert field.min() == 0
    assert field.max() == 1
    assert ink_box(field) == EXPECTED


@pytest.mark.parametrize(("top", "left"), [(0, 5), (39, 79), (20, 0)])
def test_the_place_does_not_matter(top: int, left: int) -> None:
    np.testing.assert_array_equal(
        normalized(to_grey(bar(80, 40, top=top, left=left))), normalized(to_grey(bar(80, 40)))
    )


def test_a_wide_bar_keeps_its_proportions() -> None:
    assert ink_box(normalized(to_grey(bar(10, 80))))[2:] == (4, 23)


def test_the_centre_of_mass_is_at_the_centre_where_it_fits() -> None:
    heavy_below = np.ones((60, 60), np.float32)
    heavy_below[10:50, 28:32] = 0
    heavy_below[40:50, 20:40] = 0
    field = normalized(heavy_below)
    first, last, *_ = ink_box(field)
    assert last - first == 19
    for axis in (0, 1):
        profile = field.sum(axis=axis)
        assert math.floor(round(profile @ np.arange(28) / profile.sum(), 2) + 0.5) == 14


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("grey", [0, 60, 200, 255])
def test_ink_of_any_shade_on_transparent_paper_is_read(grey: int, mode: str, tmp_path: Path) -> None:
    ink = np.full((120, 120, 4), grey, np.uint8)
    ink[..., 3] = 0
    ink[10:90, 10:50, 3] = 255
    assert ink_box(read(saved(Image.fromarray(ink).convert(mode), tmp_path / "clear.png"))) == EXPECTED


@pytest.mark.parametrize(("grey", "paper"), [(0, 255), (255, 0)])
def test_paper_with_transparent_surroundings_is_read(grey: int, paper: int, tmp_path: Path) -> None:
    sticker = bar(80, 40, grey=grey, paper=paper).convert("RGBA")
    framed = Image.new("RGBA", (140, 140))
    framed.paste(sticker, (10, 10))
    assert ink_box(read(saved(framed, tmp_path / "sticker.png"))) == EXPECTED


def test_a_transparent_colour_of_a_palette_is_paper(tmp_path: Path) -> None:
    image = bar(80, 40, grey=1, paper=0).convert("P")
    image.putpalette([0, 0, 0, 20, 20, 20])
    assert ink_box(read(saved(image, tmp_path / "palette.png", transparency=0))) == EXPECTED


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_any_number_of_bits_in_16_is_read(bits: int, tmp_path: Path) -> None:
    grey = np.asarray(bar(80, 40), np.uint16) // 255 * np.uint16(2**bits - 1)
    grey[100, 100] = 65_535  # a hot pixel
    assert ink_box(read(saved(Image.fromarray(grey), tmp_path / "deep.png"))) == EXPECTED


# The corner pixels of a picture that is turned as each value of EXIF's orientation tells.
CORNERS = {1: "abcd", 2: "badc", 3: "dcba", 4: "cdab", 5: "acbd", 6: "cadb", 7: "dbca", 8: "bdac"}


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("orientation", CORNERS)
def test_a_turned_camera_is_turned_back(orientation: int, ending: str, tmp_path: Path) -> None:
    path = saved(four_shades(), tmp_path / f"turned.{ending}", exif=exif_block(orientation))
    assert corners(load(path)) == CORNERS[orientation]


def four_shades() -> Image.Image:
    """A wide picture with a shade of its own in each corner."""
    return Image.fromarray(np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((16, 24), np.uint8)))


def corners(grey: NDArray[np.float32]) -> str:
    """The shades of the corners, row by row, `abcd` as `four_shades` has them."""
    return "".join("abcd"[round(float(grey[row, column]) * 255 / 80)] for row in (0, -1) for column in (0, -1))


def exif_block(orientation: int = 6) -> bytes:
    """What cameras write: nested blocks of numbers, fractions and texts."""
    exif = Image.Exif()
    exif.update({0x0112: orientation, 0x011A: 72.0, 0x011B: 72.0, 0x010F: "Maker", 0x0132: "2024:01:01 00:00:00"})
    exif.get_ifd(0x8769).update({0x9003: "2024:01:01 00:00:00", 0x829A: 0.01})
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0)})
    return exif.tobytes()


def test_a_resolution_of_text_does_not_matter(tmp_path: Path) -> None:
    exif = exif_block().replace(b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x02")  # from a fraction to a text
    assert exif != exif_block()
    assert corners(load(saved(four_shades(), tmp_path / "text.jpg", exif=exif))) == CORNERS[6]


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_damaged_metadata_decides_no_more_than_the_turn(ending: str, tmp_path: Path) -> None:
    rng = random.Random(0)  # noqa: S311 - the same damage every time
    for _ in range(150):
        path = saved(four_shades(), tmp_path / f"damaged.{ending}", exif=damaged(exif_block(), rng))
        assert corners(load(path)) in CORNERS.values()


def damaged(block: bytes, rng: random.Random) -> bytes:
    """Change, insert or drop bytes in up to six places."""
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(block))
        removed = rng.choice([0, 1, 4, len(block)])
        inserted = rng.choice([b"", rng.randbytes(1), rng.randbytes(4), b"\0\0\0\0", b"\xff\xff\xff\xff"])
        block = (block[:place] + inserted + block[place + removed :]) or b"E"
    return block


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "P", "1", "I;16"])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_every_kind_of_colour_is_read(mode: str, ending: str, tmp_path: Path) -> None:
    if (mode, ending) in {("CMYK", "png"), ("P", "jpg"), ("I;16", "jpg")}:
        return  # no such files
    image = bar(80, 40)
    if mode == "I;16":
        converted = Image.fromarray(np.asarray(image, np.uint16) * 257)
        assert converted.mode == "I;16"
    else:
        converted = image.convert(mode)
    assert ink_box(read(saved(converted, tmp_path / f"bar.{ending}"))) == EXPECTED


def test_grain_shadow_and_jpeg_do_not_matter(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photo = np.asarray(bar(80, 40, grey=40, paper=200), float) - np.linspace(0, 50, 120)[:, None]
    photo += rng.normal(0, 4, photo.shape)
    image = Image.fromarray(photo.clip(0, 255).astype(np.uint8))
    top, bottom, left, right = ink_box(read(saved(image, tmp_path / "photo.jpg", quality=60)))
    assert bottom - top == 19
    assert right - left in {9, 10}


# What people's pictures show beside the digit

# Cosine between an image and the same digit as a pen of another width writes it; in a box for more than the digit it is
# mostly below 0.6.
SAME = {kind: 0.55 if kind in {"pencil", "fine pen"} else 0.7 for kind in photos.KINDS}


@pytest.mark.parametrize("kind", photos.KINDS)
def test_a_digit_is_found_in_what_surrounds_it(kind: str, digits: Dataset) -> None:
    count = 4 if kind == "large" else 8
    found = 0
    for number, digit in enumerate(digits.images[:count]):
        try:
            field = normalized(to_grey(photos.draw(kind, digit, number)))
        except InputError:
            continue
        rows, columns = (np.flatnonzero((digit > 0.3).any(axis=axis)) for axis in (1, 0))
        alone = centred(scaled(digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))
        found += (field * alone).sum() > SAME[kind] * np.linalg.norm(field) * np.linalg.norm(alone)
    assert found >= count - 1


@pytest.mark.parametrize("kind", photos.REFUSED)
def test_what_shows_no_digit_or_two_is_refused(kind: str, digits: Dataset) -> None:
    messages = []
    for number, digit in enumerate(digits.images[:8]):
        try:
            normalized(to_grey(photos.draw(kind, digit, number)))
        except InputError as error:
            messages.append(str(error))
    # A rest of a printed line may pass for a digit.
    assert len(messages) >= (6 if kind in {"blank, ruled", "blank, squared", "blank, all"} else 8)
    if kind == "two digits":
        assert set(messages) == {"expected one digit, found 2 separate shapes of about its size"}


def test_arrays_of_any_shape_are_read_or_refused() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 40, 2)
        grey = rng.random((height, width), np.float32) ** rng.integers(1, 30)
        try:
            field = normalized(grey.astype(np.float32))
        except InputError:
            continue
        assert field.shape == (28, 28)
        assert field.min() >= 0
        assert field.max() == 1


def test_the_bar_of_a_five_belongs_to_it() -> None:
    five = bar(60, 12, top=40, left=40)
    five.paste(0, (66, 30, 100, 42))  # right of and above the rest
    first, last, left, right = ink_box(normalized(to_grey(five)))
    assert (last - first, right - left) == (19, round(20 * 60 / 70) - 1)


@pytest.mark.parametrize(("top", "left"), [(10, 70), (25, 75)])
def test_two_digits_side_by_side_are_refused(top: int, left: int) -> None:
    two = bar(80, 20, left=20)
    two.paste(0, (left, top, left + 20, top + 80))
    with pytest.raises(InputError, match="expected one digit, found 2 separate shapes of about its size"):
        normalized(to_grey(two))


def test_a_hot_pixel_does_not_turn_dark_ink_to_light() -> None:
    dim = bar(80, 40, grey=60, paper=110)
    expected = normalized(to_grey(dim))
    dim.putpixel((100, 100), 255)
    np.testing.assert_array_equal(normalized(to_grey(dim)), expected)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("white.png", lambda path: Image.new("L", (50, 50), 255).save(path), "blank: expected a digit that stands out"),
        ("clear.png", lambda path: Image.new("RGBA", (50, 50)).save(path), "blank"),
        ("faint.png", lambda path: bar(80, 40, grey=240).save(path), "blank"),
        ("one.png", lambda path: Image.new("L", (1, 1)).save(path), "blank"),
        ("text.png", lambda path: path.write_text("no picture"), "no readable PNG or JPEG"),
        ("empty.jpg", lambda path: path.write_bytes(b""), "no readable PNG or JPEG"),
        ("cut.png", lambda path: cut(saved(bar(80, 40), path)), "no readable PNG or JPEG"),
        ("cut.jpg", lambda path: cut(saved(bar(80, 40), path)), "no readable PNG or JPEG"),
        ("gif.png", lambda path: bar(80, 40).save(path, "GIF"), "no readable PNG or JPEG"),
        ("folder.png", lambda path: path.mkdir(), "no readable PNG or JPEG: expected a file, found a folder"),
        ("pipe.png", os.mkfifo, "no readable PNG or JPEG: expected a file, found a folder, pipe or device"),
    ],
)  # fmt: skip
def test_what_is_no_picture_of_a_digit_is_named(
    name: str, make: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: {message}"):
        read(tmp_path / name)
    with pytest.raises(InputError, match=r"none\.png: not found"):
        read(tmp_path / "none.png")


def test_a_picture_too_large_to_unpack_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(bar(80, 40), tmp_path / "large.png")
    monkeypatch.setattr(pictures, "PIXELS", 14_399)
    with pytest.raises(InputError, match=r"large\.png: expected at most 14,399 pixels, found 120 x 120; make the pict"):
        read(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000)
    with pytest.raises(InputError, match=r"large\.png: no readable PNG or JPEG: Image size \(14,?400 pixels\)"):
        read(path)


@pytest.mark.parametrize("progressive", [True, False])
def test_a_large_jpeg_is_decoded_smaller(progressive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = bar(80, 40).resize((4_800, 4_800), Image.Resampling.NEAREST).convert("RGB")
    path = saved(large, tmp_path / "large.jpg", progressive=progressive)
    monkeypatch.setattr(pictures, "PIXELS", 600 * 600)
    assert load(path).shape == (400, 400)
    assert ink_box(read(path)) == EXPECTED

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stages.errors import InputError
from tools.pictures import normalized, read, to_grey


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


def test_a_transparent_picture_lies_on_white_paper(tmp_path: Path) -> None:
    ink = np.zeros((120, 120, 4), np.uint8)
    ink[10:90, 10:50, 3] = 255
    assert ink_box(read(saved(Image.fromarray(ink), tmp_path / "clear.png"))) == EXPECTED
    palette = Image.fromarray(ink).convert("LA")
    assert ink_box(read(saved(palette, tmp_path / "grey.png"))) == EXPECTED


def test_a_turned_camera_is_turned_back(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its right side
    turned = bar(80, 40).rotate(90, expand=True)
    assert ink_box(read(saved(turned, tmp_path / "turned.jpg", exif=exif))) == EXPECTED


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
    assert (bottom - top, right - left) == (19, 9)


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
        ("folder.png", lambda path: path.mkdir(), "no readable PNG or JPEG"),
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
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000)
    with pytest.raises(InputError, match=r"large\.png: no readable PNG or JPEG: Image size \(14,?400 pixels\)"):
        read(path)

"""Pictures of one handwritten digit such as people take, drawn from MNIST's images: `python -m tests.photos`.

Every picture has its own size, digit size, place, shades, stroke, blur and grain; each kind adds one disturbance, or
several. The command reads 400 pictures of each kind with the workspace's model, after `make repro`.
"""

import argparse
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from stages import archive, dataset
from stages.errors import InputError, one_line_errors
from stages.find_digit import normalized
from stages.model import Predictor
from stages.pictures import to_grey

Grey = NDArray[np.float32]  # (height, width), 0 is black and 1 is white
COUNT = 400


@dataclass
class Scene:
    """A sheet of paper, before the camera."""

    rng: np.random.Generator
    longer: tuple[float, float] = (100, 1_200)  # pixels of the picture
    digit_height: tuple[float, float] = (0.25, 0.75)  # of the picture's shorter side
    threshold: tuple[float, float] = (0.35, 0.6)  # of an enlarged digit's ink: more makes strokes thinner
    stroke: tuple[float, float] = (1, 1)  # of the stroke's own width: less is a fine pen
    paper: tuple[float, float] = (0.7, 1.0)
    contrast: tuple[float, float] = (0.45, 0.7)  # from paper to ink
    grain: tuple[float, float] = (0, 0.012)  # standard deviation
    blur: tuple[float, float] = (0, 0.004)  # standard deviation, of the longer side
    shape: tuple[int, int] = field(init=False)
    side: int = field(init=False)
    shade: float = field(init=False)
    depth: float = field(init=False)
    sheet: Grey = field(init=False)

    def __post_init__(self) -> None:
        self.side = round(np.exp(self.rng.uniform(*np.log(self.longer))))
        shorter = round(self.side * self.rng.uniform(0.7, 1))
        self.shape = (self.side, shorter) if self.rng.random() < 0.5 else (shorter, self.side)
        self.shade = self.rng.uniform(*self.paper)
        self.depth = min(self.rng.uniform(*self.contrast), self.shade)
        self.sheet = np.full(self.shape, self.shade, np.float32)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def cover(self, coverage: Grey, shade: float) -> None:
        """Lay a shade over the sheet where it covers it, 0 to 1."""
        self.sheet += coverage * (shade - self.sheet)

    def write(self, digit: Grey, place: tuple[float, float] | None = None, height: float | None = None) -> None:
        """Write a digit (28, 28): at a place of its middle, 0 to 1, and with a height in pixels, or anywhere."""
        height = height or self.between(*self.digit_height) * min(self.shape)
        scale = height / 20  # pixels, of most digits of MNIST
        full = max(3, round(28 * scale))
        large: Grey = np.asarray(Image.fromarray(digit).resize((full, full), Image.Resampling.BICUBIC))
        rows, columns = (np.flatnonzero((large > 0.3).any(axis=axis)) for axis in (1, 0))
        large = large[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        # From soft as MNIST's to sharp as a pen's.
        sharpness = self.between(1, max(1, scale))
        coverage: Grey = np.clip((large - self.between(*self.threshold)) * sharpness + 0.5, 0, 1)
        if sharpness < 1.5:
            coverage = np.clip(large, 0, 1)
        if (part := self.between(*self.stroke)) < 1:
            coverage = thinned(large, part, scale)
        free = [max(0, side - part) for side, part in zip(self.shape, coverage.shape, strict=True)]
        if place:
            top, left = (
                round(np.clip(part * side - own / 2, 0, rest))
                for part, side, own, rest in zip(place, self.shape, coverage.shape, free, strict=True)
            )
        else:
            top, left = (round(self.between(0.1, 0.9) * rest) for rest in free)
        layer = np.zeros(self.shape, np.float32)
        height, width = (min(side, part) for side, part in zip(self.shape, coverage.shape, strict=True))
        layer[top : top + height, left : left + width] = coverage[:height, :width]
        self.cover(layer, self.shade - self.depth)

    def along(self, degrees: float) -> Grey:
        """Measure how far each pixel is along a direction, in pixels."""
        rows, columns = np.indices(self.shape, np.float32)
        angle = np.radians(degrees)
        return columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle))

    def rule(self, degrees: float, distance: float, thickness: float, shade: float) -> None:
        """Draw parallel lines across the whole sheet."""
        offset = np.mod(self.along(degrees) + self.between(0, distance), distance)
        from_line = np.minimum(offset, distance - offset)
        self.cover(np.clip(thickness / 2 - from_line + 0.5, 0, 1), shade)

    def photographed(self) -> Grey:
        blurred = ndimage.gaussian_filter(self.sheet, self.between(*self.blur) * self.side)
        grained = blurred + self.rng.normal(0, self.between(*self.grain), self.shape)
        return np.clip(grained, 0, 1).astype(np.float32)


def thinned(large: Grey, part: float, scale: float) -> Grey:
    """Keep this part of each stroke's width, around its middle."""
    twice = ndimage.zoom(large, 2, order=1)
    depth = ndimage.distance_transform_edt(twice > 0.4)
    ridge = ndimage.maximum_filter(depth, round(2.5 * scale) + 1)
    kept = (depth > (1 - part) * ridge) & (depth > 0)
    return np.asarray(Image.fromarray(kept.astype(np.float32)).resize(large.shape[::-1], Image.Resampling.BOX))


def ruled(scene: Scene, directions: int = 1) -> None:
    tilt, distance = scene.between(-3, 3), scene.between(0.04, 0.15) * scene.side
    thickness = max(1, scene.between(0.002, 0.008) * scene.side)
    shade = scene.shade - scene.depth * scene.between(0.15, 0.8)
    for direction in range(directions):
        scene.rule(90 + tilt - 90 * direction, max(distance, 4 * thickness), thickness, shade)


def margin(scene: Scene) -> None:
    scene.rule(scene.between(-3, 3), 10 * scene.side, max(1, 0.004 * scene.side), scene.shade - scene.depth / 2)


def specks(scene: Scene) -> None:
    """Dots and crumbs."""
    layer = Image.new("F", scene.shape[::-1])
    draw = ImageDraw.Draw(layer)
    for _ in range(scene.rng.integers(1, 12)):
        row, column = (scene.between(0, side) for side in scene.shape)
        tall, wide = (max(1, scene.between(0.004, 0.02) * scene.side) for _ in "hw")
        draw.ellipse((column, row, column + wide, row + tall), fill=1)
    scene.cover(np.asarray(layer), max(0, scene.shade - scene.depth * scene.between(0.6, 1.4)))


def table(scene: Scene) -> None:
    """A dark table, beside one or two sides of the paper."""
    sides = scene.rng.permutation(4)[: scene.rng.integers(1, 3)]
    shade, grain = scene.between(0, 0.6) * scene.shade, scene.between(0, 0.03)
    for side in sides:
        across_a_corner = scene.rng.random() < 0.2
        along = scene.along(90 * side + (scene.between(30, 60) if across_a_corner else scene.between(-8, 8)))
        edge = along.min() + scene.between(0.02, 0.2) * np.ptp(along)
        softness = max(1, scene.between(0, 0.01) * scene.side)
        wood = shade + scene.rng.normal(0, 1, scene.shape).astype(np.float32) * np.float32(grain)
        scene.sheet += np.clip((edge - along) / softness + 0.5, 0, 1) * (wood - scene.sheet)


def shadow(scene: Scene) -> None:
    """Light from one side, and the soft edge of a shadow."""
    along = scene.along(scene.between(0, 360))
    scene.sheet *= 1 - scene.between(0.1, 0.4) * (along - along.min()) / np.ptp(along)
    if scene.rng.random() < 0.5:
        along = scene.along(scene.between(0, 360))
        edge, softness = scene.between(0.2, 0.8), scene.between(0.02, 0.2)
        position = (along - along.min()) / np.ptp(along)
        scene.sheet *= 1 - scene.between(0.1, 0.25) * np.clip((position - edge) / softness + 0.5, 0, 1)


def compressed(grey: Grey, rng: np.random.Generator, lowest: int = 10) -> Grey:
    file = io.BytesIO()
    as_image(grey).save(file, "JPEG", quality=int(rng.integers(lowest, 50)))
    return np.asarray(Image.open(file), np.float32) / np.float32(255)


def plain(digit: Grey, rng: np.random.Generator) -> Grey:
    scene = Scene(rng)
    scene.write(digit)
    return scene.photographed()


def as_mnist(digit: Grey, rng: np.random.Generator) -> Grey:
    side = int(rng.integers(28, 300))
    return np.asarray(Image.fromarray(1 - digit).resize((side, side), Image.Resampling.BICUBIC)).clip(0, 1)


def light_on_dark(digit: Grey, rng: np.random.Generator) -> Grey:
    return np.float32(1) - plain(digit, rng)


def pencil(digit: Grey, rng: np.random.Generator) -> Grey:
    scene = Scene(rng, longer=(200, 1_200), stroke=(0.25, 0.7), contrast=(0.16, 0.4), grain=(0.005, 0.02))
    scene.write(digit)
    return scene.photographed()


def fine_pen(digit: Grey, rng: np.random.Generator) -> Grey:
    scene = Scene(rng, longer=(200, 1_200), stroke=(0.25, 0.5))
    scene.write(digit)
    return scene.photographed()


def marker(digit: Grey, rng: np.random.Generator) -> Grey:
    scene = Scene(rng, threshold=(0.1, 0.3))
    scene.write(digit)
    return scene.photographed()


def small(digit: Grey, rng: np.random.Generator) -> Grey:
    scene = Scene(rng, longer=(400, 1_600), digit_height=(0.1, 0.25))
    scene.write(digit)
    return scene.photographed()


def large(digit: Grey, rng: np.random.Generator) -> Grey:
    scene = Scene(rng, longer=(2_000, 3_000), blur=(0, 0.001))
    scene.write(digit)
    return scene.photographed()


def disturbed(*disturbances: Callable[[Scene], None]) -> Callable[[Grey, np.random.Generator], Grey]:
    """Make a kind: lines are printed before the digit is written, the rest comes over it."""

    def draw(digit: Grey, rng: np.random.Generator) -> Grey:
        scene = Scene(rng)
        for disturb in disturbances:
            if disturb in PRINTED:
                disturb(scene)
        beside_table = table in disturbances
        middle = (scene.between(0.45, 0.55), scene.between(0.45, 0.55))
        tall = scene.between(0.25, 0.45) * min(scene.shape)
        scene.write(digit, *((middle, tall) if beside_table else ()))
        for disturb in disturbances:
            if disturb not in PRINTED:
                disturb(scene)
        return scene.photographed()

    return draw


def squared(scene: Scene) -> None:
    ruled(scene, directions=2)


PRINTED = {ruled, squared, margin}


def low_quality(digit: Grey, rng: np.random.Generator) -> Grey:
    return compressed(plain(digit, rng), rng)


def hot_pixel(digit: Grey, rng: np.random.Generator) -> Grey:
    scene = Scene(rng, paper=(0.35, 0.6), contrast=(0.2, 0.3))
    scene.write(digit)
    grey = scene.photographed()
    grey[tuple(rng.integers(0, scene.shape))] = 1
    return grey


def two_digits(digit: Grey, rng: np.random.Generator) -> Grey:
    """The same digit twice, side by side."""
    scene = Scene(rng)
    tall = scene.between(0.25, 0.45) * min(scene.shape)
    first = scene.between(0.15, 0.3)
    scene.write(digit, (scene.between(0.4, 0.6), first), tall)
    scene.write(digit, (scene.between(0.4, 0.6), scene.between(0.7, 0.85)), tall * scene.between(0.8, 1.2))
    return scene.photographed()


def empty(*disturbances: Callable[[Scene], None]) -> Callable[[Grey, np.random.Generator], Grey]:
    def draw(_: Grey, rng: np.random.Generator) -> Grey:
        scene = Scene(rng)
        for disturb in disturbances:
            disturb(scene)
        return scene.photographed()

    return draw


def desk(digit: Grey, rng: np.random.Generator) -> Grey:
    lines = squared if rng.random() < 0.5 else ruled
    return compressed(disturbed(lines, specks, table, shadow)(digit, rng), rng, lowest=30)


KINDS: dict[str, Callable[[Grey, np.random.Generator], Grey]] = {
    "as MNIST's": as_mnist,
    "plain": plain,
    "light on dark": light_on_dark,
    "marker": marker,
    "pencil": pencil,
    "fine pen": fine_pen,
    "small": small,
    "large": large,
    "JPEG of low quality": low_quality,
    "ruled paper": disturbed(ruled),
    "ruled paper with a margin": disturbed(ruled, margin),
    "squared paper": disturbed(squared),
    "specks": disturbed(specks),
    "table edge": disturbed(table),
    "shadow": disturbed(shadow),
    "one hot pixel": hot_pixel,
    "all of a desk": desk,
}

REFUSED: dict[str, Callable[[Grey, np.random.Generator], Grey]] = {
    "two digits": two_digits,
    "blank": empty(),
    "blank, ruled": empty(ruled),
    "blank, squared": empty(squared, margin),
    "blank, specks": empty(specks),
    "blank, table edge": empty(table),
    "blank, all": empty(squared, specks, table, shadow),
}


def draw(kind: str, digit: Grey, number: int) -> Image.Image:
    """Draw a picture of a kind, the same for the same number."""
    return as_image((KINDS | REFUSED)[kind](digit, np.random.default_rng([zlib.crc32(kind.encode()), number])))


def as_image(grey: Grey) -> Image.Image:
    return Image.fromarray(np.round(grey * 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description="Read pictures such as people take with the workspace's model.")
    parser.add_argument("--validation", action="store_true", help="draw them from validation images")
    parser.add_argument("--count", type=int, default=COUNT, help=f"pictures of each kind (default: {COUNT})")
    arguments = parser.parse_args()

    images = dataset.load(dataset.VALIDATION if arguments.validation else dataset.TEST)
    predict = Predictor(archive.load(archive.PATH))
    print(f"{'of ' + str(arguments.count):27}   right  refused  misread")
    for kind in (*KINDS, *REFUSED):
        fields, labels, refused = [], [], 0
        for number, digit in enumerate(images.images[: arguments.count]):
            try:
                fields.append(normalized(to_grey(draw(kind, digit, number))))
                labels.append(images.labels[number])
            except InputError:
                refused += 1
        right = int((predict(np.stack(fields)).argmax(axis=1) == labels).sum()) if fields else 0
        print(f"{kind:27} {right:7}  {refused:7}  {len(fields) - right:7}", flush=True)


if __name__ == "__main__":
    with one_line_errors():
        main()

"""The digit in shades of grey, prepared as MNIST's images were.

A picture must show one handwritten digit, dark on light or light on dark, with some paper around it. The steps:

1. Estimate the shade of the paper at every pixel. Ink is what is darker than the paper, or what is lighter: both are
   tried, and the one that finds more ink in its digit is taken.
2. Remove printed lines: narrow, straight, and from one side of the picture to the other.
3. Choose the threshold between ink and paper, and find the connected shapes. Remove the table around the paper.
4. The shape with the most ink is the digit. Parts that lie close to it belong to it, other small shapes are specks, and
   another large shape is a second digit: the picture is refused.
5. Scale the digit into 20 x 20 pixels, keeping its proportions, and lay it with its centre of mass at the centre of
   28 x 28, in 256 shades, as MNIST's digits were (http://yann.lecun.com/exdb/mnist/). The shades are the same on
   every processor, although the last bits of step 1 are not.

The constants were chosen on pictures drawn from MNIST's validation images (tests/photos.py).
"""

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from stages.dataset import SIDE
from stages.errors import InputError

Grey = NDArray[np.float32]  # (height, width), 0 is black and 1 is white
Ink = NDArray[np.float32]  # (height, width), the difference from the paper's shade, 0 is paper
Mask = NDArray[np.bool_]  # (height, width)

# Ink and lines; lengths are shares of the picture's longer side, shades shares of black to white
CONTRAST = 0.08  # mean ink of all shapes: less is a blank picture
FAINTEST = 0.1  # of the digit's ink: less is the paper's grain or a JPEG's traces
SMOOTHING = 0.0025  # standard deviation: removes grain, and keeps the strokes of a fine pen
LINE = 0.03  # a line's thickness: more is a stroke or the table
LINE_INK = 0.03  # fainter lines are below every threshold
LINE_AVERAGE = 0.025  # of a line's length, over which grain is averaged out
COVERAGE = 0.8  # of a line that is seen: a stroke of a digit with paper around it is shorter
SEEN = 0.25  # of the picture's width, a line beside the table or cut off by a corner: less may be a stroke
TILT = 0.09  # slope of a line, 5 degrees: more is a picture that its owner would have turned
PEN = 1.6  # of a line's ink: more is a pen's stroke across the line

# Shapes
SMALLEST = 0.05  # of the picture's longer side, a digit: less is a speck
ALONG = 0.75  # of a side, a shape that covers so much of it is no digit
IN_CORNER = 0.1  # of the shorter side, a shape in a corner that touches so much of the border is no digit
PART = 0.01  # of the digit's ink: less is a speck
SECOND = (0.4, 0.1)  # of the digit's longer side and of its ink: more is a second digit
LOW = 0.5  # of the digit's height: the bar of a 5 is lower, a second digit beside the first is not
# The gap between a digit and its parts, of the longer side of both together
GAP_OF_LOW = 0.3  # and no longer than the part
GAP_ABOVE = 0.15
GAP_BESIDE = 0.06
REACH = 0.06  # around a shape, of the digit's longer side: the soft edge of its strokes

BOX = 20  # pixels, of the longer side of MNIST's digits
WHITE = 255  # of MNIST's shades


def normalized(grey: Grey) -> NDArray[np.float32]:
    """Make any (height, width) into (28, 28), 0 for paper and 1 for ink.

    Raises `InputError` if there is no digit, or more than one.
    """
    difference = grey - paper_of(grey)
    inks = [np.maximum(polarity * difference, 0) for polarity in (-1, 1)]
    chosen: Shapes | None = None
    for ink in sorted(inks, key=np.sum, reverse=True):
        if chosen is not None and ink.sum(dtype=np.float64) < 0.99 * mass_of_digit(chosen):
            break  # its digit, a part of this ink, has less
        shapes = find_digit(ink)
        if shapes is not None and (chosen is None or mass_of_digit(shapes) > mass_of_digit(chosen)):
            chosen = shapes
    if chosen is None:
        raise InputError("blank: expected a digit that stands out from its paper")
    field = centred(scaled(cut_out(chosen, with_parts(chosen))))
    return np.rint(field * np.float32(WHITE)) / np.float32(WHITE)


def paper_of(grey: Grey) -> Grey:
    """Estimate the paper's shade at every pixel: a surface of second order through the most frequent shades.

    Weighted least squares on a sample of the pixels: the further a shade is from the surface, the less it weighs
    (Welsch's weights). The scale shrinks, so that shadows count at first and the table never does.
    """
    terms = surface_terms(grey.shape)
    step = max(1, max(grey.shape) // 64)
    sample, shades = terms[::step, ::step].reshape(-1, 6), grey[::step, ::step].ravel()
    stiffness = 1e-3 * np.diag([0, 1, 1, 1, 1, 1])  # without a reason in the picture the surface is flat
    surface = np.full_like(shades, np.median(shades))
    for scale in (0.2, 0.15, 0.1, 0.07, 0.05, 0.05):
        weights = np.exp(-(((shades - surface) / scale) ** 2))
        weighted = sample.T * weights
        factors = np.linalg.lstsq(weighted @ sample + weights.sum() * stiffness, weighted @ shades, rcond=None)[0]
        surface = sample @ factors
    return (terms @ factors).astype(np.float32)


@functools.lru_cache(maxsize=4)  # of a folder, most pictures have the same size
def surface_terms(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Compute the terms of a surface of second order at every pixel, (height, width, 6)."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, side, dtype=np.float32) for side in shape), indexing="ij")
    return np.stack([np.ones_like(x), y, x, y * x, y**2, x**2], axis=-1)


def without_lines(ink: Ink) -> Ink:
    """Remove lines from the left side to the right side, and bridge the strokes that cross them."""
    ink = ink.copy()
    thickest = max(3, round(LINE * max(ink.shape)))
    level = ndimage.uniform_filter1d(ink, 1 + round(LINE_AVERAGE * max(ink.shape)), axis=1)
    thin = level - without_lower(level, thickest)
    hidden = without_lower(ink, thickest) > CONTRAST  # the table or a stroke: a line may go on below
    lined = (ndimage.maximum_filter1d(thin, 3, axis=0) > LINE_INK + np.median(thin)) & ~hidden

    hidden_at, lined_at = np.nonzero(hidden), np.nonzero(lined)
    tilts = tilts_of(ink.shape)
    coverages = [coverage(lined_at, hidden_at, tilt) for tilt in tilts]
    if not any((covered > COVERAGE).any() for covered in coverages):
        return ink
    sharpness = [np.sum(covered**2) for covered in coverages]
    for number in np.argsort(sharpness)[::-1]:  # the lines' own slope first
        covered = coverage(lined_at, hidden_at, tilts[number]) > COVERAGE
        if covered.any():
            for first, last in runs(ndimage.binary_dilation(covered)):
                erase(ink, lined, np.arange(first - 1, last + 2)[:, None] + tilts[number].shift)
            lined_at = np.nonzero(lined)
    return ink


def without_lower(values: Ink, height: int) -> Ink:
    """Remove what is darker than its surroundings in fewer rows than `height`: a grey opening."""
    eroded = ndimage.minimum_filter1d(values, height, axis=0)
    return ndimage.maximum_filter1d(eroded, height, axis=0, origin=height % 2 - 1)


class Tilt(NamedTuple):
    """A slope of lines."""

    shift: NDArray[np.intp]  # (width,), rows by which a line is lower in each column than in the middle
    inside: NDArray[np.intp]  # (height,), columns in which a row, shifted, lies within the picture


@functools.lru_cache(maxsize=8)  # of a folder, most pictures have the same size
def tilts_of(shape: tuple[int, ...]) -> list[Tilt]:
    """List the slopes that lines may have in a picture; from one to the next, a line's ends move by 1.5 pixels."""
    height, width = shape
    half_steps = max(1, round(TILT * width / 3))
    rows, found = np.arange(height), []
    for slope in np.linspace(-TILT, TILT, 2 * half_steps + 1):
        shift = np.round(slope * (np.arange(width) - width / 2)).astype(int)
        inside = np.searchsorted(np.sort(shift), height - rows) - np.searchsorted(np.sort(shift), -rows)
        found.append(Tilt(shift, inside))
    return found


Places = tuple[NDArray[np.intp], ...]  # rows and columns


def coverage(lined: Places, hidden: Places, tilt: Tilt) -> NDArray[np.float64]:
    """Compute of each row, shifted in each column, how much of what is seen of it is lined: (height,), 0 to 1."""
    height, width = len(tilt.inside), len(tilt.shift)
    margin = int(abs(tilt.shift).max())
    of_lined, of_hidden = (
        np.bincount(rows - tilt.shift[columns] + margin, minlength=height + 2 * margin)[margin : margin + height]
        for rows, columns in (lined, hidden)
    )
    seen = tilt.inside - of_hidden
    return np.where(seen > SEEN * width, of_lined / np.maximum(seen, 1), 0)


def runs(marked: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Give the first and the last index of each run."""
    labels, _ = ndimage.label(marked)
    return ((run.start, run.stop - 1) for (run,) in ndimage.find_objects(labels))


def erase(ink: Ink, lined: Mask, rows: NDArray[np.intp]) -> None:
    """Erase a line from both: rows (thickness + 2, width) are those of the line, and one above and one below it.

    Where there is ink above and below the line, a stroke crosses it. Ink much darker than the line is a stroke too.
    """
    rows = rows.clip(0, len(ink) - 1)
    columns = np.arange(ink.shape[1])
    above, line, below = ink[rows[0], columns], ink[rows[1:-1], columns], ink[rows[-1], columns]
    slanted = len(line)  # pixels by which a stroke at 45 degrees moves on its way through the line
    bridge = np.minimum(ndimage.maximum_filter1d(above, slanted), ndimage.maximum_filter1d(below, slanted))
    is_pen = line > PEN * np.median(line.max(axis=0))
    ink[rows[1:-1], columns] = np.where(is_pen, line, np.minimum(line, bridge))
    lined[rows[1:-1], columns] = False


class Shapes(NamedTuple):
    """Connected areas of ink, numbered from 1; the last four arrays are (count,)."""

    ink: Ink
    labels: NDArray[np.int32]  # (height, width), 0 is paper
    boxes: list[tuple[slice, slice]]  # rows and columns
    lengths: NDArray[np.int_]  # pixels, of a box's longer side
    masses: NDArray[np.float64]  # sum of the ink
    is_table: NDArray[np.bool_]
    digit: int  # index of the shape with the most ink that may be a digit, -1 if there is none

    def joined(self, which: NDArray[np.bool_]) -> Mask:
        return np.concatenate([[False], which])[self.labels]


def mass_of_digit(shapes: Shapes) -> float:
    return float(shapes.masses[shapes.digit])


def find_digit(ink: Ink) -> Shapes | None:
    """Find the shapes in ink, and the one that is the digit or its largest part."""
    ink = without_lines(without_lines(ink).T).T
    smooth = ndimage.gaussian_filter(ink, SMOOTHING * max(ink.shape))
    paper = np.ones(ink.shape, bool)  # all but the table
    while paper.any():
        shapes = find_shapes(ink, paper & (smooth > otsu(smooth[paper])))
        if not shapes.boxes or ink[shapes.labels > 0].mean() < CONTRAST:
            return None
        if shapes.digit >= 0:
            return shapes
        if not shapes.is_table.any():
            return None
        # The table was the darkest: there may be a fainter digit.
        soft_edge = max(1, round(0.02 * max(ink.shape)))
        paper &= ~ndimage.binary_dilation(shapes.joined(shapes.is_table), iterations=soft_edge)
    return None


def otsu(values: NDArray[np.float32]) -> float:
    """Find the threshold that separates two groups best (Otsu 1979): the greatest variance between their means."""
    counts, edges = np.histogram(values, 256, (0, max(float(values.max()), 1e-6)))
    below, sums = np.cumsum(counts), np.cumsum(counts * edges[:-1])
    weight = below * (below[-1] - below)
    difference = sums[-1] / below[-1] * below - sums
    variance = np.divide(difference**2, weight, out=np.zeros(len(counts)), where=weight > 0)
    return float(edges[1 + np.argmax(variance)])


def find_shapes(ink: Ink, mask: Mask) -> Shapes:
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    boxes = ndimage.find_objects(labels)
    lengths = np.array([length(box) for box in boxes], int)
    masses = ndimage.sum_labels(ink, labels, np.arange(1, count + 1))
    is_table = find_table(labels, boxes)
    possible = ~is_table & (lengths >= SMALLEST * max(ink.shape))
    digit = int(np.argmax(np.where(possible, masses, 0))) if possible.any() else -1
    return Shapes(ink, labels, boxes, lengths, masses, is_table, digit)


def length(box: tuple[slice, slice]) -> int:
    return max(part.stop - part.start for part in box)


def find_table(labels: NDArray[np.int32], boxes: list[tuple[slice, slice]]) -> NDArray[np.bool_]:
    """Tell which shapes run along a side of the picture, lie wholly at it, or fill a corner."""
    count = labels.max() + 1
    sides = [labels[0], labels[-1], labels[:, 0], labels[:, -1]]
    touched = [np.bincount(side, minlength=count) for side in sides]  # pixels, by shape
    corner = max(1, round(0.02 * max(labels.shape)))
    in_corner = np.zeros(count, bool)
    for rows in (labels[:corner], labels[-corner:]):
        in_corner[rows[:, :corner]] = in_corner[rows[:, -corner:]] = True
    is_along = np.any([pixels > ALONG * len(side) for pixels, side in zip(touched, sides, strict=True)], axis=0)
    is_corner = in_corner & (np.sum(touched, axis=0) > IN_CORNER * min(labels.shape))
    rim = LINE * max(labels.shape)
    at_side = [
        any(part.stop <= rim or part.start >= side - rim for part, side in zip(box, labels.shape, strict=True))
        for box in boxes
    ]
    return np.asarray((is_along | is_corner)[1:] | np.array(at_side, bool))


def with_parts(shapes: Shapes) -> NDArray[np.bool_]:
    """Tell which shapes are the digit and its parts.

    Raises `InputError` if one of the others is a digit too.
    """
    count = len(shapes.boxes)
    chosen = np.arange(count) == shapes.digit
    digit_mass = shapes.masses[shapes.digit]
    possible = ~shapes.is_table & (shapes.masses > PART * digit_mass)
    if not (possible & ~chosen).any():
        return chosen
    joining = chosen
    while joining.any():
        chosen = chosen | joining
        group = shapes.joined(chosen)
        (box,) = ndimage.find_objects(group.astype(np.uint8))
        gaps = ndimage.minimum(ndimage.distance_transform_edt(~group), shapes.labels, np.arange(1, count + 1))
        limits = np.array([widest_gap(box, other) for other in shapes.boxes])
        joining = possible & ~chosen & (gaps <= limits)
    labels = shapes.labels
    at_border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    other_digits = possible & ~chosen & (shapes.lengths > SECOND[0] * length(box))
    other_digits &= (shapes.masses > SECOND[1] * digit_mass) & ~np.isin(np.arange(1, count + 1), at_border)
    if other_digits.any():
        raise InputError(f"expected one digit, found {1 + other_digits.sum()} separate shapes of about its size")
    return chosen


def widest_gap(digit: tuple[slice, slice], part: tuple[slice, slice]) -> float:
    """Compute how far from the digit a part of it may lie, in pixels, from the boxes of both."""
    union = max(max(a.stop, b.stop) - min(a.start, b.start) for a, b in zip(digit, part, strict=True))
    (rows, columns), (part_rows, part_columns) = digit, part
    if part_rows.stop - part_rows.start < LOW * (rows.stop - rows.start):
        return min(length(part), GAP_OF_LOW * union)
    shared = min(columns.stop, part_columns.stop) - max(columns.start, part_columns.start)
    narrower = min(columns.stop - columns.start, part_columns.stop - part_columns.start)
    return (GAP_ABOVE if shared > narrower / 2 else GAP_BESIDE) * union


def cut_out(shapes: Shapes, chosen: NDArray[np.bool_]) -> Ink:
    """Take the ink of the digit with the soft edges of its strokes, and nothing else."""
    ink, group = shapes.ink, shapes.joined(chosen)
    (box,) = ndimage.find_objects(group.astype(np.uint8))
    reach = max(1.5, REACH * length(box))  # pixels
    near = (ndimage.distance_transform_edt(~group) <= reach) & ~shapes.joined(~chosen)
    depth = np.quantile(ink[group], 0.9)  # the strokes' usual ink
    digit = np.where(near & (ink > FAINTEST * depth), np.minimum(ink, depth), 0)
    (box,) = ndimage.find_objects((digit > 0).astype(np.uint8))
    return digit[box]


def scaled(ink: Ink) -> NDArray[np.float32]:
    """Scale to 20 pixels in height or width, whichever is more, and the darkest ink to 1."""
    height, width = (max(1, round(side * BOX / max(ink.shape))) for side in ink.shape)
    small = np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(small / small.max(), 0, 1)


def centred(digit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay a digit into (28, 28), its centre of mass in the pixel right of and below the middle, as far as it fits."""
    field = np.zeros((SIDE, SIDE), np.float32)
    height, width = digit.shape
    top, left = (_start(digit.sum(axis=axis)) for axis in (1, 0))
    field[top : top + height, left : left + width] = digit
    return field


def _start(profile: NDArray[np.float32]) -> int:
    """Find where a digit's sums (side,) begin in (28,), their centre of mass in the 15th pixel, as MNIST's is."""
    centre = profile @ np.arange(len(profile)) / profile.sum()  # in pixels from the first one's middle
    return min(max(0, math.ceil(round(SIDE / 2 - 0.5 - centre, 3))), SIDE - len(profile))

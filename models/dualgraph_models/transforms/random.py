"""Transforms that draw what they do.

They draw from dualgraph's global generator, which a DataLoader seeds in each of its workers: the
same seed gives the same images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import dualgraph as dg
from dualgraph_compiler.errors import ArgumentError
from dualgraph_models.transforms import functional as TF
from dualgraph_models.transforms.functional import InterpolationMode, Size
from dualgraph_models.transforms.image import Transform

__all__ = [
    "ColorJitter",
    "RandomApply",
    "RandomChoice",
    "RandomCrop",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
]


def _uniform(low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(dg.rand((), dtype=dg.float64).item())


def _below(end: int) -> int:
    return int(dg.randint(0, end, ()).item())


class RandomHorizontalFlip(Transform):
    """Images mirrored left to right, with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, img: Any) -> Any:
        return TF.hflip(img) if _uniform() < self.p else img


class RandomVerticalFlip(Transform):
    """Images mirrored top to bottom, with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, img: Any) -> Any:
        return TF.vflip(img) if _uniform() < self.p else img


class RandomGrayscale(Transform):
    """Images without colour, with probability `p`, and as many channels as they had."""

    def __init__(self, p: float = 0.1) -> None:
        self.p = p

    def __call__(self, img: Any) -> Any:
        if _uniform() >= self.p:
            return img
        return TF.to_grayscale(img, 1 if img.mode == "L" else 3)


class RandomApply(Transform):
    """All of several transforms, with probability `p`, or none."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]], p: float = 0.5) -> None:
        self.transforms = transforms
        self.p = p

    def __call__(self, img: Any) -> Any:
        if _uniform() < self.p:
            for transform in self.transforms:
                img = transform(img)
        return img


class RandomChoice(Transform):
    """One of several transforms, each as likely, or with the likelihoods `p`."""

    def __init__(
        self, transforms: Sequence[Callable[[Any], Any]], p: Sequence[float] | None = None
    ) -> None:
        if p is not None and len(p) != len(transforms):
            raise ArgumentError(f"expected {len(transforms)} probabilities, got {len(p)}")
        self.transforms = transforms
        self.p = p

    def __call__(self, img: Any) -> Any:
        weights = self.p or [1.0] * len(self.transforms)
        place = _uniform(0, sum(weights))
        for transform, weight in zip(self.transforms, weights):
            place -= weight
            if place < 0:
                return transform(img)
        return self.transforms[-1](img)


class RandomCrop(Transform):
    """A part of images, from any place.

    Args:
        size: height and width of the part.
        padding: pixels added to the image before, see `pad`.
        pad_if_needed: add as many as a smaller image lacks.
        fill, padding_mode: what is added.

    Raises:
        ArgumentError: an image that is smaller than the part.
    """

    def __init__(
        self,
        size: Size,
        padding: Size | None = None,
        pad_if_needed: bool = False,
        fill: Any = 0,
        padding_mode: str = "constant",
    ) -> None:
        self.size = TF.pair_of(size)
        self.padding = padding
        self.pad_if_needed = pad_if_needed
        self.fill = fill
        self.padding_mode = padding_mode

    def __call__(self, img: Any) -> Any:
        if self.padding is not None:
            img = TF.pad(img, self.padding, self.fill, self.padding_mode)
        height, width = self.size
        rows, columns = TF.get_image_size(img)
        if self.pad_if_needed and (rows < height or columns < width):
            lacking = [max(width - columns, 0), max(height - rows, 0)]
            img = TF.pad(img, lacking, self.fill, self.padding_mode)
            rows, columns = TF.get_image_size(img)
        if rows < height or columns < width:
            raise ArgumentError(
                f"Required crop size {self.size} is larger than input image size {(rows, columns)}"
            )
        top, left = _below(rows - height + 1), _below(columns - width + 1)
        return TF.crop(img, top, left, height, width)


class RandomResizedCrop(Transform):
    """A part of images of random area and shape, scaled to `size`.

    Args:
        size: height and width of the result.
        scale: bounds of the share of the image's area.
        ratio: bounds of the part's width divided by its height.
        interpolation, antialias: see `resize`.

    Source: C. Szegedy et al., "Going deeper with convolutions", section 6.
    """

    def __init__(
        self,
        size: Size,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: InterpolationMode = InterpolationMode.BILINEAR,
        antialias: bool | None = True,
    ) -> None:
        self.size = TF.pair_of(size)
        self.scale = scale
        self.ratio = ratio
        self.interpolation = interpolation
        self.antialias = antialias

    def _part(self, rows: int, columns: int) -> tuple[int, int, int, int]:
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area = rows * columns * _uniform(*self.scale)
            ratio = math.exp(_uniform(low, high))
            width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < width <= columns and 0 < height <= rows:
                return _below(rows - height + 1), _below(columns - width + 1), height, width
        # The largest part in the middle whose shape is allowed.
        shape = min(max(columns / rows, self.ratio[0]), self.ratio[1])
        width, height = min(columns, round(rows * shape)), min(rows, round(columns / shape))
        return (rows - height) // 2, (columns - width) // 2, height, width

    def __call__(self, img: Any) -> Any:
        part = self._part(*TF.get_image_size(img))
        return TF.resized_crop(img, *part, self.size, self.interpolation, self.antialias)


class RandomRotation(Transform):
    """Images turned by an angle between `degrees[0]` and `degrees[1]`; see `rotate`."""

    def __init__(
        self,
        degrees: float | Sequence[float],
        interpolation: InterpolationMode = InterpolationMode.NEAREST,
        expand: bool = False,
        center: Sequence[int] | None = None,
        fill: Any = 0,
    ) -> None:
        self.degrees = degrees if isinstance(degrees, Sequence) else (-degrees, degrees)
        self.interpolation = interpolation
        self.expand = expand
        self.center = center
        self.fill = fill

    def __call__(self, img: Any) -> Any:
        angle = _uniform(*self.degrees)
        return TF.rotate(img, angle, self.interpolation, self.expand, self.center, self.fill)


class ColorJitter(Transform):
    """Images of changed brightness, contrast, saturation and hue, in random order.

    Args:
        brightness, contrast, saturation: bounds of the factor; one number x stands for
            (1 - x, 1 + x), without negative ones.
        hue: bounds of the turn in parts of the circle; one number x for (-x, x).

    Raises:
        ArgumentError: bounds out of order or range.
    """

    def __init__(
        self,
        brightness: float | Sequence[float] = 0,
        contrast: float | Sequence[float] = 0,
        saturation: float | Sequence[float] = 0,
        hue: float | Sequence[float] = 0,
    ) -> None:
        self.brightness = _bounds("brightness", brightness, 1.0, (0.0, math.inf))
        self.contrast = _bounds("contrast", contrast, 1.0, (0.0, math.inf))
        self.saturation = _bounds("saturation", saturation, 1.0, (0.0, math.inf))
        self.hue = _bounds("hue", hue, 0.0, (-0.5, 0.5))

    def __call__(self, img: Any) -> Any:
        changes: list[tuple[Callable[[Any, float], Any], tuple[float, float] | None]] = [
            (TF.adjust_brightness, self.brightness),
            (TF.adjust_contrast, self.contrast),
            (TF.adjust_saturation, self.saturation),
            (TF.adjust_hue, self.hue),
        ]
        for which in dg.randperm(len(changes)).tolist():
            change, bounds = changes[which]
            if bounds is not None:
                img = change(img, _uniform(*bounds))
        return img


def _bounds(
    name: str, value: float | Sequence[float], middle: float, limits: tuple[float, float]
) -> tuple[float, float] | None:
    """The bounds that an option stands for; None for no change."""
    if isinstance(value, Sequence):
        low, high = value
    elif value < 0:
        raise ArgumentError(f"If {name} is a single number, it must be non negative.")
    else:
        low, high = middle - value, middle + value
        low = max(low, 0.0) if middle else low
    if not limits[0] <= low <= high <= limits[1]:
        raise ArgumentError(f"{name} values should be between {limits}, but got {value}.")
    return None if low == high == middle else (low, high)

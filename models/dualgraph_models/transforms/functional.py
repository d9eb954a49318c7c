"""What transforms do to an image, one of Pillow's or a tensor [..., channels, height, width].

Colours and rotations are for Pillow images alone. Names, arguments and results are torchvision's.
"""

from __future__ import annotations

import enum
import numbers
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import Tensor
from dualgraph_compiler.errors import ArgumentError
from dualgraph_models._pillow import pillow

__all__ = [
    "InterpolationMode",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "center_crop",
    "crop",
    "get_image_size",
    "hflip",
    "normalize",
    "pad",
    "pil_to_tensor",
    "resize",
    "resized_crop",
    "rotate",
    "to_grayscale",
    "to_pil_image",
    "to_tensor",
    "vflip",
]

Size: TypeAlias = int | Sequence[int]


class InterpolationMode(enum.Enum):
    """How pixels between pixels are computed; the names are Pillow's, too."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


def _images(image: Any) -> Any:
    """The Pillow package, for an image of it.

    Raises:
        TypeError: the image is none of Pillow's.
    """
    package = pillow("to transform images")
    if not isinstance(image, package.Image.Image):
        raise TypeError(f"img should be PIL Image, got {type(image).__name__}")
    return package


def get_image_size(image: Any) -> tuple[int, int]:
    """The height and width.

    Raises:
        TypeError: no image of Pillow's, and no tensor of two dimensions or more.
    """
    if isinstance(image, Tensor):
        if image.ndim < 2:
            raise TypeError(f"an image has two dimensions or more, got {image.ndim}")
        return int(image.shape[-2]), int(image.shape[-1])
    _images(image)
    return int(image.height), int(image.width)


def pair_of(size: Size) -> tuple[int, int]:
    """Height and width from one number or two."""
    if isinstance(size, numbers.Integral):
        return int(size), int(size)
    if isinstance(size, Sequence) and 1 <= len(size) <= 2:
        return int(size[0]), int(size[-1])
    raise ArgumentError(f"expected a size of one or two numbers, got {size!r}")


# -- from and to tensors --------------------------------------------------------------------------


def to_tensor(image: Any) -> Tensor:
    """A tensor [channels, height, width] of a Pillow image or array [height, width, channels].

    Pixels of 8 bits are scaled to 0..1; others keep their values, and arrays their dtype.

    Raises:
        TypeError: something else.
        ArgumentError: an array of other than two or three dimensions.
    """
    if not isinstance(image, np.ndarray):
        tensor = pil_to_tensor(image)
        if tensor.dtype is dg.bool:
            return tensor.to(dg.get_default_dtype())
        return tensor.to(dg.get_default_dtype()) / 255 if tensor.dtype is dg.uint8 else tensor
    if image.ndim not in (2, 3):
        raise ArgumentError(f"pic should be 2/3 dimensional. Got {image.ndim} dimensions.")
    channels_first = np.atleast_3d(image).transpose(2, 0, 1)
    tensor = dg.from_numpy(np.ascontiguousarray(channels_first))
    return tensor.to(dg.get_default_dtype()) / 255 if tensor.dtype is dg.uint8 else tensor


def pil_to_tensor(image: Any) -> Tensor:
    """A tensor [channels, height, width] of the pixels of a Pillow image as they are.

    Raises:
        TypeError: no image of Pillow's.
    """
    _images(image)
    pixels = np.array(image, copy=True)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return dg.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def to_pil_image(image: Any, mode: str | None = None) -> Any:
    """A Pillow image of a tensor [channels, height, width] or array [height, width, channels].

    Floats are taken for 0..1 and brought to 8 bits.

    Raises:
        TypeError: something else, or of a dtype that images do not have.
        ArgumentError: other than two or three dimensions, or other than 1 to 4 channels.
    """
    package = pillow("to make images")
    if isinstance(image, Tensor):
        pixels = image.detach().cpu().numpy()
        if pixels.ndim == 3:
            pixels = pixels.transpose(1, 2, 0)
        if pixels.dtype.kind == "f" and mode != "F":
            pixels = (pixels * 255).astype(np.uint8)
    elif isinstance(image, np.ndarray):
        pixels = image
    else:
        raise TypeError(f"pic should be Tensor or ndarray. Got {type(image)}.")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and not 1 <= pixels.shape[2] <= 4):
        raise ArgumentError(f"pic should have 2/3 dimensions and 1 to 4 channels: {image.shape}")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    try:
        made = package.Image.fromarray(np.ascontiguousarray(pixels))
    except TypeError as error:
        raise TypeError(f"Input type {pixels.dtype} is not supported") from error
    return made if mode is None or mode == made.mode else made.convert(mode)


def normalize(
    tensor: Tensor, mean: Sequence[float], std: Sequence[float], inplace: bool = False
) -> Tensor:
    """`(tensor - mean) / std`, channel by channel; float [..., channels, height, width].

    Raises:
        TypeError: no float tensor.
        ArgumentError: fewer than three dimensions, or a standard deviation of zero.
    """
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"Input tensor should be a float tensor. Got {kind}.")
    if tensor.ndim < 3:
        raise ArgumentError(
            "Expected tensor to be a tensor image of size (..., C, H, W). Got tensor.size() = "
            f"{tensor.size()}"
        )
    shift = dg.as_tensor(mean, dtype=tensor.dtype, device=tensor.device).reshape(-1, 1, 1)
    scale = dg.as_tensor(std, dtype=tensor.dtype, device=tensor.device).reshape(-1, 1, 1)
    if bool((scale == 0).any()):
        raise ArgumentError(f"std evaluated to zero in {tensor.dtype}, leading to division by zero")
    if inplace:
        tensor.sub_(shift).div_(scale)
        return tensor
    normal: Tensor = (tensor - shift) / scale
    return normal


# -- geometry -------------------------------------------------------------------------------------


def hflip(image: Any) -> Any:
    """Mirrored left to right."""
    if isinstance(image, Tensor):
        return image.flip(-1)
    return image.transpose(_images(image).Image.Transpose.FLIP_LEFT_RIGHT)


def vflip(image: Any) -> Any:
    """Mirrored top to bottom."""
    if isinstance(image, Tensor):
        return image.flip(-2)
    return image.transpose(_images(image).Image.Transpose.FLIP_TOP_BOTTOM)


def pad(image: Any, padding: Size, fill: Any = 0, padding_mode: str = "constant") -> Any:
    """With `padding` pixels added at the edges: all, (left and right, top and bottom), or (left,
    top, right, bottom).

    Args:
        image: the image.
        padding: how many pixels.
        fill: their value, for "constant".
        padding_mode: "constant", "edge", "reflect" or "symmetric"; tensors have the first alone.

    Raises:
        ArgumentError: another number of paddings, or another mode.
    """
    sides = [padding] if isinstance(padding, numbers.Integral) else list(padding)  # type: ignore[arg-type]
    if len(sides) not in (1, 2, 4):
        raise ArgumentError(f"Padding must be an int or a 1, 2, or 4 element tuple, got {padding}")
    left, top, right, bottom = (sides * 4)[:4]
    modes = ("constant",) if isinstance(image, Tensor) else _PADDING_MODES
    if padding_mode not in modes:
        raise ArgumentError(f"Padding mode should be one of {', '.join(modes)}")
    if isinstance(image, Tensor):
        return F.pad(image, (left, right, top, bottom), value=fill)
    package = _images(image)
    if padding_mode == "constant":
        return package.ImageOps.expand(image, (left, top, right, bottom), fill)
    pixels = np.asarray(image)
    widths = ((top, bottom), (left, right), (0, 0))[: pixels.ndim]
    return package.Image.fromarray(np.pad(pixels, widths, mode=padding_mode))  # type: ignore[call-overload]


_PADDING_MODES = ("constant", "edge", "reflect", "symmetric")


def crop(image: Any, top: int, left: int, height: int, width: int) -> Any:
    """The part that begins at (top, left); what lies beyond the image is zero."""
    if not isinstance(image, Tensor):
        _images(image)
        return image.crop((left, top, left + width, top + height))
    rows, columns = get_image_size(image)
    bottom, right = top + height, left + width
    inside = image[..., max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    missing = [
        min(max(-left, 0), width),
        min(max(right - columns, 0), width),
        min(max(-top, 0), height),
        min(max(bottom - rows, 0), height),
    ]
    return F.pad(inside, missing) if any(missing) else inside


def center_crop(image: Any, output_size: Size) -> Any:
    """The middle of an image, with zeros around it where it is too small."""
    height, width = pair_of(output_size)
    rows, columns = get_image_size(image)
    lacking = max(height - rows, 0), max(width - columns, 0)
    if any(lacking):
        down, across = lacking
        image = pad(image, [across // 2, down // 2, (across + 1) // 2, (down + 1) // 2])
        rows, columns = get_image_size(image)
    return crop(image, round((rows - height) / 2), round((columns - width) / 2), height, width)


def resize(
    image: Any,
    size: Size,
    interpolation: InterpolationMode = InterpolationMode.BILINEAR,
    max_size: int | None = None,
    antialias: bool | None = True,
) -> Any:
    """Scaled to a height and width; with one number, so that the shorter side has that length.

    Args:
        image: the image.
        size: (height, width), or the length of the shorter side.
        interpolation: tensors have "nearest", "bilinear" and "bicubic".
        max_size: with one number, how long the longer side may become.
        antialias: for tensors, whether shrinking averages; Pillow images always do.

    Raises:
        ArgumentError: a `max_size` that is shorter than the shorter side, or beside two numbers.
    """
    height, width = _scaled(get_image_size(image), size, max_size)
    if not isinstance(image, Tensor):
        resampling = _images(image).Image.Resampling[interpolation.name]
        return image.resize((width, height), resampling)
    smooth = interpolation in (InterpolationMode.BILINEAR, InterpolationMode.BICUBIC)
    rows, columns = get_image_size(image)
    batch = image.reshape(-1, 1, rows, columns)
    pixels = batch if batch.is_floating_point() else batch.float()
    scaled = F.interpolate(
        pixels, (height, width), mode=interpolation.value, antialias=smooth and bool(antialias)
    )
    if not batch.is_floating_point():
        scaled = scaled.round().clamp(0, 255).to(image.dtype)
    return scaled.reshape(*image.shape[:-2], height, width)


def _scaled(image: tuple[int, int], size: Size, max_size: int | None) -> tuple[int, int]:
    if isinstance(size, Sequence) and len(size) == 2:
        if max_size is not None:
            raise ArgumentError(
                "max_size should only be passed if size specifies the length of the smaller edge"
            )
        return pair_of(size)
    wanted = pair_of(size)[0]
    short, long = min(image), max(image)
    new_short, new_long = wanted, int(wanted * long / short)
    if max_size is not None:
        if max_size <= wanted:
            raise ArgumentError(
                f"max_size = {max_size} must be strictly greater than the requested size for the "
                f"smaller edge size = {wanted}"
            )
        if new_long > max_size:
            new_short, new_long = int(max_size * new_short / new_long), max_size
    return (new_short, new_long) if image[0] <= image[1] else (new_long, new_short)


def resized_crop(
    image: Any,
    top: int,
    left: int,
    height: int,
    width: int,
    size: Size,
    interpolation: InterpolationMode = InterpolationMode.BILINEAR,
    antialias: bool | None = True,
) -> Any:
    """A part, scaled to `size`."""
    part = crop(image, top, left, height, width)
    return resize(part, pair_of(size), interpolation, antialias=antialias)


def rotate(
    image: Any,
    angle: float,
    interpolation: InterpolationMode = InterpolationMode.NEAREST,
    expand: bool = False,
    center: Sequence[int] | None = None,
    fill: Any = None,
) -> Any:
    """A Pillow image turned by `angle` degrees, counter-clockwise.

    Args:
        image: the image.
        angle: in degrees.
        interpolation: "nearest", "bilinear" or "bicubic".
        expand: whether the result is as large as it must be to hold all of the image.
        center: (x, y) that stays in place, by default the middle.
        fill: the colour of what is uncovered, by default black.
    """
    resampling = _images(image).Image.Resampling[interpolation.name]
    return image.rotate(angle, resampling, expand, center, fillcolor=fill)


# -- colours --------------------------------------------------------------------------------------


def _enhance(image: Any, kind: str, factor: float) -> Any:
    if factor < 0:
        raise ArgumentError(f"the factor of {kind.lower()} is not negative, got {factor}")
    return getattr(_images(image).ImageEnhance, kind)(image).enhance(factor)


def adjust_brightness(image: Any, brightness_factor: float) -> Any:
    """A Pillow image between black (0), itself (1), and brighter."""
    return _enhance(image, "Brightness", brightness_factor)


def adjust_contrast(image: Any, contrast_factor: float) -> Any:
    """A Pillow image between grey (0), itself (1), and more contrast."""
    return _enhance(image, "Contrast", contrast_factor)


def adjust_saturation(image: Any, saturation_factor: float) -> Any:
    """A Pillow image between no colour (0), itself (1), and more."""
    return _enhance(image, "Color", saturation_factor)


def adjust_hue(image: Any, hue_factor: float) -> Any:
    """A Pillow image whose hues are turned by `hue_factor` of the circle, -0.5 to 0.5.

    Raises:
        ArgumentError: the factor is outside of that.
    """
    if not -0.5 <= hue_factor <= 0.5:
        raise ArgumentError(f"hue_factor ({hue_factor}) is not in [-0.5, 0.5].")
    package = _images(image)
    if image.mode in ("L", "1", "I", "F"):
        return image
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(int(hue_factor * 255) % 256)
    bands = (package.Image.fromarray(turned), saturation, value)
    return package.Image.merge("HSV", bands).convert(image.mode)


def to_grayscale(image: Any, num_output_channels: int = 1) -> Any:
    """A Pillow image without colour, of one channel or three that are equal.

    Raises:
        ArgumentError: another number of channels.
    """
    package = _images(image)
    if num_output_channels not in (1, 3):
        raise ArgumentError("num_output_channels should be either 1 or 3")
    gray = image.convert("L")
    return gray if num_output_channels == 1 else package.Image.merge("RGB", (gray, gray, gray))

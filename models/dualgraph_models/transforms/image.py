"""Transforms that do the same to every image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dualgraph import Tensor
from dualgraph_models.transforms import functional as TF
from dualgraph_models.transforms.functional import InterpolationMode, Size

__all__ = [
    "CenterCrop",
    "Compose",
    "Grayscale",
    "Lambda",
    "Normalize",
    "PILToTensor",
    "Pad",
    "Resize",
    "ToPILImage",
    "ToTensor",
    "Transform",
]


class Transform:
    """A function of an image; the options it was made with are its attributes."""

    def __call__(self, img: Any) -> Any:
        raise NotImplementedError("Subclasses of Transform should implement __call__.")

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({options})"


class Compose(Transform):
    """Several transforms, one after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, img: Any) -> Any:
        for transform in self.transforms:
            img = transform(img)
        return img

    def __repr__(self) -> str:
        lines = "".join(f"\n    {transform}" for transform in self.transforms)
        return f"Compose({lines}\n)"


class Lambda(Transform):
    """A function of the user's."""

    def __init__(self, lambd: Callable[[Any], Any]) -> None:
        if not callable(lambd):
            raise TypeError(f"Argument lambd should be callable, got {type(lambd).__name__}")
        self.lambd = lambd

    def __call__(self, img: Any) -> Any:
        return self.lambd(img)


class ToTensor(Transform):
    """Pillow images and arrays [height, width, channels] as tensors; see `to_tensor`."""

    def __call__(self, pic: Any) -> Tensor:
        return TF.to_tensor(pic)


class PILToTensor(Transform):
    """Pillow images as tensors of their pixels as they are."""

    def __call__(self, pic: Any) -> Tensor:
        return TF.pil_to_tensor(pic)


class ToPILImage(Transform):
    """Tensors and arrays as Pillow images; see `to_pil_image`."""

    def __init__(self, mode: str | None = None) -> None:
        self.mode = mode

    def __call__(self, pic: Any) -> Any:
        return TF.to_pil_image(pic, self.mode)


class Normalize(Transform):
    """Tensors with a mean taken from each channel, divided by a standard deviation."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> None:
        self.mean = mean
        self.std = std
        self.inplace = inplace

    def __call__(self, tensor: Tensor) -> Tensor:
        return TF.normalize(tensor, self.mean, self.std, self.inplace)


class Resize(Transform):
    """Images scaled to a size; see `resize`."""

    def __init__(
        self,
        size: Size,
        interpolation: InterpolationMode = InterpolationMode.BILINEAR,
        max_size: int | None = None,
        antialias: bool | None = True,
    ) -> None:
        self.size = size
        self.interpolation = interpolation
        self.max_size = max_size
        self.antialias = antialias

    def __call__(self, img: Any) -> Any:
        return TF.resize(img, self.size, self.interpolation, self.max_size, self.antialias)


class CenterCrop(Transform):
    """The middle of images."""

    def __init__(self, size: Size) -> None:
        self.size = TF.pair_of(size)

    def __call__(self, img: Any) -> Any:
        return TF.center_crop(img, self.size)


class Pad(Transform):
    """Images with pixels added at their edges; see `pad`."""

    def __init__(self, padding: Size, fill: Any = 0, padding_mode: str = "constant") -> None:
        self.padding = padding
        self.fill = fill
        self.padding_mode = padding_mode

    def __call__(self, img: Any) -> Any:
        return TF.pad(img, self.padding, self.fill, self.padding_mode)


class Grayscale(Transform):
    """Images without colour."""

    def __init__(self, num_output_channels: int = 1) -> None:
        self.num_output_channels = num_output_channels

    def __call__(self, img: Any) -> Any:
        return TF.to_grayscale(img, self.num_output_channels)

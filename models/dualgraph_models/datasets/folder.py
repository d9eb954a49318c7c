"""Images in folders, one folder for each class."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from dualgraph_models._pillow import pillow
from dualgraph_models.datasets._samples import Pairs, Transform

__all__ = ["IMAGE_EXTENSIONS", "ImageFolder", "open_image"]

IMAGE_EXTENSIONS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".ppm",
    ".bmp",
    ".pgm",
    ".tif",
    ".tiff",
    ".webp",
)


def open_image(path: str) -> Any:
    """Read an image file as a Pillow image in RGB.

    Raises:
        ModuleNotFoundError: Pillow is not installed.
        OSError: the file is no image, or a damaged one.
    """
    image = pillow("to read image files").Image
    with image.open(path) as opened:
        return opened.convert("RGB")


class ImageFolder(Pairs):
    """Images below `root/CLASS/`, at any depth; the target is the number of the class.

    Args:
        root: the folder that holds one folder for each class. Classes are numbered in the order of
            their names.
        transform: applied to each image, a Pillow image in RGB unless `loader` gives another.
        target_transform: applied to each number of a class.
        loader: reads a file.
        is_valid_file: whether a path is a sample's; by default whether its ending is that of an
            image.
        allow_empty: whether classes may be without images.

    Attributes:
        classes: names of the classes.
        class_to_idx: their numbers.
        samples: pairs of a path and the number of its class; `imgs` is the same list.
        targets: the numbers alone.

    Raises:
        FileNotFoundError: there is no class, or one without images.
        ModuleNotFoundError: Pillow is not installed, and no `loader` is given.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Transform = None,
        target_transform: Transform = None,
        loader: Callable[[str], Any] = open_image,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
    ) -> None:
        super().__init__(transform, target_transform)
        if loader is open_image:
            pillow("to read image files")
        self.root = os.fspath(root)
        self.loader = loader
        self.classes = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())
        if not self.classes:
            raise FileNotFoundError(f"Couldn't find any class folder in {self.root}.")
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        self.samples = [
            (path, number)
            for name, number in self.class_to_idx.items()
            for path in _files(os.path.join(self.root, name), is_valid_file or _is_image)
        ]
        self.imgs = self.samples
        self.targets = [number for _, number in self.samples]
        empty = [n for n, number in self.class_to_idx.items() if number not in set(self.targets)]
        if empty and not allow_empty:
            raise FileNotFoundError(
                f"Found no valid file for the classes {', '.join(empty)}. Endings that are read: "
                f"{', '.join(IMAGE_EXTENSIONS)}"
            )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, target = self.samples[index]
        return self.pair(self.loader(path), target)


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_EXTENSIONS)


def _files(folder: str, is_valid: Callable[[str], bool]) -> list[str]:
    """The valid files below `folder`, in the order of their names."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        paths = (os.path.join(place, name) for name in sorted(names))
        found += [path for path in paths if is_valid(path)]
    return found

"""Readers of data sets: small ones as arrays and text, and datasets for a DataLoader."""

from dualgraph_models.datasets.arrays import NpyDataset
from dualgraph_models.datasets.digits import Split, digits_split, load_digits
from dualgraph_models.datasets.folder import IMAGE_EXTENSIONS, ImageFolder, open_image
from dualgraph_models.datasets.idx import (
    IdxDataset,
    IdxError,
    Mnist,
    load_mnist,
    map_idx,
    read_idx,
)
from dualgraph_models.datasets.table import CsvDataset, CsvError
from dualgraph_models.datasets.text import load_lines, load_text

__all__ = [
    "CsvDataset",
    "CsvError",
    "IMAGE_EXTENSIONS",
    "IdxDataset",
    "IdxError",
    "ImageFolder",
    "Mnist",
    "NpyDataset",
    "Split",
    "digits_split",
    "load_digits",
    "load_lines",
    "load_mnist",
    "load_text",
    "map_idx",
    "open_image",
    "read_idx",
]

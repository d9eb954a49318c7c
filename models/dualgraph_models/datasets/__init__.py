"""Readers of small data sets. Images come as plain NumPy arrays, text as strings."""

from dualgraph_models.datasets.digits import Split, digits_split, load_digits
from dualgraph_models.datasets.idx import IdxError, Mnist, load_mnist, read_idx
from dualgraph_models.datasets.text import load_lines, load_text

__all__ = [
    "IdxError",
    "Mnist",
    "Split",
    "digits_split",
    "load_digits",
    "load_lines",
    "load_mnist",
    "load_text",
    "read_idx",
]

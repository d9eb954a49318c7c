"""Readers of small data sets. They return plain NumPy arrays."""

from dualgraph_models.datasets.digits import Split, digits_split, load_digits
from dualgraph_models.datasets.idx import IdxError, Mnist, load_mnist, read_idx

__all__ = ["IdxError", "Mnist", "Split", "digits_split", "load_digits", "load_mnist", "read_idx"]

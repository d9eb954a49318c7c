"""Utilities around training: so far, loading of data."""

from dualgraph.utils import data

__all__ = ["data"]

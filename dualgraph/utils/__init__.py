"""Utilities around training: loading of data, and checkpointing of activations."""

from dualgraph.utils import checkpoint, data

__all__ = ["checkpoint", "data"]

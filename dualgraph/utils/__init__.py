"""Utilities around training: loading of data, and checkpointing of activations."""

from dualgraph.utils import checkpoint, data, dlpack

__all__ = ["checkpoint", "data", "dlpack"]

"""Utilities around training: loading of data, checkpointing of activations, summaries of models."""

from dualgraph.utils import checkpoint, data, dlpack
from dualgraph.utils._summary import Row, Summary, summary

__all__ = ["Row", "Summary", "checkpoint", "data", "dlpack", "summary"]

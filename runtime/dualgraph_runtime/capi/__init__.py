"""The names by which scripts written for ONNX Runtime reach its exceptions."""

from . import onnxruntime_pybind11_state

__all__ = ["onnxruntime_pybind11_state"]

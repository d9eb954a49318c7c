"""ONNX's interface to backends, so that its own test runner and tools work with this runtime.

import dualgraph_runtime.backend as backend
rep = backend.prepare(model, "CPU")
rep.run([x])

Source: ``onnx.backend.base``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx.backend.base import Backend, BackendRep

from dualgraph_compiler.errors import DeviceError, FeedError, OnnxError

from .device import Device
from .options import SessionOptions
from .session import InferenceSession

if TYPE_CHECKING:
    import onnx


class DualGraphRep(BackendRep):
    """A model made ready to run; `session` is the :class:`InferenceSession` behind it."""

    def __init__(self, session: InferenceSession) -> None:
        super().__init__()
        self.session = session

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, in the model's order.

        Args:
            inputs: values in the order of the model's inputs, by name, or the only one.
        """
        names = [arg.name for arg in self.session.get_inputs()]
        if isinstance(inputs, Mapping):
            feed = dict(inputs)
        else:
            values = inputs if isinstance(inputs, list | tuple) else [inputs]
            if len(values) != len(names):
                raise FeedError(f"expected {len(names)} inputs, got {len(values)}")
            feed = dict(zip(names, values, strict=True))
        return tuple(self.session.run(None, feed))


class DualGraphBackend(Backend):
    """Runs ONNX models; devices are "CPU" and "CUDA" (or "CUDA:1")."""

    @classmethod
    def prepare(
        cls,
        model: onnx.ModelProto,
        device: str = "CPU",
        sess_options: SessionOptions | None = None,
        **kwargs: Any,
    ) -> DualGraphRep:
        """The model made ready to run.

        Raises:
            OnnxError: it cannot be read or uses something that is not supported.
            DeviceError: the device is not there.
        """
        kind = _device(device).require()
        provider = ("CUDAExecutionProvider", {"device_id": kind.index or 0})
        providers: list[Any] = ["CPUExecutionProvider"] if kind.type == "cpu" else [provider]
        return DualGraphRep(InferenceSession(model, sess_options, providers))

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """The outputs of a model that is run once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """The results of one node of the newest opset on arrays, absent operands left out."""
        from onnx import TypeProto, helper

        names = [name for name in node.input if name]
        values = [np.asarray(v) for v in inputs]
        infos = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in zip(names, values, strict=True)
        ]
        results = [helper.make_value_info(name, TypeProto()) for name in node.output if name]
        graph = helper.make_graph([node], "node", infos, results)
        return cls.run_model(helper.make_model(graph), values, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether a device is there."""
        try:
            return _device(device).is_available()
        except DeviceError:
            return False

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether a model can be made ready to run on a device."""
        try:
            cls.prepare(model, device, **kwargs)
        except (OnnxError, DeviceError):
            return False
        return True


def _device(name: str) -> Device:
    """ONNX writes devices in capitals: "CPU", "CUDA:1"."""
    return Device(name.lower())


prepare = DualGraphBackend.prepare
run_model = DualGraphBackend.run_model
run_node = DualGraphBackend.run_node
supports_device = DualGraphBackend.supports_device
is_compatible = DualGraphBackend.is_compatible

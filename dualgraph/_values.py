"""What a tensor gives to Python: numbers, lists, text, arrays of other libraries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import AutogradError, TraceError
from dualgraph_compiler.graph import Value
from dualgraph_runtime.device import CPU, to_device

from . import _interop
from ._dispatch import captures, symbolic
from ._repr import format_tensor
from .transforms.levels import Wrapped

if TYPE_CHECKING:
    from ._tensor import Tensor

__all__ = ["Values"]


class Values:
    """Methods of Tensor that need its data."""

    __slots__ = ()

    def _concrete(self: Any, what: str) -> Any:
        """The array behind this tensor.

        Raises:
            TraceError: the tensor is symbolic, and `what` would need its data.
        """
        if type(self._data) is Value:
            raise _needs_data(self._data.graph.capture, what)
        if isinstance(self._data, Wrapped):
            return self._data.concrete(what)
        if symbolic.open_graphs and captures.current is not None:
            captures.current.guard_data(self, what)
        return self._data

    def _on_host(self: Any, what: str) -> Any:
        """`_concrete` in host memory."""
        data = self._concrete(what)
        return data if type(data) is np.ndarray else to_device(data, CPU)

    def numpy(self: Any, *, force: bool = False) -> Any:
        """A NumPy array sharing this CPU tensor's memory.

        Raises:
            AutogradError: the tensor requires a gradient; detach it first.
        """
        data = self._concrete("numpy()")
        if force:
            return self.detach().cpu()._data
        if self.requires_grad:
            raise AutogradError(
                "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() "
                "instead."
            )
        if type(data) is not np.ndarray:
            raise TypeError(
                f"can't convert {self.device} tensor to numpy. Use Tensor.cpu() to copy the tensor "
                "to host memory first."
            )
        self._expose()
        return data

    def item(self: Any) -> Any:
        """The only element as a Python number."""
        data = self._on_host("item()")
        if data.size != 1:
            raise AutogradError(f"a Tensor with {data.size} elements cannot be converted to Scalar")
        return data.item()

    def tolist(self: Any) -> Any:
        """Nested Python lists of the elements."""
        return self._on_host("tolist()").tolist()

    def __float__(self: Any) -> float:
        return float(self.item())

    def __int__(self: Any) -> int:
        return int(self.item())

    def __complex__(self: Any) -> complex:
        return complex(self.item())

    def __bool__(self: Any) -> bool:
        data = self._on_host("the truth value of a tensor")
        if data.size != 1:
            raise AutogradError(
                f"Boolean value of Tensor with {data.size} values is ambiguous"
                if data.size
                else "Boolean value of Tensor with no values is ambiguous"
            )
        return bool(data.item())

    def __index__(self: Any) -> int:
        if self.dtype.category > dt.INT:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __len__(self: Any) -> int:
        if not self._data.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self._data.shape[0]  # type: ignore[no-any-return]

    def __iter__(self: Any) -> Iterator[Tensor]:
        if not self._data.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(int(self._data.shape[0])))

    def __contains__(self: Any, item: Any) -> bool:
        return bool((self == item).any())

    def __repr__(self: Any) -> str:
        return _interop.tensor_repr(self, format_tensor)

    def __str__(self: Any) -> str:
        if type(self._data) is Value and self._data.graph.capture is not None:
            root = self._data.graph.capture.root
            if root.whole:
                self._concrete("the text of a tensor")
        return repr(self)

    def __format__(self: Any, spec: str) -> str:
        return format(self.item(), spec) if spec and not self.ndim else str(self)

    def __array__(self: Any, dtype: Any = None, copy: bool | None = None) -> Any:
        return _interop.to_array(self.numpy(), dtype, copy)

    def __dlpack__(self: Any, **kwargs: Any) -> Any:
        return _interop.to_dlpack(self, **kwargs)

    def __dlpack_device__(self: Any) -> tuple[int, int]:
        return _interop.dlpack_device(self)

    @property
    def __cuda_array_interface__(self: Any) -> Any:
        if not self.is_cuda:
            raise AttributeError("__cuda_array_interface__ exists on cuda tensors only")
        return self._data.__cuda_array_interface__


def _needs_data(capture: Any, what: str) -> TraceError:
    """The error for a symbolic tensor whose data is asked for."""
    why = f"{what} needs the data of a tensor, which has none while being traced"
    advice = "Keep the computation in tensors (dg.where, dg.cond, ...), or pass the value in."
    if capture is None:
        return TraceError(f"{why}. {advice}")
    return capture.failure(why, advice)  # type: ignore[no-any-return]

"""What programs ask a tensor that has one answer here, and element-wise calls of Python functions.

Tensors are dense and strided, in host memory or that of an NVIDIA GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ._dispatch import make
from .autograd.inplace import assign

if TYPE_CHECKING:
    from ._tensor import Tensor

__all__ = ["Facts"]


class Facts:
    """Properties and methods of Tensor about what it is not, and legacy ones."""

    __slots__ = ()

    is_ipu = is_maia = is_meta = is_mps = is_mtia = is_vulkan = is_xla = is_xpu = False
    is_mkldnn = is_nested = is_quantized = is_sparse = is_sparse_csr = False
    layout = "strided"
    name: str | None = None
    output_nr = 0

    @property
    def is_cpu(self: Any) -> bool:
        """Whether the elements are in host memory."""
        return bool(self.device.type == "cpu")

    def is_conj(self) -> bool:
        """Whether the elements are yet to be conjugated: never, `conj` computes."""
        return False

    def is_neg(self) -> bool:
        """Whether the elements are yet to be negated: never."""
        return False

    def is_inference(self) -> bool:
        """Whether made in inference mode: no tensor is marked so."""
        return False

    def is_pinned(self, device: Any = None) -> bool:
        """Whether in page-locked host memory: not as far as is known."""
        return False

    def is_shared(self: Any) -> bool:
        """Whether other processes see the memory, which all see of a GPU's."""
        return bool(self.is_cuda)

    def ndimension(self: Any) -> int:
        """The number of dimensions."""
        return int(self.ndim)

    def hardshrink(self: Any, lambd: float = 0.5) -> Tensor:
        """The elements x where |x| > lambd, 0 elsewhere."""
        from .nn.functional import hardshrink

        return hardshrink(self, lambd)

    def prelu(self: Any, weight: Tensor) -> Tensor:
        """The elements x where x > 0, weight x elsewhere; weight [] or one for each channel."""
        from .nn.functional import prelu

        return prelu(self, weight)

    def new(self: Any, *data: Any) -> Tensor:
        """A tensor of this one's dtype and device, as the constructor would make it.

        ``x.new(2, 3)`` has that shape and zeros for elements, ``x.new([1, 2])`` the data,
        ``x.new()`` no elements.
        """
        from ._tensor import constructed

        return constructed(data, self.dtype).to(self.device)

    def apply_(self: Any, callable: Callable[[Any], Any]) -> Tensor:
        """Put ``callable(v)`` in place of every element `v`, a Python number; slow."""
        return _mapped(self, callable)

    def map_(self: Any, tensor: Tensor, callable: Callable[[Any, Any], Any]) -> Tensor:
        """Put ``callable(v, w)`` in place of every element, `w` being that of `tensor`; slow."""
        return _mapped(self, callable, tensor)

    def map2_(self: Any, x: Tensor, y: Tensor, callable: Callable[[Any, Any, Any], Any]) -> Tensor:
        """Put ``callable(v, w, z)`` in place of every element, with those of `x` and `y`; slow."""
        return _mapped(self, callable, x, y)


def _mapped(self: Tensor, function: Callable[..., Any], *others: Tensor) -> Tensor:
    arrays = [t._on_host("a Python function of its elements") for t in (self, *others)]
    arrays = [arrays[0], *(np.broadcast_to(a, arrays[0].shape) for a in arrays[1:])]
    values = [function(*(a[i].item() for a in arrays)) for i in np.ndindex(arrays[0].shape)]
    result = np.array(values).astype(arrays[0].dtype).reshape(arrays[0].shape)
    return assign(self, make(result).to(self.device))

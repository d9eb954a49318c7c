"""Tensors that belong to a module: trained ones, and ones that are only kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import AutogradError

from .._dispatch import make
from .._tensor import Tensor
from ..autograd.tape import Leaf

__all__ = ["Buffer", "Parameter"]


class Parameter(Tensor):
    """A tensor that a Module lists among its parameters when it is assigned to an attribute.

    It shares the memory of `data` and is a leaf of the tape.

    Args:
        data: the values; by default an empty float32 tensor.
        requires_grad: whether it is to be trained.

    Raises:
        AutogradError: `requires_grad` for a dtype that has no gradients.
    """

    __slots__ = ()

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        source = make(np.zeros(0, np.float32)) if data is None else data
        if requires_grad and not source.dtype.is_differentiable:
            raise AutogradError(
                "only Tensors of floating point and complex dtype can require gradients, got "
                f"{source.dtype}"
            )
        self._data = source._data
        self._ver = source._ver
        self._base = None
        self._fn = Leaf() if requires_grad else None

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        out = super().__deepcopy__(memo)
        out.grad = None  # as in PyTorch, a copied parameter starts without
        return out

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Buffer(Tensor):
    """A tensor that a Module lists among its buffers when it is assigned to an attribute.

    Args:
        data: the values; by default an empty float32 tensor. The memory is shared.
        persistent: whether it is part of the module's state_dict.
    """

    __slots__ = ()

    persistent: bool

    def __init__(self, data: Tensor | None = None, *, persistent: bool = True) -> None:
        source = make(np.zeros(0, np.float32)) if data is None else data
        self._data = source._data
        self._ver = source._ver
        self._base = source._base
        self._fn = source._fn
        self.persistent = persistent

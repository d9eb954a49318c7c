"""Tensors that belong to a module: trained ones, and ones that are only kept."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from dualgraph_compiler.errors import AutogradError

from .._dispatch import make
from .._tensor import Tensor
from ..autograd.tape import Leaf
from ..functions.creation import empty

__all__ = ["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter", "is_lazy"]


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


# -- without a size yet ---------------------------------------------------------------------------


class _Uninitialized(Tensor):
    """A tensor that has a dtype and a device, but no size yet."""

    __slots__ = ()

    _becomes: ClassVar[type[Tensor]] = Tensor

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Become an ordinary parameter or buffer of `shape`."""
        like = self.data
        self.data = empty(
            tuple(shape),
            device=like.device if device is None else device,
            dtype=like.dtype if dtype is None else dtype,
        )
        self.__class__ = self._becomes  # type: ignore[assignment]

    @property
    def shape(self) -> Any:
        """RuntimeError: there is none."""
        raise RuntimeError(
            "Can't access the shape of an uninitialized parameter or buffer. This error usually "
            "happens in `load_state_dict` when trying to load an uninitialized parameter into an "
            "initialized one. Call `forward` to initialize the parameters before accessing their "
            "attributes."
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class UninitializedParameter(_Uninitialized, Parameter):
    """A parameter whose shape is not known yet: `materialize` makes it a Parameter."""

    __slots__ = ()

    _becomes = Parameter

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(empty(0, device=device, dtype=dtype), requires_grad)


class UninitializedBuffer(_Uninitialized, Buffer):
    """A buffer whose shape is not known yet: `materialize` makes it a Tensor."""

    __slots__ = ()

    _becomes = Buffer

    def __init__(
        self,
        requires_grad: bool = False,
        device: Any = None,
        dtype: Any = None,
        persistent: bool = True,
    ) -> None:
        super().__init__(empty(0, device=device, dtype=dtype), persistent=persistent)
        self.requires_grad_(requires_grad)


def is_lazy(tensor: Any) -> bool:
    """Whether a parameter or buffer has no size yet."""
    return isinstance(tensor, _Uninitialized)

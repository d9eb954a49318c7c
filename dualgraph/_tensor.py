"""The Tensor: an array (or a graph's Value), its place on the tape, and PyTorch's methods.

The methods' bodies live in :mod:`dualgraph.functions`, by family; here they are only given a place
on the class, so that ``x.sum(0)`` and ``dg.sum(x, 0)`` are one function.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.errors import AutogradError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.ops import Op
from dualgraph_compiler.types import TensorType
from dualgraph_runtime.device import CPU, Device, device_of, to_device

from . import _changes, _dispatch, autograd
from ._dispatch import apply_many, captures, current_fn, make, symbolic
from ._facts import Facts
from ._methods import Methods
from ._promote import Defaults
from ._values import Values
from .autograd import inplace
from .autograd.engine import root, run_backward
from .autograd.tape import Leaf
from .transforms.levels import Wrapped, refuse_backward, transforms

if TYPE_CHECKING:
    from .autograd.tape import Hook


class Size(tuple[Any, ...]):
    """A shape; prints as PyTorch's ``torch.Size``."""

    __slots__ = ()

    def numel(self) -> int:
        out = 1
        for d in self:
            out = out * d
        return out

    def __repr__(self) -> str:
        return f"{DType.namespace}.Size({list(self)})"


class Tensor(Values, Methods, Facts):
    """A multi-dimensional array that can be differentiated.

    Made by ``dg.tensor``, ``dg.zeros``, ``dg.from_numpy`` ... rather than by its constructor, which
    as in PyTorch makes a tensor of the default dtype from data, or of the given sizes.
    """

    # _data: NumPy or CuPy array, or a graph Value.  _fn: producer on the tape (Leaf, Node, Pick) or
    # None. _ver: the storage's version, a one-element list that views share.  _base: a ViewInfo or
    # None.
    __slots__ = ("__dict__", "__weakref__", "_base", "_data", "_fn", "_ver")

    _data: Any
    _fn: Any
    _ver: list[int]
    _base: Any

    _weak = False  # whether it promotes as a Python number does

    # `ndarray + tensor` is ours.
    __array_ufunc__ = None
    __array_priority__ = 1000

    def __init__(self, *data: Any) -> None:
        self._data = _array_from(data, Defaults.dtype)
        self._fn = None
        self._ver = [0]
        self._base = None

    # -- what it is -------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        return Size(self._data.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or one dimension's size."""
        return Size(self._data.shape) if dim is None else self._data.shape[dim]

    @property
    def ndim(self) -> int:
        return int(self._data.ndim)

    def dim(self) -> int:
        """The number of dimensions."""
        return int(self._data.ndim)

    def numel(self) -> Any:
        """The number of elements."""
        return Size(self._data.shape).numel()

    nelement = numel

    @property
    def dtype(self) -> DType:
        d = self._data.dtype
        return d if type(d) is DType else dt.BY_NUMPY[d]

    @property
    def device(self) -> Device:
        data = self._data
        while isinstance(data, Wrapped):
            data = data.inner._data
        return device_of(data) if type(data) is not Value else CPU

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize  # type: ignore[no-any-return]

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> Any:
        """Bytes of all elements."""
        return self._data.size * self.dtype.itemsize

    def get_device(self) -> int:
        """The number of the GPU; -1 on the CPU."""
        index = self.device.index
        return -1 if index is None else index

    def is_floating_point(self) -> bool:
        """Whether the dtype is a real floating-point one."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Whether the dtype is complex."""
        return self.dtype.is_complex

    @property
    def is_symbolic(self) -> bool:
        """Whether this has no data of its own: it is part of a graph under construction, or stands
        for other tensors in a function transform."""
        return type(self._data) is Value or isinstance(self._data, Wrapped)

    # -- autograd ---------------------------------------------------------------------------------

    @property
    def grad_fn(self) -> Any:
        """The recorded operation that made this tensor; None for leaves."""
        fn = self._fn if self._base is None else current_fn(self)
        return None if fn is None or type(fn) is Leaf else fn

    @property
    def is_leaf(self) -> bool:
        return self.grad_fn is None

    @property
    def requires_grad(self) -> bool:
        return (self._fn if self._base is None else current_fn(self)) is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for gradients of this (leaf) tensor, or no longer."""
        fn = self._fn if self._base is None else current_fn(self)
        if fn is not None and type(fn) is not Leaf:
            if not requires_grad:
                raise AutogradError(
                    "you can only change requires_grad flags of leaf variables. If you want to use "
                    "a computed variable in a subgraph that doesn't require differentiation use "
                    "var_no_grad = var.detach()."
                )
            return self
        if requires_grad and fn is None:
            if not self.dtype.is_differentiable:
                raise AutogradError(
                    "only Tensors of floating point and complex dtype can require gradients, got "
                    f"{self.dtype}"
                )
            self._fn = self.__dict__.pop("_frozen", None) or Leaf()
            self._fn.active = True
            self._base = None  # a leaf is where gradients end, whatever memory it shows
            _changes.tensors.note()
            if "_free_grad" in self.__dict__:
                self._fn.grad = self.__dict__.pop("_free_grad")
        elif not requires_grad and fn is not None:
            # What was recorded leads to this leaf still, and it holds the gradient so far.
            fn.active = False
            self.__dict__["_frozen"] = fn
            self._fn = None
            _changes.tensors.note()
        return self

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient (leaves, and non-leaves after `retain_grad`)."""
        return inplace.get_grad(self)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        inplace.set_grad(self, value)

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Accumulate d(self)/d(leaf), weighted with `gradient`, in the `grad` of every leaf."""
        if symbolic.open_graphs and transforms.levels:
            refuse_backward()
        if inputs is not None:
            autograd.backward(self, gradient, retain_graph, create_graph, inputs=inputs)
            return
        run_backward(
            (root(self, gradient, create_graph),),
            retain_graph=create_graph if retain_graph is None else retain_graph,
            create_graph=create_graph,
        )

    def detach(self) -> Tensor:
        """The same storage off the tape."""
        if isinstance(self._data, Wrapped):
            return make(self._data.detached())
        if self._base is not None and type(self._data) is Value:
            current_fn(self)
        if symbolic.open_graphs and captures.current is not None:
            captures.current.value_of(self)  # state is `self`, which lasts, not what is made here
        out = make(self._data)
        out._ver = self._ver
        if type(self._data) is Value:  # values are not shared as memory is: remember the storage
            info = self._base
            base, ops = (self, ()) if info is None else (info.base, info.ops)
            out._base = _dispatch.ViewInfo(base, ops, self._ver[0], recorded=None)
        return out

    def detach_(self) -> Tensor:
        """Take this tensor off the tape."""
        if self._base is not None:
            raise AutogradError("Can't detach views in-place. Use detach() instead")
        self._fn = None
        _changes.tensors.note()
        return self

    @property
    def data(self) -> Tensor:
        """The same storage off the tape and out of its version checks."""
        if type(self._data) is Value:
            return self.detach()
        if symbolic.open_graphs and captures.current is not None:
            captures.current.value_of(self)
        self._expose()
        return make(self._data)

    @data.setter
    def data(self, value: Tensor) -> None:
        capture = captures.current if symbolic.open_graphs else None
        if capture is not None and capture.root.whole:
            from .tracing.data_assigned import replace_data

            replace_data(capture, self, value)
        elif capture is not None:
            with autograd.no_grad():
                inplace.assign(self, value)
        else:  # what shares memory with the old data does so no longer, but with `value`
            self._data, self._ver, self._base = value._data, value._ver, None
            _changes.tensors.note()

    @property
    def retains_grad(self) -> bool:
        """Whether this is a non-leaf whose gradient is kept in `grad`."""
        return "_retained" in self.__dict__

    def retain_grad(self) -> None:
        """Keep the gradient of this non-leaf in `grad`."""
        inplace.retain_grad(self)

    def register_hook(self, hook: Hook) -> Any:
        """Call `hook(grad)` when this tensor's gradient is known; a result replaces it."""
        return inplace.register_hook(self, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> Any:
        """Call `hook(self)` after a gradient has accumulated in this leaf."""
        return inplace.register_post_accumulate_grad_hook(self, hook)

    @property
    def _version(self) -> int:
        return self._ver[0]

    def _bump_version(self) -> None:
        self._ver[0] += 1

    def _expose(self) -> None:
        """Note that the memory may be written to without a new version."""
        if len(self._ver) == 1:
            self._ver.append(1)
            _changes.memory.note()

    # -- copies -----------------------------------------------------------------------------------

    def __hash__(self) -> int:
        return id(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise AutogradError(
                "Only Tensors created explicitly by the user support the deepcopy protocol"
            )
        out = make(self._concrete("deepcopy").copy(), Leaf() if self._fn else None)
        out.__class__ = self.__class__
        memo[id(self)] = out
        if self.grad is not None:
            out.grad = make(self.grad._data.copy())
        for name, value in self.__dict__.items():
            if name not in _PRIVATE:
                out.__dict__[name] = copy.deepcopy(value, memo)
        return out

    def __reduce_ex__(self, protocol: Any) -> Any:
        data = self.detach().cpu()._concrete("pickling")
        kept = {k: v for k, v in self.__dict__.items() if k not in _PRIVATE}
        return _rebuild, (type(self), data, self.requires_grad, kept, str(self.device))

    # -- being an operand of the ops' own rules ----------------------------------------------------

    def __dualgraph_call__(self, op: Op, inputs: Any) -> Any:
        outputs = apply_many(op, *(x if isinstance(x, Tensor) else make(x) for x in inputs))
        return outputs[0] if op.n_outputs == 1 else outputs

    def __dualgraph_scalar__(self, value: complex) -> Tensor:
        from ._promote import scalar

        return scalar(value, self.dtype, self)

    def _type(self) -> TensorType:
        return TensorType(self.dtype, tuple(self._data.shape))


def constructed(data: tuple[Any, ...], dtype: DType) -> Tensor:
    """What the constructor makes of its arguments, in any dtype."""
    return make(_array_from(data, dtype))


def _array_from(data: tuple[Any, ...], dtype: DType) -> Any:
    """The array that the constructor's arguments mean: sizes, or one piece of data.

    Raises:
        TypeError: a single number that is no size, or a text.
    """
    first = data[0] if len(data) == 1 else None
    if first is None or isinstance(first, int | Size):
        return np.zeros(first if isinstance(first, Size) else data or (0,), dtype.np)
    if isinstance(first, Tensor):
        return first.detach().to(dtype)._data
    if isinstance(first, float | complex | str):
        raise TypeError(f"new(): data must be a sequence (got {type(first).__name__})")
    return np.array(first).astype(dtype.np)


# What the autograd methods keep in a tensor's `__dict__`.
_PRIVATE = frozenset(("_free_grad", "_frozen", "_retained", "_was"))


def _rebuild(
    cls: type[Tensor],
    data: Any,
    requires_grad: bool,
    attributes: dict[str, Any] | None = None,
    device: str = "cpu",
) -> Tensor:
    out = make(to_device(data, device), Leaf() if requires_grad else None)
    out.__class__ = cls
    out.__dict__.update(attributes or {})
    return out


_dispatch._Tensor = Tensor

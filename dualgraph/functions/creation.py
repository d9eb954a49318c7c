"""Making tensors of given sizes: zeros, ones, ranges; and ``x.new_*`` and ``*_like``.

While a capture is active these append ops to its graph, and sizes may be symbolic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import Dim, DimLike, Shape, SizeNumber
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError
from dualgraph_compiler.ops.creation import Arange, Eye, Full

from .._dispatch import apply, captures, make
from .._promote import Defaults, scalar, scalar_category
from .basics import (
    check_sizes,
    create,
    device_for_like,
    dtype_or_default,
    leaf,
    shape_from,
    sizes_of,
    wrap,
)
from .sizes import sym_max

if TYPE_CHECKING:
    from .._tensor import Tensor

_CPU_MAKERS = {0: np.zeros, 1: np.ones}


def _filled(shape: Shape, value: Any, dtype: DType, device: Any, requires_grad: bool) -> Tensor:
    check_sizes("full", shape)
    if captures.current is None and device is None and Defaults.device.type == "cpu":
        maker = _CPU_MAKERS.get(value)
        if maker is not None:
            return leaf(make(maker(shape, dtype.np)), requires_grad)
    return create(Full(shape, value, dtype), device, requires_grad)


def zeros(
    *sizes: Any,
    size: Any = None,
    out: Tensor | None = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Zeros of shape `sizes`, or `size`."""
    if out is not None:
        return out.zero_()
    return _filled(shape_from(sizes, size), 0, dtype_or_default(dtype), device, requires_grad)


def ones(
    *sizes: Any,
    size: Any = None,
    out: Tensor | None = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """Ones of shape `sizes`, or `size`."""
    if out is not None:
        return out.fill_(1)
    return _filled(shape_from(sizes, size), 1, dtype_or_default(dtype), device, requires_grad)


def empty(
    *sizes: Any,
    size: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    memory_format: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of shape `sizes`, or `size`, to be written to; its elements are zero."""
    return _filled(shape_from(sizes, size), 0, dtype_or_default(dtype), device, requires_grad)


def _dtype_of_fill(value: Any) -> DType:
    if hasattr(value, "_data"):
        return value.dtype  # type: ignore[no-any-return]
    return dt.default_for(scalar_category(value), Defaults.dtype)


def full(
    size: Any,
    fill_value: Any,
    *,
    out: Tensor | None = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Shape `size` filled with a number; its dtype follows the number unless given."""
    if out is not None:
        return out.fill_(fill_value)
    wanted = _dtype_of_fill(fill_value) if dtype is None else dt.as_dtype(dtype)
    shape = sizes_of(size if isinstance(size, tuple | list) else (size,))
    return _fill(shape, fill_value, wanted, device, requires_grad)


def _fill(shape: Shape, value: Any, dtype: DType, device: Any, requires_grad: bool) -> Tensor:
    if hasattr(value, "_data"):
        if value._data.ndim:
            raise ShapeError(
                "full: expected a number or a 0-d tensor as fill value, "
                f"got one of shape {list(value.shape)}"
            )
        return leaf(value.detach().to(dtype).expand(shape).clone(), requires_grad)
    if isinstance(value, Dim | SizeNumber):
        return leaf(scalar(value, dtype, create(Full((), 0, dtype))).expand(shape), requires_grad)
    if isinstance(value, np.generic):
        value = value.item()
    return _filled(shape, value, dtype, device, requires_grad)


def eye(
    n: DimLike,
    m: DimLike | None = None,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones on the diagonal of an [n, m] matrix (m = n by default)."""
    op = Eye(n, n if m is None else m, dtype_or_default(dtype))
    return create(op, device, requires_grad)


# -- ranges ---------------------------------------------------------------------------------------


def _number(x: Any) -> Any:
    if hasattr(x, "_data"):
        return x.item()
    return x.item() if isinstance(x, np.generic) else x


def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    out: Tensor | None = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``start, start + step, ...`` below `end`: int64 for integers, else the default float type.

    Shapes: -> [ceil((end - start) / step)]. Raises ArgumentError where `step` leads off `end`.
    """
    start, end, step = _number(start), _number(end), _number(step)
    if end is None:
        start, end = 0, start
    if dtype is None:
        whole = all(scalar_category(v) <= dt.INT for v in (start, end, step))
        kind = dt.int64 if whole else Defaults.dtype
    else:
        kind = dt.as_dtype(dtype)
    if kind.category == dt.INT:  # which a float given as a bound is rounded to first
        start, end, step = (int(v) if isinstance(v, float) else v for v in (start, end, step))
    if not step:
        raise ArgumentError("arange: step must be nonzero")
    if not isinstance(start, Dim) and not isinstance(end, Dim) and (end - start) * step < 0:
        raise ArgumentError(
            f"arange: upper bound and lower bound inconsistent with step sign: start={start}, "
            f"end={end}, step={step}"
        )
    ours = captures.current is None and device is None and Defaults.device.type == "cpu"
    if ours and kind is dt.int64 and type(start) is type(end) is type(step) is int:
        return leaf(make(np.arange(start, end, step)), requires_grad)
    made = create(Arange(start, end, step, kind), device, requires_grad)
    return made if out is None else out.copy_(made)


def linspace(
    start: Any,
    end: Any,
    steps: DimLike,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` evenly spaced numbers from `start` to `end`, both included: [steps]."""
    if any(isinstance(v, Dim | SizeNumber) for v in (start, end, steps)):
        made = _spaced_in_graph(start, end, steps, dtype_or_default(dtype))
        return leaf(made if device is None else made.to(device), requires_grad)
    return wrap(_spaced("linspace", start, end, steps, dtype), device, requires_grad)


def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` numbers from base**start to base**end, evenly spaced in their logarithm: [steps]."""
    kind = dtype_or_default(dtype)
    exponents = _spaced_wide("logspace", start, end, steps, kind)
    powers = np.power(base, exponents).astype(kind.np)
    return wrap(powers, device, requires_grad)


def _spaced_in_graph(start: Any, end: Any, steps: DimLike, kind: DType) -> Tensor:
    """`linspace` for symbolic numbers, in the steps in which NumPy computes it."""
    at = arange(steps, dtype=dt.float64)
    gaps = sym_max(steps - 1, 1)
    made = at * ((end - start) / gaps) + start
    last = (at == steps - 1) & (at > 0)
    out: Tensor = made.where(~last, scalar(end, dt.float64, at)).to(kind)
    return out


def _spaced(name: str, start: Any, end: Any, steps: Any, dtype: Any) -> Any:
    kind = dtype_or_default(dtype)
    return _spaced_wide(name, start, end, steps, kind).astype(kind.np)


def _spaced_wide(name: str, start: Any, end: Any, steps: Any, kind: DType) -> Any:
    """Evenly spaced float64 (or complex) numbers, to be rounded to `kind`."""
    start, end = _number(start), _number(end)
    if isinstance(steps, int) and steps < 0:
        raise ArgumentError(f"{name}: number of steps must be non-negative, got {steps}")
    if kind.category != dt.INT:
        return np.linspace(start, end, steps)
    # As PyTorch: the ends are rounded first, and steps are counted from the nearer end.
    first, last, at = int(start), int(end), np.arange(steps)
    step = (last - first) / max(steps - 1, 1)
    near, far = first + step * at, last - step * (steps - 1 - at)
    return np.where(at < steps // 2, near, far if steps > 1 else near)


# -- like another tensor --------------------------------------------------------------------------


def full_like(
    input: Tensor,
    fill_value: Any,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """The input's shape, dtype and device, filled with a number."""
    kind = input.dtype if dtype is None else dt.as_dtype(dtype)
    where = device_for_like(input, device)
    return _fill(tuple(input._data.shape), fill_value, kind, where, requires_grad)


def zeros_like(
    input: Tensor,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Zeros of the input's shape, dtype and device."""
    return full_like(input, 0, dtype=dtype, device=device, requires_grad=requires_grad)


def ones_like(
    input: Tensor,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Ones of the input's shape, dtype and device."""
    return full_like(input, 1, dtype=dtype, device=device, requires_grad=requires_grad)


def empty_like(
    input: Tensor,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """A tensor of the input's shape, dtype and device, to be written to; its elements are zero."""
    return full_like(input, 0, dtype=dtype, device=device, requires_grad=requires_grad)


def new_full(
    self: Tensor,
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **_: Any,
) -> Tensor:
    """Shape `size` filled with a number, of this tensor's dtype and device unless given."""
    kind = self.dtype if dtype is None else dt.as_dtype(dtype)
    shape = sizes_of(size if isinstance(size, tuple | list) else (size,))
    return _fill(shape, fill_value, kind, device_for_like(self, device), requires_grad)


def _sizes(size: Any, options: dict[str, Any]) -> Shape:
    return sizes_of(size or (options.pop("size"),))


def new_zeros(self: Tensor, *size: Any, **options: Any) -> Tensor:
    """Zeros of shape `size`, of this tensor's dtype and device unless given."""
    return new_full(self, _sizes(size, options), 0, **options)


def new_ones(self: Tensor, *size: Any, **options: Any) -> Tensor:
    """Ones of shape `size`, of this tensor's dtype and device unless given."""
    return new_full(self, _sizes(size, options), 1, **options)


def new_empty(self: Tensor, *size: Any, **options: Any) -> Tensor:
    """A tensor of shape `size` to be written to, of this one's dtype and device unless given."""
    return new_full(self, _sizes(size, options), 0, **options)


# -- parts of complex numbers, and grids ----------------------------------------------------------


def complex(real: Tensor, imag: Tensor) -> Tensor:
    """Real + i imag, both of one real dtype; differentiable.

    Shapes: any that broadcast -> the broadcast one.
    """
    from dualgraph_compiler.ops.convert import Complex

    if real.dtype is not imag.dtype:
        raise DTypeError(
            f"complex: expected real and imag of one dtype, got {real.dtype.name} and "
            f"{imag.dtype.name}"
        )
    return apply(Complex(), real, imag)


def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """Abs (cos(angle) + i sin(angle)); differentiable.

    Shapes: any that broadcast -> the broadcast one.
    """
    return complex(abs * angle.cos(), abs * angle.sin())


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinates of a grid: tensor i, [d_i] or 0-d, expanded to [d_0, .., d_n].

    With indexing="xy" the first two axes of the results trade places.
    """
    xs = (
        tuple(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], list | tuple) else tensors
    )
    if indexing not in ("ij", "xy"):
        raise ArgumentError(f'meshgrid: indexing must be one of "xy" or "ij", got {indexing!r}')
    if any(x._data.ndim > 1 for x in xs):
        raise ShapeError(
            f"meshgrid: expected 0-d or 1-d tensors, got shapes {[list(x.shape) for x in xs]}"
        )
    swap = indexing == "xy" and len(xs) > 1
    if swap:
        xs = (xs[1], xs[0], *xs[2:])
    shape = tuple(x._data.shape[0] if x._data.ndim else 1 for x in xs)
    out = []
    for i, x in enumerate(xs):
        axes = [1] * len(xs)
        axes[i] = shape[i]
        out.append(x.reshape(tuple(axes)).expand(shape))
    if swap:
        out[0], out[1] = out[1], out[0]
    return tuple(out)


def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """Classes as vectors with one 1.

    Shapes: int64 [*] -> int64 [*, num_classes] (default: the largest class plus one).
    Raises ArgumentError for a class out of range.
    """
    if input.dtype is not dt.int64:
        raise DTypeError(
            f"one_hot is only applicable to index tensor of type LongTensor, got {input.dtype.name}"
        )
    if not input.is_symbolic and input._data.size:
        low, high = int(input._data.min()), int(input._data.max())
        if low < 0:
            raise ArgumentError(f"one_hot: Class values must be non-negative, got {low}")
        if num_classes >= 0 and high >= num_classes:
            raise ArgumentError(
                f"one_hot: Class values must be smaller than num_classes, got {high} and "
                f"{num_classes} classes"
            )
        if num_classes < 0:
            num_classes = high + 1
    elif num_classes < 0:
        raise ArgumentError("one_hot: num_classes must be given for a tensor without elements")
    classes = arange(num_classes, device=device_for_like(input, None))
    return (input.unsqueeze(-1) == classes).to(dt.int64)

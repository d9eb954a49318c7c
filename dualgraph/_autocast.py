"""What ``amp.autocast`` does to operations: which run in the lower precision, which in float32.

Off, it costs nothing: operations look for it only while ``symbolic.open_graphs`` counts something,
as it does while a region is entered. On, :meth:`Mode.operands` converts an op's operands before the
op runs, on the tape like any conversion. Functions that are made of several ops and are listed as a
whole say so by a decorator where they are defined.

Source: the lists of PyTorch's autocast for CPU and CUDA.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.ops.base import Op

from ._dispatch import captures, symbolic
from ._promote import cast
from .autograd.tape import Leaf
from .transforms.levels import transforms

if TYPE_CHECKING:
    from ._tensor import Tensor

_F = TypeVar("_F", bound=Callable[..., Any])

_CONTRACTIONS = ("matmul", "linear", "conv", "conv_transpose", "prelu", "lstm", "gru", "rnn")
LOWER = {"cpu": frozenset(_CONTRACTIONS), "cuda": frozenset(_CONTRACTIONS)}
FLOAT32 = {
    "cpu": frozenset(
        (
            "cross_entropy",
            "ctc_loss",
            "det",
            "dft",
            "grid_sample",
            "inverse",
            "inverse_real_dft",
            "nll_loss",
            "pad_mode",
            "prod",
            "real_dft",
            "view_as_complex",
        )
    ),
    "cuda": frozenset(
        (
            "acos",
            "asin",
            "cosh",
            "cross_entropy",
            "cumprod",
            "cumsum",
            "exp",
            "expm1",
            "group_norm",
            "layer_norm",
            "log",
            "log10",
            "log1p",
            "log2",
            "log_softmax",
            "log_sum_exp",
            "nll_loss",
            "pow",
            "prod",
            "reciprocal",
            "rms_norm",
            "rsqrt",
            "sinh",
            "softmax",
            "softplus",
            "sum",
            "tan",
        )
    ),
}
# Poolings over three axes compute in float32 on CPUs; over fewer they do not.
_POOLINGS = frozenset(("avg_pool", "adaptive_avg_pool", "max_pool", "max_pool_indices"))
# Operands of several precisions meet in the widest.
WIDEST = frozenset(
    ("concat", "grid_sample", "index_put", "scatter", "scatter_add", "index_add", "atan2", "where")
)


class Mode:
    """The regions that are entered in a thread: for each kind of device, the lower precision.

    `cache` keeps what parameters were converted to, for all uses inside of the outermost region.
    """

    __slots__ = ("cache", "caching", "dtypes")

    def __init__(
        self, dtypes: dict[str, DType], caching: bool, cache: dict[int, tuple[Any, int, Any]]
    ) -> None:
        self.dtypes = dtypes
        self.caching = caching
        self.cache = cache

    def operands(self, op: Op, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """The operands as `op` takes them here."""
        floats = [t for t in inputs if _is_eligible(t)]
        if not floats:
            return inputs
        device = self.device_of(floats[0])
        if device is None:
            return inputs
        lower = self.dtypes[device]
        name = op.name
        if name in LOWER[device]:
            return self.converted(inputs, lower)
        deep = device == "cpu" and name in _POOLINGS and floats[0].ndim == 5
        if name in FLOAT32[device] or deep:
            return self.converted(inputs, dt.float32)
        if name in WIDEST and len({t.dtype for t in floats}) > 1:
            return self.converted(inputs, dt.float32)
        return inputs

    def uncached(self) -> Mode:
        """The same without keeping what is converted."""
        return Mode(self.dtypes, False, {})

    @property
    def key(self) -> Any:
        """What tells modes apart."""
        return tuple(self.dtypes.items())

    def device_of(self, t: Tensor) -> str | None:
        """The kind of device of `t`, if autocast is on there; in a graph, where it is on."""
        if t.is_symbolic:
            return next(iter(self.dtypes))
        device: str = t.device.type
        return device if device in self.dtypes else None

    def converted(self, inputs: Sequence[Tensor], dtype: DType) -> list[Tensor]:
        """The operands that autocast is about, in `dtype`; the others as they are."""
        before, transforms.autocast = transforms.autocast, None
        try:
            return [
                self._convert(t, dtype) if _is_eligible(t) and t.dtype is not dtype else t
                for t in inputs
            ]
        finally:
            transforms.autocast = before

    def _convert(self, t: Tensor, dtype: DType) -> Tensor:
        kept = self.caching and type(t._fn) is Leaf and dtype is not dt.float32
        if not kept or captures.current is not None or t.is_symbolic:
            return cast(t, dtype)
        found = self.cache.get(id(t))
        if found is not None and found[1] == t._ver[0] and found[2].dtype is dtype:
            return found[2]  # type: ignore[no-any-return]
        converted = cast(t, dtype)
        self.cache[id(t)] = (t, t._ver[0], converted)  # `t` stays, so that its id is its own
        return converted


def _is_eligible(t: Any) -> bool:
    """Whether autocast is about `t`: floating-point, and not float64, which is meant."""
    dtype = t.dtype
    return bool(dtype.is_floating_point) and dtype is not dt.float64


def in_float32(function: _F) -> _F:
    """Decorates a function whose tensors autocast converts to float32 on every device."""
    return _listed(function, lambda _: dt.float32)


def in_lower_precision(function: _F) -> _F:
    """Decorates a function whose tensors autocast converts to its lower precision."""
    return _listed(function, lambda lower: lower)


def _listed(function: _F, target: Callable[[DType], DType]) -> _F:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not symbolic.open_graphs or transforms.autocast is None:
            return function(*args, **kwargs)
        return _call(function, target, args, kwargs)

    return wrapped  # type: ignore[return-value]


def _call(
    function: Callable[..., Any],
    target: Callable[[DType], DType],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> Any:
    mode: Mode = transforms.autocast
    tensors = [x for x in (*args, *kwargs.values()) if hasattr(x, "_data") and _is_eligible(x)]
    device = mode.device_of(tensors[0]) if tensors else None
    if device is None:
        return function(*args, **kwargs)
    dtype = target(mode.dtypes[device])

    def convert(x: Any) -> Any:
        return mode.converted([x], dtype)[0] if hasattr(x, "_data") else x

    args = [convert(x) for x in args]
    kwargs = {name: convert(x) for name, x in kwargs.items()}
    transforms.autocast = None  # what it is made of computes in that dtype
    try:
        return function(*args, **kwargs)
    finally:
        transforms.autocast = mode

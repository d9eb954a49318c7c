"""What an operation is: one frozen dataclass that says everything about itself.

An op's fields are its attributes, so equality, hashing and common-subexpression elimination come
for free. Operands are positional and of equal dtype unless an op says otherwise (promotion is the
front end's business). Calling an op dispatches on its operands: arrays are computed at once,
anything that defines ``__dualgraph_call__`` (a graph Value, a Tensor) is asked to handle the call.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar, dataclass_transform

import numpy as np

from ..dims import Dim, DimLike, Shape, substitute, symbols
from ..dtypes import DType
from ..errors import DTypeError, GraphError, IndexOutOfRange, OnnxError, ShapeError
from ..types import TensorType
from .onnx_rules import Export

# An operand of a gradient rule: an array, a graph Value or a Tensor. All three have `shape`,
# `dtype`, `ndim` and arithmetic operators, which is what lets one rule serve eager, traced and
# second order.
Array: TypeAlias = Any
# What a gradient rule returns for one input: the gradient, None where there is none, or a function
# of no arguments that computes it, called only if that gradient is wanted.
Grad: TypeAlias = Any

_T = TypeVar("_T")

SMALLEST = 512  # elements of the first operand: what is smaller is not worth accelerating


class Kind(enum.Enum):
    """How an op lowers; the optimiser reads this and never a list of op names."""

    POINTWISE = "pointwise"  # out[i] depends on in[i] alone, after broadcasting
    MOVEMENT = "movement"  # out[i] is some in[map(i)]: a view or a copy, no arithmetic
    REDUCTION = "reduction"  # folds axes
    CONTRACTION = "contraction"  # matrix products and convolutions
    LIBRARY = "library"  # a kernel of its own: sort, scatter, pooling with indices
    CREATION = "creation"  # no tensor inputs
    COMPOSITE = "composite"  # has `decompose`; kept by name for export
    CONTROL = "control"  # runs graphs that it holds: a branch, or a body again and again


@dataclass(frozen=True, slots=True)
class Onnx:
    """The ONNX operator an op corresponds to, for the regular cases.

    `attrs` maps our field to the ONNX attribute (default: the same name). Ops whose inputs or
    attributes need more than renaming override ``Op.to_onnx`` and register an importer.
    """

    name: str
    since: int = 1
    attrs: tuple[tuple[str, str], ...] = ()


class Op:
    """Base of every operation; see the module docstring.

    A subclass defines `infer`, `eager`, and, where differentiable, `vjp(self, g, y, *inputs)`. A
    parameter of `vjp` whose name begins with an underscore is used for its `shape` and `dtype`
    only, and the tape does not keep its value alive.
    """

    __slots__ = ()

    name: ClassVar[str] = ""
    kind: ClassVar[Kind] = Kind.LIBRARY
    onnx: ClassVar[Onnx | None] = None
    n_outputs: ClassVar[int] = 1
    # Whether the output of a MOVEMENT op shares memory with its first input under NumPy (always, as
    # opposed to sometimes): PyTorch's view operations.
    is_view: ClassVar[bool] = False
    # Whether the result may be (a view of) the first operand although the op is no view.
    may_alias: ClassVar[bool] = False

    # Whether equal calls give equal results; only then may calls be merged or folded.
    is_pure: ClassVar[bool] = True

    # Whether `eager` reads its operands' numbers on the host, wherever it computes.
    reads_on_host: ClassVar[bool] = False

    # Whether `decompose`, on float32 and float64, gives the bits of `eager`, where powers are those
    # of Python's floats, as the C library's are.
    decomposes_exactly: ClassVar[bool] = False

    # What a runtime has set to compute it eagerly on NumPy arrays, and to run its gradient rule:
    # called as ``accelerator(op, *arrays)``, ``accelerator.gradients(op, g, y, inputs, edges)``;
    # ``accelerator.takes(op, arrays)`` says whether it may do more than `eager` or `vjp` would.
    accelerator: ClassVar[Any] = None

    # The NumPy function that `eager` calls on its operands as they are, if it does no more.
    ufunc: ClassVar[str] = ""
    numpy_ufunc: ClassVar[Any] = None  # the function itself; filled by `@op`
    # Whether there is an `eager_into`; filled by `@op`.
    writes_into: ClassVar[bool] = False

    # Gives the attributes' values; filled by `@op`.
    _values: ClassVar[Any] = None

    if TYPE_CHECKING:  # of an op that is not told by its class: `@op` makes dataclasses
        __dataclass_fields__: ClassVar[dict[str, Any]]

        def __init__(self, *values: Any, **attributes: Any) -> None: ...

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self is other or self._values(self) == self._values(other)

    def __hash__(self) -> int:
        return hash((type(self), self._values(self)))

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __reduce__(self) -> Any:
        return type(self), tuple(self.attributes().values())

    def on_host(self, n_inputs: int) -> tuple[Sequence[int], Sequence[int]]:
        """The operands and the results that are in host memory wherever the op computes."""
        return (range(n_inputs) if self.reads_on_host else ()), ()

    # Whether running it tells a size that nothing else does (see `graph.nested`).
    defines_sizes: ClassVar[bool] = False

    # Whether an element of a POINTWISE op takes far more than an addition: exp, tanh.
    is_costly: ClassVar[bool] = False

    # The attributes that are graphs, in order (see `graph.nested`).
    bodies: ClassVar[tuple[str, ...]] = ()

    # Whether the gradient of each of the first two operands needs the other one only: where one
    # takes no gradient, the tape does not keep the other.
    is_bilinear: ClassVar[bool] = False

    # Filled by `@op` from the signature of `vjp`.
    differentiable: ClassVar[bool] = False
    saves_output: ClassVar[bool] = False
    saves_inputs: ClassVar[tuple[bool, ...]] = ()
    saves_rest: ClassVar[bool] = False  # for `*xs` signatures
    saves_all: ClassVar[bool] = False  # every operand
    saves_none: ClassVar[bool] = False  # no operand: shapes and dtypes at most

    def infer(self, *inputs: Any) -> TensorType | tuple[TensorType, ...]:
        """Output type(s) from input TensorTypes.

        Raises:
            ShapeError, DTypeError: the op refuses operands of these types.
        """
        raise NotImplementedError(type(self).__name__)

    def eager(self, xp: Any, *inputs: Array) -> Any:
        """Reference execution over `xp`, which is NumPy or CuPy."""
        raise NotImplementedError(type(self).__name__)

    def eager_into(self, xp: Any, out: Any, *inputs: Array) -> None:
        """`eager`, bit for bit, but written to `out`, an array of the result's type.

        For several results `out` is a tuple, in which None stands for one that nobody wants. `out`
        shares no memory with operands unless `reusable` says so. Given operands of the inferred
        types, it must not fail except for want of memory: when it runs, state is being overwritten.
        """
        getattr(xp, self.ufunc)(*inputs, out=out)

    def reusable(self, output: int, n_inputs: int) -> Sequence[int]:
        """The operands that may be `out` itself when `eager_into` computes result `output`."""
        return range(n_inputs) if self.kind is Kind.POINTWISE else ()

    def vjp(self, g: Array, y: Array, *inputs: Array) -> tuple[Grad, ...]:
        """Gradients of the inputs, given `g`, the gradient of the output `y`."""
        raise NotImplementedError(type(self).__name__)

    def flops(self, y: TensorType, *inputs: TensorType) -> DimLike | None:
        """How many additions, products and the like one run takes at the least; None if unknown.

        `y` is the (first) output. An elementary function counts as one.
        """
        if self.kind is Kind.POINTWISE:
            return y.size
        if self.kind is Kind.REDUCTION:
            return inputs[0].size
        return 0 if self.kind in (Kind.MOVEMENT, Kind.CREATION) else None

    def decompose(self, *inputs: Array) -> Array:
        """The op in terms of simpler ops (COMPOSITE ops only)."""
        raise NotImplementedError(type(self).__name__)

    def to_onnx(self, ctx: Export, *inputs: Any) -> Any:
        """Emit this op; returns the result's name(s). The default follows the `onnx`
        declaration."""
        if self.onnx is None:
            raise OnnxError(f"{self.name} has no ONNX form")
        ctx.require_opset(self.onnx.since, self.name)
        renamed = dict(self.onnx.attrs)
        attrs = {renamed.get(k, k): v for k, v in self.attributes().items()}
        return ctx.emit(self.onnx.name, *inputs, outputs=self.n_outputs, **attrs)

    def __call__(self, *inputs: Array) -> Any:
        for x in inputs:
            if type(x) is not np.ndarray:
                handler = getattr(type(x), "__dualgraph_call__", None)
                if handler is not None:
                    return handler(x, self, inputs)
        return self.eager(array_module(inputs[0]) if inputs else np, *inputs)

    def attributes(self) -> dict[str, Any]:
        """Field values by name, in declaration order."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def symbols(self) -> set[Any]:
        """Symbols of the symbolic dims among the attributes."""
        return {s for v in self.attributes().values() for d in _dims_in(v) for s in symbols(d)}

    def resolve(self, env: Mapping[str, DimLike]) -> Op:
        """This op with every symbolic dim in its attributes replaced by its value in `env`."""
        return type(self)(**{k: _resolve(v, env) for k, v in self.attributes().items()})

    def __str__(self) -> str:
        attributes = self.attributes().items()
        attrs = ", ".join(f"{k}={v!r}" for k, v in attributes if k not in self.bodies)
        return f"{self.name}({attrs})"


def _dims_in(value: Any) -> Iterable[Dim]:
    if isinstance(value, Dim):
        yield value
    elif isinstance(value, tuple):
        for v in value:
            yield from _dims_in(v)


def _resolve(value: Any, env: Mapping[str, DimLike]) -> Any:
    if isinstance(value, Dim):
        return substitute(value, env)
    return tuple(_resolve(v, env) for v in value) if isinstance(value, tuple) else value


REGISTRY: dict[str, type[Op]] = {}


@dataclass_transform(frozen_default=True)
def op(cls: type[_T]) -> type[_T]:
    """Make a class an op: a frozen, slotted dataclass, registered under its snake-case name."""
    made: Any = unlisted_op(cls)
    made.name = re.sub(
        r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__
    ).lower()
    if made.name in REGISTRY:
        raise GraphError(f"two ops are named {made.name!r}")
    REGISTRY[made.name] = made
    return made  # type: ignore[no-any-return]


@dataclass_transform(frozen_default=True)
def unlisted_op(cls: type[_T]) -> type[_T]:
    """`op` for what is no operation by itself: it is not registered, and says its name itself.

    What frozen dataclasses are given as generated code stands once in `Op`, or is generated when an
    op is first built: there are hundreds of ops, and most programs use few.
    """
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    made.__repr__ = made.__str__
    made.__init__ = _init_at_first
    names = [f.name for f in fields(made)]
    if names:
        made._values = attrgetter(*names)
    else:
        # An op without attributes is a singleton: building one is free and `is` compares.
        instance = object.__new__(made)
        made.__new__ = lambda cls: instance
        made._values = type
    if made.ufunc:
        made.numpy_ufunc = getattr(np, made.ufunc)
    made.writes_into = made.ufunc != "" or made.eager_into is not Op.eager_into
    if made.vjp is not Op.vjp:
        code = inspect.unwrap(made.vjp).__code__
        _, _, y, *named = code.co_varnames[: code.co_argcount]
        rest = code.co_varnames[code.co_argcount + code.co_kwonlyargcount :][
            : bool(code.co_flags & inspect.CO_VARARGS)
        ]
        saved = [not x.startswith("_") for x in (*named, *rest)]
        made.differentiable = True
        made.saves_output = not y.startswith("_")
        made.saves_inputs = tuple(saved[: len(named)])
        made.saves_rest = any(saved[len(named) :])
        made.saves_all = all(saved)
        made.saves_none = not any(saved)
    return made  # type: ignore[no-any-return]


def _init_at_first(self: Any, *args: Any, **kwargs: Any) -> None:
    """What an op is built with first: generates the code that builds it from then on."""
    cls = type(self)
    space: dict[str, Any] = {}
    given, lines = ["self"], ["pass"]
    for i, f in enumerate(fields(cls)):
        space[f"set{i}"] = getattr(cls, f.name).__set__
        space[f"default{i}"] = f.default
        given.append(f.name if f.default is MISSING else f"{f.name}=default{i}")
        lines.append(f"set{i}(self, {f.name})")
    text = f"def __init__({', '.join(given)}):\n " + "\n ".join(lines)
    # Named as a file of this package, so that who looks for a user's code passes it over.
    exec(compile(text, f"{__file__}:{cls.__name__}", "exec"), space)
    cls.__init__ = space["__init__"]
    cls.__init__(self, *args, **kwargs)


def array_module(x: Any) -> Any:
    """NumPy or CuPy, whichever `x` belongs to; NumPy for scalars.

    The GPU of `x` becomes CuPy's current one, on which new arrays are made.
    """
    if type(x) is np.ndarray:
        return np
    if type(x).__module__.startswith("cupy"):
        import sys

        x.device.use()  # which CuPy leaves to its caller: results belong beside the operands
        return sys.modules["cupy"]
    return np


# -- helpers shared by the `infer` methods -------------------------------------------------------


def broadcast_shapes(name: str, *shapes: Shape) -> Shape:
    """The shape that NumPy's broadcasting gives.

    Raises:
        ShapeError: the shapes do not broadcast.
    """
    out: list[DimLike] = []
    for i in range(1, max((len(s) for s in shapes), default=0) + 1):
        size: DimLike = 1
        for s in shapes:
            d = s[-i] if i <= len(s) else 1
            if d == 1 or d == size:
                continue
            if size != 1:
                text = " and ".join(shape_text(s) for s in shapes)
                raise ShapeError(
                    f"{name}: shapes {text} do not broadcast: dimension -{i} is {size} in one and "
                    f"{d} in another; sizes must be equal or 1",
                    sizes=(size, d),
                )
            size = d
        out.append(size)
    return tuple(reversed(out))


def shape_text(shape: Shape) -> str:
    """A shape as PyTorch users write it: ``[2, 3]``."""
    return f"[{', '.join(map(str, shape))}]"


def require_same_dtype(name: str, *inputs: TensorType) -> DType:
    """The inputs' common dtype; raises DTypeError where they differ."""
    for t in inputs[1:]:
        if t.dtype is not inputs[0].dtype:
            got = ", ".join(i.dtype.name for i in inputs)
            raise DTypeError(f"{name}: expected operands of one dtype, got {got}")
    return inputs[0].dtype


def require_float(name: str, t: TensorType) -> TensorType:
    """`t`, if its dtype is floating point or complex; raises DTypeError otherwise."""
    if not t.dtype.is_differentiable:
        raise DTypeError(f"{name}: expected a floating-point operand, got {t.dtype.name}")
    return t


def normalize_axis(name: str, axis: int, ndim: int) -> int:
    """`axis` counted from the front.

    Raises:
        IndexOutOfRange: not within [-ndim, ndim).
    """
    # A 0-d tensor accepts axis 0 and -1, as in PyTorch.
    span = max(ndim, 1)
    if not -span <= axis < span:
        raise IndexOutOfRange(
            f"{name}: dimension out of range (expected to be in [{-span}, {span - 1}], got {axis})"
        )
    return axis % span


def normalize_axes(name: str, axes: Iterable[int], ndim: int) -> tuple[int, ...]:
    """Several axes counted from the front, sorted; raises on repeats."""
    out = sorted(normalize_axis(name, a, ndim) for a in axes)
    if len(set(out)) != len(out):
        raise ShapeError(f"{name}: a dimension appears more than once in {tuple(axes)}")
    return tuple(out)

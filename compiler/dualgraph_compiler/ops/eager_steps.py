"""Steps of eager code as nodes, for graphs that are to give the bits of eager code.

Eager code leaves many operations, and gradient rules as a whole, to kernels of the runtime
(``Op.accelerator``), which round otherwise than NumPy. A graph with strict numerics holds such an
operation as an :class:`EagerCall` and such a rule as an :class:`EagerGradient`: passes leave them
alone, and they are carried out as eager code would at that moment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np

from ..dims import DimLike, Shape
from ..dtypes import DType
from ..types import TensorType
from .base import SMALLEST, Array, Grad, Op, unlisted_op

_ndarray = np.ndarray

# What an operand of a rule is: True where it is an operand of the node; else its dtype and shape,
# which are all that the rule needs; None for a gradient that there is not.
Slot: TypeAlias = bool | tuple[DType, Shape] | None


class Shaped:
    """Stands in for an array of which a gradient rule needs the shape and dtype only."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)


def is_large(g: Any, inputs: Sequence[Any]) -> bool:
    """Whether a gradient rule on arrays is worth accelerating."""
    if type(g) is tuple:
        given = [x for x in g if x is not None]
        return all(type(x) is _ndarray for x in given) and any(x.size >= SMALLEST for x in given)
    if type(g) is not _ndarray and not isinstance(g, np.generic):
        return False
    if g.ndim:
        return type(g) is _ndarray and g.size >= SMALLEST
    return bool(math.prod(inputs[0].shape) >= SMALLEST)  # what a loss is computed from


def operands_of(op: Op, g: Any, y: Any, inputs: Sequence[Any]) -> list[Any]:
    """Everything that a gradient rule reads, in a row."""
    found = [*g] if type(g) is tuple else [g]
    if op.saves_output:
        found += y if type(y) is tuple else (y,)
    return [*found, *inputs]


def called(found: Sequence[Grad], wanted: Sequence[bool]) -> list[Any]:
    """What a gradient rule has given for operands that are `wanted`, and None for others."""
    pairs = zip(found, wanted, strict=False)
    return [(g() if type(g) is FunctionType else g) if w else None for g, w in pairs]


@unlisted_op
class EagerCall(Op):
    """An operation as eager code carries it out.

    Shapes, dtypes and errors: those of `op`.
    """

    op: Op

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"eager_{self.op.name}"

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return self.op.n_outputs

    def infer(self, *inputs: TensorType) -> TensorType | tuple[TensorType, ...]:
        return self.op.infer(*inputs)

    def on_host(self, n_inputs: int) -> tuple[Sequence[int], Sequence[int]]:
        return self.op.on_host(n_inputs)

    def eager(self, xp: Any, *inputs: Array) -> Any:
        accelerator = self.op.accelerator
        if accelerator is not None and xp is np and inputs[0].size >= SMALLEST:
            return accelerator(self.op, *inputs)
        return self.op.eager(xp, *inputs)

    def may_accelerate(self, inputs: Sequence[Any]) -> bool:
        """Whether arrays of these shapes and dtypes may be left to a kernel, at this moment."""
        accelerator = self.op.accelerator
        if accelerator is None or math.prod(inputs[0].shape) < SMALLEST:
            return False
        return bool(accelerator.takes(self.op, inputs))

    def inline(self, *inputs: Array) -> Sequence[Array]:
        """The results by the operation itself, which NumPy computes."""
        found = self.op(*inputs)
        return found if type(found) is tuple else (found,)

    def symbols(self) -> set[Any]:
        return self.op.symbols()

    def resolve(self, env: Mapping[str, DimLike]) -> Op:
        return EagerCall(self.op.resolve(env))

    def __str__(self) -> str:
        return f"eager {self.op}"


@unlisted_op
class EagerGradient(Op):
    """The gradient rule of `op` as eager code carries it out, for operands that are `wanted`.

    `slots` say where the gradients of the results, the saved results, and the operands come from,
    in a row; `results` are the dtypes and shapes of several results that the rule does not read.

    Shapes: those for which `slots` have True -> those of the operands that are wanted.
    """

    op: Op
    slots: tuple[Slot, ...]
    wanted: tuple[bool, ...]
    results: tuple[Slot, ...] = ()

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"eager_{self.op.name}_gradient"

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return sum(self.wanted)

    def infer(self, *inputs: TensorType) -> TensorType | tuple[TensorType, ...]:
        _, _, operands = self._arguments(inputs, TensorType)
        types = tuple(t for t, w in zip(operands, self.wanted, strict=True) if w)
        return types if len(types) > 1 else types[0]

    def eager(self, xp: Any, *inputs: Array) -> Any:
        g, y, operands = self._arguments(inputs, _shaped)
        accelerator = self.op.accelerator
        if accelerator is not None and xp is np and is_large(g, operands):
            edges = [True if w else None for w in self.wanted]
            found = accelerator.gradients(self.op, g, y, operands, edges)
        else:
            found = self.op.vjp(g, y, *operands)
        made = tuple(xp.asarray(x) for x in called(found, self.wanted) if x is not None)
        return made if len(made) > 1 else made[0]

    def may_accelerate(self, inputs: Sequence[Any]) -> bool:
        """Whether arrays of these shapes and dtypes may be left to a kernel, at this moment."""
        accelerator = self.op.accelerator
        if accelerator is None:
            return False
        _, _, operands = self._arguments(inputs, _shaped)
        if all(math.prod(x.shape) < SMALLEST for x in (*inputs, *operands)):
            return False
        return bool(accelerator.takes(self.op, operands))

    def inline(self, *inputs: Array) -> Sequence[Array]:
        """The results by the operations that the rule is made of, which NumPy computes."""
        g, y, operands = self._arguments(inputs, TensorType)
        return [x for x in called(self.op.vjp(g, y, *operands), self.wanted) if x is not None]

    def _arguments(
        self, inputs: Sequence[Any], typed: Callable[[DType, Shape], Any]
    ) -> tuple[Any, Any, list[Any]]:
        """The arguments of the rule; what it does not read is made by `typed`."""
        given = iter(inputs)

        def made(slots: Sequence[Slot]) -> list[Any]:
            return [
                next(given) if slot is True else typed(*slot) if isinstance(slot, tuple) else None
                for slot in slots
            ]

        count, own = self.op.n_outputs, len(self.slots) - len(self.wanted)
        g: Any = tuple(made(self.slots[:count]))
        y: Any = tuple(made(self.slots[count:own] or self.results))
        operands = made(self.slots[own:])
        if count == 1:
            return g[0], (y[0] if y else None), operands
        return g, y, operands

    def __str__(self) -> str:
        wanted = ", ".join(str(i) for i, w in enumerate(self.wanted) if w)
        return f"eager gradient of {self.op} for {wanted}"


def _shaped(dtype: DType, shape: Shape) -> Shaped:
    return Shaped(shape, dtype.np)


def gradients_in_one(
    op: Op, g: Any, y: Any, inputs: Sequence[Any], wanted: Sequence[bool], add: Callable[..., Any]
) -> Sequence[Any]:
    """``op.vjp(g, y, *inputs)`` on values of a graph, as one node for those that are `wanted`.

    `add` appends an op on values to the graph. A rule that computes nothing for something wanted
    stays the operations that it is made of, as in eager code.
    """
    found = called(op.vjp(g, y, *inputs), wanted)
    if not all(_is_value(x) for x, w in zip(found, wanted, strict=False) if w):
        return found
    row = operands_of(op, g, y, inputs)
    slots = tuple(_slot(x) for x in row)
    saved = op.saves_output or op.n_outputs == 1
    results = () if saved else tuple(_slot(x) for x in y)
    step = EagerGradient(op, slots, tuple(wanted), results)
    made = add(step, [x for x, slot in zip(row, slots, strict=True) if slot is True])
    given = iter(made if step.n_outputs > 1 else (made,))
    return [next(given) if w else None for w in wanted]


def _slot(x: Any) -> Slot:
    """What an argument of a rule is to a node that is made for it."""
    if x is None:
        return None
    return True if _is_value(x) else (x.dtype, tuple(x.shape))


def _is_value(x: Any) -> bool:
    """Whether `x` is a value of a graph, and not an array, or a type alone."""
    return hasattr(x, "node")

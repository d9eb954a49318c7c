"""Library steps: ops with a kernel of their own, such as matrix products and convolutions.

A `LibraryRule`, registered in `RULES` for the class of an op, says whether it takes a node and
makes the routine that computes it. Pointwise nodes that read the result are computed as it is
stored, by an epilogue that the rule gets as loops over a tile (`schedule.Epilogue`). Operands
come as strided views of memory (`schedule.strided`); one that is constant can be packed once, when
a program is loaded (`Routine.packs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ...dims import DimLike
from ...dtypes import float32, float64, int16
from ...graph import Node
from ...ops.base import REGISTRY, Op
from ..attention import Attention
from ..blocked import BlockedConv, BlockedPool
from ..loops import Buffer
from ..words import WordMatmul

if TYPE_CHECKING:
    from ..fuse import Step
    from ..render.prelude import Prelude
    from ..schedule import Context


@dataclass(frozen=True, slots=True)
class Pack:
    """Memory filled once from a constant: a function ``void f(const T *from, T *to)``."""

    function: str
    source: Buffer
    packed: Buffer


@dataclass(frozen=True, slots=True)
class Phase:
    """A function of a routine, called for ranges of its tasks. The next phase starts when it ends.

    `suffix` follows the routine's name. `tasks` is their number, `cost` how many picoseconds all of
    them would take one core, very roughly: it decides whether they are shared among threads.
    """

    suffix: str
    tasks: DimLike
    cost: DimLike


class Routine(Protocol):
    """Functions of the program's text: a fused kernel or a library step.

    Each phase is a function ``void f(buffers, sizes, i64 first, i64 last)``: the buffers are
    `reads`, `writes`, `scratch` and `own`, the sizes `arguments`. It runs tasks `first` to
    `last` - 1, and may be called any number of times, for different ranges, by several threads at
    once: a task reads nothing that another task of its phase writes. `scratch` is memory that all
    threads see, from one phase to the next; of `own` each thread has one.

    `checked`: the functions return a status, 0 or a key of `plan.ERRORS`.
    """

    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]
    scratch: tuple[Buffer, ...]
    own: tuple[Buffer, ...]
    notes: tuple[str, ...]
    packs: tuple[Pack, ...]
    phases: tuple[Phase, ...]
    checked: bool

    def text(self, name: str) -> str:
        """The functions, and whatever they need that the prelude has not."""
        ...

    @property
    def arguments(self) -> tuple[str, ...]:
        """The symbolic sizes it takes."""
        ...


class LibraryRule:
    """How the nodes of one op become library steps."""

    def why_not(self, node: Node) -> str | None:
        """Why it does not take a node; None where it does."""
        return None

    def takes_view(self, node: Node, operand: int) -> bool:
        """Whether an operand may come as a strided view of memory, or must be contiguous."""
        return False

    def takes_reversed(self, node: Node, operand: int) -> bool:
        """Whether the strides of such a view may be negative."""
        return False

    def routine(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> Routine:
        """The function that computes a step: the node, and what is fused behind it."""
        raise NotImplementedError


RULES: dict[type[Op], LibraryRule] = {}


def why_not(node: Node) -> str | None:
    """Why a node is no library step; None where it is one."""
    rule = RULES.get(type(node.op))
    if rule is None and node.op.name == "non_max_suppression":  # what `kept_boxes` leaves
        return f"{node.op.name} of {node.inputs[0].dtype.name} has no native form yet"
    if rule is None:
        return f"{node.op.name} has no native form yet"
    return rule.why_not(node)


class _Matmul(LibraryRule):
    """Matrix products of float32, over any number of leading axes."""

    def why_not(self, node: Node) -> str | None:
        if node.output.dtype is not float32:
            return f"matmul of {node.output.dtype.name} has no native form yet"
        return None

    def takes_view(self, node: Node, operand: int) -> bool:
        return True

    def routine(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> Routine:
        from ..render.gemm import Gemm

        return Gemm(step, context, prelude, symbols)


class _WordMatmul(_Matmul):
    """Matrix products of int16 summed in int32, the rows of A as they lie."""

    def why_not(self, node: Node) -> str | None:
        return None

    def takes_view(self, node: Node, operand: int) -> bool:
        return operand == 1


class _Attention(LibraryRule):
    """Attention of float32."""

    def takes_view(self, node: Node, operand: int) -> bool:
        return operand < 3  # masks are read along rows

    def routine(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> Routine:
        from ..render.attention import AttentionRoutine

        return AttentionRoutine(step, context, prelude, symbols)


class _Conv(LibraryRule):
    """Convolutions of float32, of any number of axes, without bias: `prepare` adds that."""

    def why_not(self, node: Node) -> str | None:
        if node.output.dtype is not float32:
            return f"conv of {node.output.dtype.name} has no native form yet"
        if len(node.inputs) > 2:
            return "conv with a bias of its own has no native form"
        if not all(isinstance(d, int) for d in node.inputs[1].shape):
            return "conv with a weight of symbolic size has no native form yet"
        return None

    def takes_view(self, node: Node, operand: int) -> bool:
        return operand == 0

    def routine(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> Routine:
        from ..render.conv import Conv

        return Conv(step, context, prelude, symbols)


class _ConvWeightGradient(LibraryRule):
    """Gradients of convolutions by the weight, of float32 and float64."""

    def why_not(self, node: Node) -> str | None:
        if node.output.dtype not in (float32, float64):
            return f"conv_weight_grad of {node.output.dtype.name} has no native form yet"
        if not all(isinstance(d, int) for d in node.output.shape):
            return "conv_weight_grad of a weight of symbolic size has no native form yet"
        return None

    def takes_view(self, node: Node, operand: int) -> bool:
        return True

    def routine(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> Routine:
        from ..render.conv_weight_gradient import ConvWeightGradient

        return ConvWeightGradient(step, context, prelude, symbols)


class _Blocked(LibraryRule):
    """Convolutions and pooling of blocked images, which the layout pass has chosen."""

    def takes_view(self, node: Node, operand: int) -> bool:
        return operand == 1 and not node.op.is_depthwise  # type: ignore[attr-defined]

    def takes_reversed(self, node: Node, operand: int) -> bool:
        return self.takes_view(node, operand)

    def routine(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> Routine:
        from ..render.conv_direct import DirectConv
        from ..render.conv_small import SmallConv
        from ..render.conv_small import pays as small_pays
        from ..render.conv_winograd import WinogradConv
        from ..render.conv_winograd import pays as winograd_pays
        from ..render.conv_winograd_words import WordWinogradConv
        from ..render.conv_winograd_words import pays as words_pay
        from ..render.sliding import Sliding

        op = step.nodes[0].op
        if isinstance(op, BlockedPool) or op.is_depthwise:  # type: ignore[attr-defined]
            return Sliding(step, context, prelude, symbols)
        if step.nodes[0].inputs[0].dtype is int16:
            words = WordWinogradConv if words_pay(step) else DirectConv
            return words(step, context, prelude, symbols)
        if winograd_pays(step):
            return WinogradConv(step, context, prelude, symbols)
        kind = SmallConv if small_pays(step) else DirectConv
        return kind(step, context, prelude, symbols)


RULES[BlockedConv] = RULES[BlockedPool] = _Blocked()
RULES[REGISTRY["matmul"]] = _Matmul()
RULES[WordMatmul] = _WordMatmul()
RULES[Attention] = _Attention()
RULES[REGISTRY["conv_weight_grad"]] = _ConvWeightGradient()
RULES[REGISTRY["conv"]] = _Conv()

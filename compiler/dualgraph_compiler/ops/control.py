"""Control flow: ops that run graphs which they hold as attributes.

See :mod:`..graph.nested` for what such a graph may do. :class:`If` is here; loops are in
:mod:`.scan` and :mod:`.loop`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import ref

from .. import graph as _graph  # which imports ops in turn: for use in functions only
from ..dims import DimLike, Shape, symbols
from ..dtypes import bool_
from ..errors import DTypeError, GraphError, ShapeError
from ..types import TensorType
from . import f
from .base import Array, Grad, Kind, Op, op
from .onnx_rules import Export

if TYPE_CHECKING:
    from ..graph import Graph, Interpreter, Value


# What gives a function that runs a body: of arrays for its inputs, its outputs.
Runs: TypeAlias = "Callable[[Graph], Callable[[Sequence[Array]], Sequence[Array]]]"


class Control(Op):
    """Base of the ops that hold graphs."""

    __slots__ = ()
    kind = Kind.CONTROL

    @property
    def graphs(self) -> list[Graph]:
        """The graphs held, in the order of `bodies`."""
        return [getattr(self, name) for name in self.bodies]

    @property
    def first_shared(self) -> int:
        """How many operands come before those that the bodies see as they are."""
        raise NotImplementedError(type(self).__name__)

    @property
    def first_optional(self) -> int:
        """How many results come before those that a body may do without."""
        raise NotImplementedError(type(self).__name__)

    def eager(self, xp: Any, *operands: Array) -> Any:
        return self.evaluate(xp, lambda body: interpreter(body, xp).run, operands)

    def evaluate(self, xp: Any, runs: Runs, operands: Sequence[Array]) -> Any:
        """What `eager` gives, the bodies run by what `runs` gives for them."""
        raise NotImplementedError(type(self).__name__)

    @property
    def is_pure(self) -> bool:  # type: ignore[override]
        return all(node.op.is_pure for body in self.graphs for node in body.nodes)

    def symbols(self) -> set[Any]:
        """Symbols of the graph around that the bodies use."""
        return {s for body in self.graphs for s in _graph.nested.free_symbols(body)}

    def resolve(self, env: Mapping[str, DimLike]) -> Op:
        """This op with the sizes `env` put into its attributes and its bodies."""
        made = super().resolve(env)
        known = {s.name for s in self.symbols()} & env.keys()
        if not known:
            return made
        inner = {name: env[name] for name in known}
        bodies = {b: _graph.nested.resized(getattr(self, b), inner) for b in self.bodies}
        return replace(made, **bodies)

    def __str__(self) -> str:
        held = ", ".join(f"{b} of {len(getattr(self, b))} nodes" for b in self.bodies)
        return f"{Op.__str__(self)} with {held}"


def interpreter(body: Graph, xp: Any) -> Interpreter:
    """What runs a body, made once."""
    return _graph.nested.derived(
        body, ("interpreter", xp.__name__), lambda: _graph.Interpreter(body, xp)
    )


def results(values: Sequence[Any]) -> Any:
    """What an op with these results returns: the only one, or the tuple of them."""
    return values[0] if len(values) == 1 else tuple(values)


def output_grads(g: Any) -> tuple[Any, ...]:
    """The gradients of an op's results, None for those without."""
    return tuple(g) if isinstance(g, tuple | list) else (g,)


def owned(xp: Any, values: Sequence[Array], operands: Sequence[Array]) -> list[Array]:
    """`values`, copied where their memory is that of an operand or of another one."""
    out: list[Array] = []
    for v in values:
        shared = any(v is x or xp.may_share_memory(v, x) for x in (*operands, *out))
        out.append(v.copy() if shared else v)
    return out


def require_condition(name: str, cond: TensorType) -> None:
    """Raise unless `cond` is a single bool."""
    if cond.dtype is not bool_:
        raise DTypeError(f"{name}: expected a bool condition, got {cond}")
    if cond.shape != ():
        raise ShapeError(f"{name}: expected a condition of no dimensions, got {cond}")


def require_results(name: str, body: Graph) -> None:
    """Raise unless `body` has outputs: a node without results could not be referred to."""
    if not body.outputs:
        raise GraphError(f"{name}: expected a body with outputs, got none")


def with_open_sizes(cls: Any, fresh: Callable[[], DimLike], xs: Any, **attributes: Any) -> Any:
    """`cls(**attributes)` on operands of types `xs`, with new sizes where only a run tells them."""
    made: list[DimLike] = []

    def sizes() -> Iterator[DimLike]:
        while True:
            made.append(fresh())
            yield made[-1]

    cls(**attributes).result_types(xs, sizes())
    return cls(**attributes, sizes=tuple(made))


@op
class If(Control):
    """`then_branch` of the operands where the condition holds, else `else_branch` of them.

    Shapes: cond bool [], then the inputs of both branches -> the outputs of both, which have equal
    types. Where their sizes differ, the result's is the next one of `sizes`, symbols that nothing
    else defines. Source: ONNX If-25.
    """

    then_branch: Graph
    else_branch: Graph
    sizes: Shape = ()
    bodies = ("then_branch", "else_branch")

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return len(self.then_branch.outputs)

    def infer(self, cond: TensorType, *xs: TensorType) -> Any:
        require_condition("if", cond)
        return results(self.result_types(xs, iter(self.sizes)))

    @property
    def first_shared(self) -> int:
        return 1

    @property
    def first_optional(self) -> int:
        return 0

    @property
    def defines_sizes(self) -> bool:  # type: ignore[override]
        return bool(self.sizes)

    def result_types(self, xs: Sequence[TensorType], sizes: Iterator[DimLike]) -> list[TensorType]:
        """The types of the results, those sizes in which the branches differ taken from `sizes`."""
        require_results("if", self.then_branch)
        one, other = (self._branch_types(body, xs) for body in self.graphs)
        if len(one) != len(other):
            raise GraphError(
                f"if: expected branches with equally many results, got {len(one)} and {len(other)}"
            )
        inner = _graph.nested.inner_names(self.then_branch)
        inner |= _graph.nested.inner_names(self.else_branch)
        return [_joined(a, b, inner, sizes) for a, b in zip(one, other, strict=True)]

    def _branch_types(self, body: Graph, xs: Sequence[TensorType]) -> list[TensorType]:
        env = _graph.nested.match_types(f"if ({body.name})", body.inputs, xs)
        return [_graph.nested.sized(v.type, env) for v in body.outputs]

    def evaluate(self, xp: Any, runs: Runs, operands: Sequence[Array]) -> Any:
        cond, *xs = operands
        body = self.then_branch if bool(cond) else self.else_branch
        return results(owned(xp, runs(body)(xs), xs))

    def vjp(self, g: Any, _y: Any, cond: Array, *xs: Array) -> tuple[Grad, ...]:
        """The branches' gradients under the same condition; the taken branch runs once more."""
        gs = output_grads(g)
        present = tuple(x is not None for x in gs)
        key = ("gradient", ref(self.else_branch), present)
        make = partial(_gradient, self, present)
        reached, made = _graph.nested.derived(self.then_branch, key, make)
        grads: list[Grad] = [None] * (1 + len(xs))
        if made is not None:
            found = made(cond, *xs, *(x for x in gs if x is not None))
            for i, gx in zip(reached, [found] if len(reached) == 1 else found, strict=True):
                grads[1 + i] = gx
        return tuple(grads)

    def to_onnx(self, ctx: Export, cond: str, *xs: str) -> Any:
        branches = {b: ctx.subgraph(getattr(self, b), xs) for b in self.bodies}
        return ctx.emit("If", cond, outputs=self.n_outputs, **branches)


def _joined(
    a: TensorType, b: TensorType, inner: frozenset[str], sizes: Iterator[DimLike]
) -> TensorType:
    """The type of a result that is of type `a` or `b`; raises where no type holds both."""
    if a.dtype is not b.dtype:
        raise DTypeError(f"if: the branches' results differ: {a} and {b}")
    shape: list[DimLike | None] = [
        d if d == e and not any(s.name in inner for s in symbols(d)) else next(sizes, None)
        for d, e in zip(a.shape, b.shape, strict=False)
    ]
    if a.ndim != b.ndim or None in shape:
        raise ShapeError(f"if: the branches' results differ: {a} and {b}")
    return a.with_shape(shape)  # type: ignore[arg-type]


def _gradient(op: If, present: Sequence[bool]) -> tuple[list[int], If | None]:
    """The operands that gradients reach, and the `if` that computes them.

    It takes the operands of `op`, then the gradients of those results that are `present`.
    """
    pairs = [_branch_gradient(body, present) for body in op.graphs]
    xs = op.then_branch.inputs
    reached = [i for i in range(len(xs)) if any(found[i] is not None for _, found in pairs)]
    if not reached:
        return [], None
    for body, found in pairs:
        out: list[Value] = []
        for i in reached:
            g = found[i]
            out.append(f.zeros_like(body.inputs[i]) if g is None else g)
        body.set_outputs(out, [f"grad{i}" for i in reached])
        _graph.prune(body)
    (then_branch, _), (else_branch, _) = pairs
    return reached, If(then_branch, else_branch)


def _branch_gradient(body: Graph, present: Sequence[bool]) -> tuple[Graph, list[Value | None]]:
    """A graph of a branch and its gradients for every input."""
    out = _graph.Graph(body.name)
    xs = [out.add_input(v.type, v.name) for v in body.inputs]
    ys = _graph.inline(body, out, xs)
    ys = [y for y, wanted in zip(ys, present, strict=True) if wanted]
    gs = [out.add_input(y.type) for y in ys]
    smooth = [x for x in xs if x.dtype.is_differentiable]
    found = dict(zip(smooth, _graph.gradients(out, ys, smooth, gs), strict=True))
    return out, [found.get(x) for x in xs]

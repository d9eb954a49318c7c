"""One result from two branches: tensors through an If, everything else where it is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.types import TensorType

from ..._dispatch import current_fn
from ..._promote import cast
from ..._tensor import Tensor
from ...autograd.reach import parents, walked
from ...control import apply_if
from .. import tree
from ..body import BodyCapture
from .number import KINDS, Number, constant, kind_of, wrap
from .regions import Region
from .signals import RETURN, UNBOUND, Signal, possible
from .signals import kind_of as kind_of_signal


class Differ(Exception):
    """Two values cannot become one; the message says how they differ."""


class _Output:
    """Stands for result `index` of the If. No dataclass, as those below: `tree` sees leaves."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class Kept:
    """A value that both branches give."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Pending:
    """A structure with `Kept` and `_Output` at its leaves."""

    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held


class Merge:
    """Collects what two branches give, and then records the If.

    `what` is the ``if``, for messages.
    """

    def __init__(self, one: Region, other: Region, what: str) -> None:
        self.bodies = (one, other)
        self.what = what
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self.numbers: list[bool] = []

    def value(self, a: Any, b: Any) -> Any:
        """`a` and `b` as one, to be completed by `finish`.

        Raises:
            Differ: they have nothing in common.
        """
        if a is b:
            return Kept(a)
        if tree.structure(a) != tree.structure(b):
            raise Differ(f"{sketch(a)} and {sketch(b)}")
        leaves = zip(list(tree.flatten(a)), list(tree.flatten(b)), strict=True)
        made = iter([self._leaf(x, y) for (_, x), (_, y) in leaves])
        return Pending(tree.map_leaves(lambda _: next(made), a))

    def _leaf(self, a: Any, b: Any) -> Any:
        if a is b or same(a, b):
            return Kept(a)
        kinds = kind_of(a), kind_of(b)
        if None not in kinds:
            one, other = kinds
            if one is not other and bool in kinds:
                raise Differ(f"{one.__name__} and {other.__name__}")  # type: ignore[union-attr]
            kind = one if one is other else float
            pair = [
                self._number(body, x, kind) for body, x in zip(self.bodies, (a, b), strict=True)
            ]
            return self._output(pair[0], pair[1], number=True)
        tensors = [x for x in (a, b) if isinstance(x, Tensor) and type(x) is not Number]
        if not tensors or not all(isinstance(x, Tensor) or kind_of(x) for x in (a, b)):
            raise Differ(f"{sketch(a)} and {sketch(b)}")
        like = tensors[0]._type()
        made = []
        for body, x in zip(self.bodies, (a, b), strict=True):
            with body:
                made.append(as_like(x, like))
        if made[0]._type() != made[1]._type():
            raise Differ(f"{sketch(a)} and {sketch(b)}")
        return self._output(made[0], made[1], number=False)

    def _number(self, body: BodyCapture, x: Any, kind: Any) -> Tensor:
        with body:
            if type(x) is Number:
                return cast(x, KINDS[kind])
            return constant(x, kind)

    def _output(self, a: Tensor, b: Tensor, *, number: bool) -> _Output:
        self.pairs.append((a, b))
        self.numbers.append(number)
        return _Output(len(self.pairs) - 1)

    def finish(self, pred: Tensor) -> list[Tensor]:
        """The results, once all values have been merged."""
        outputs = [
            [body.last_value_of(pair[i]) for pair in self.pairs]
            for i, body in enumerate(self.bodies)
        ]
        if any(
            not is_blank(a) and not is_blank(b) and _leaves(a) != _leaves(b) for a, b in self.pairs
        ):
            self.bodies[0].root.note_uneven(self.what)
        made = list(apply_if(pred, list(self.bodies), outputs))
        for t, pair in zip(made, self.pairs, strict=False):
            outside = [x for x, body in zip(pair, self.bodies, strict=True) if not body.made(x)]
            if outside and not t._weak:
                self.bodies[0].entangle(t, *outside)
        return [wrap(t) if number else t for t, number in zip(made, self.numbers, strict=False)]


def completed(made: Any, results: Sequence[Tensor]) -> Any:
    """What `Merge.value` stood for."""
    if isinstance(made, Kept):
        return made.value

    def leaf(x: Any) -> Any:
        return x.value if isinstance(x, Kept) else results[x.index]

    return _map(leaf, made.held)


def _map(leaf: Any, held: Any) -> Any:
    return leaf(held) if isinstance(held, Kept | _Output) else tree.map_leaves(leaf, held)


# -- signals --------------------------------------------------------------------------------------


def merge_signals(merge: Merge, a: Signal | None, b: Signal | None) -> tuple[Any, Any]:
    """The kind and value of what two branches give, to be completed."""
    kind = merge.value(kind_of_signal(a), kind_of_signal(b))
    one, other = RETURN in possible(a), RETURN in possible(b)
    if not one and not other:
        return kind, Kept(None)
    x, y = (s.value if s is not None else None for s in (a, b))
    if one and not other:
        with merge.bodies[1]:
            y = blank(x)
    elif other and not one:
        with merge.bodies[0]:
            x = blank(y)
    return kind, merge.value(x, y)


def blank(value: Any) -> Any:
    """A value that nobody looks at, of the types of `value`."""
    from ...functions import zeros

    def leaf(x: Any) -> Any:
        if type(x) is Number:
            return constant(x.kind(0))
        if not isinstance(x, Tensor):
            return x
        made = zeros(tuple(x.shape), dtype=x.dtype)
        made.__dict__[_BLANK] = True
        return made

    return tree.map_leaves(leaf, value)


_BLANK = "_blank"


def is_blank(t: Tensor) -> bool:
    """Whether nobody looks at `t`: made by `blank`."""
    return _BLANK in t.__dict__


def _leaves(t: Tensor) -> set[Any]:
    """Where the tape ends that leads from `t`."""
    fn = t._fn if t._base is None else current_fn(t)
    return {entry for entry in walked([fn]) if not parents(entry)}


# -- values ---------------------------------------------------------------------------------------

_COMPARED = (bool, int, float, complex, str, bytes, type(None), slice, range, DType)


def same(a: Any, b: Any) -> bool:
    """Whether two Python values are interchangeable."""
    if type(a) is not type(b) or not isinstance(a, _COMPARED):
        return False
    return bool(a == b) and (type(a) is not float or str(a) == str(b))


def as_like_type(x: Any, like: TensorType) -> TensorType | None:
    """The type that `as_like` gives; None for what is neither tensor nor number."""
    if isinstance(x, Tensor) and type(x) is not Number:
        return x._type()
    kind = kind_of(x)
    if kind is None or like.shape != () or KINDS[kind].category > like.dtype.category:
        return None
    return like


def as_like(x: Any, like: TensorType) -> Tensor:
    """A tensor; a number as one of the type `like`, if promotion would give it that.

    Raises:
        Differ: the number does not fit.
    """
    if isinstance(x, Tensor) and type(x) is not Number:
        return x
    if as_like_type(x, like) is None:
        raise Differ(f"{sketch(x)} and a tensor {like}")
    return cast(x if type(x) is Number else constant(x), like.dtype)


def sketch(value: Any) -> str:
    """A value in few words, for messages."""
    if value is UNBOUND:
        return "nothing"
    if type(value) is Number:
        return value.kind.__name__
    if isinstance(value, Tensor):
        return str(value._type())
    if isinstance(value, tuple | list):
        inner = ", ".join(map(sketch, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {sketch(v)}" for k, v in value.items()) + "}"
    if isinstance(value, np.generic | str | int | float | bool | type(None)):
        return repr(value)
    return type(value).__name__

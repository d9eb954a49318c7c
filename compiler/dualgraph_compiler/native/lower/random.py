"""Random numbers: the stream of Philox4x32-10, read word by word as the eager ops read it.

A step of the loop makes one block of four words, and what is drawn from them; blocks do not depend
on each other. Uniform numbers, integers, masks and permutations are the eager ones bit for bit;
normal numbers differ by the last bits of log, sin and cos.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...dtypes import DType, bool_, float32, float64, int32, int64, uint64
from ...graph import Node
from ...ops.base import Kind, Op
from ...types import TensorType
from ..index import Axis, Index, of_axis
from ..loops import Expr, Guard, Holds, Let, Position, Ref, Stmt, Store, When, Words
from ..scalars import call, cast, const, like, test, where
from .nests import RULES, Nest, over, rule

# What is defined for a block, and the elements drawn from it, given its words and its number.
Drawing = tuple[list[Stmt], list[Expr]]
Draw = Callable[[Sequence[Ref], Index], Drawing]


@dataclass(frozen=True, slots=True, repr=False)
class RandomKeys(Op):
    """64-bit words of a stream, the low bits of each replaced by its position: uint64 [n].

    In order they are a random permutation; see `kernels.random.permutation`.
    """

    n: int
    name: ClassVar[str] = "random_keys"
    kind: ClassVar[Kind] = Kind.LIBRARY

    def infer(self, seed: TensorType, offset: TensorType) -> TensorType:
        return TensorType(uint64, (self.n,))

    @property
    def low(self) -> int:
        """The bits that hold a position."""
        return (1 << max(self.n - 1, 0).bit_length()) - 1


def _drawn(nest: Nest, each: int, draw: Draw) -> list[Stmt]:
    """Loops over blocks, which give `each` elements: the whole ones, then what is left."""
    out = nest.node.output
    n, buffer = out.size, nest.buffer(out)
    whole = n // each
    rest = (n + (each - 1)) // each - whole
    stmts: list[Stmt] = []
    for start, extent, is_whole in ((0, whole, True), (whole, rest, False)):
        axis = Axis(0, extent)
        block = of_axis(axis) + start
        stem = "w" if is_whole else "z"
        names = (f"{stem}0", f"{stem}1", f"{stem}2", f"{stem}3")
        words = Words(names, nest.read(0, ()), nest.read(1, ()), block)
        made, elements = draw([Ref(w, uint64) for w in names], block)
        body: list[Stmt] = [words, *made]
        for j, y in enumerate(elements):
            at = block * each + j
            store = Store(buffer, at, y)
            exists = Holds((Guard(at, None, n),), bool_)
            body.append(store if is_whole else When(exists, (store,)))
        stmts += over([axis], body, lanes=is_whole)
    return stmts


def _word64(words: Sequence[Expr], i: int) -> Expr:
    """The i-th number of 64 bits: high word first."""
    high, low = words[2 * i : 2 * i + 2]
    return call("bor", call("shl", high, like(high, 32)), low)


def _uniform(words: Sequence[Expr], dtype: DType) -> list[Expr]:
    """Numbers in [0, 1), as many as the words give; float32 for narrow dtypes."""
    if dtype is float64:
        pairs = [call("shr", _word64(words, i), const(11, uint64)) for i in range(2)]
        return [call("mul", cast(cast(w, int64), float64), const(2.0**-53, float64)) for w in pairs]
    bits = {"float32": 24, "float16": 11, "bfloat16": 8}[dtype.name]
    high = [call("shr", w, const(32 - bits, uint64)) for w in words]
    return [call("mul", cast(cast(w, int32), float32), const(2.0**-bits, float32)) for w in high]


@rule("random_uniform")
def _random_uniform(op: Any, node: Node, nest: Nest) -> list[Stmt]:
    def draw(words: Sequence[Ref], block: Index) -> Drawing:
        return [], [cast(u, op.dtype) for u in _uniform(words, op.dtype)]

    return _drawn(nest, 2 if op.dtype is float64 else 4, draw)


@rule("random_normal")
def _random_normal(op: Any, node: Node, nest: Nest) -> list[Stmt]:
    """Box & Muller (1958): two numbers from a radius and an angle."""
    wide = float64 if op.dtype is float64 else float32

    def draw(words: Sequence[Ref], block: Index) -> Drawing:
        uniform = _uniform(words, wide)
        lets: list[Stmt] = []
        elements: list[Expr] = []
        for i in range(0, len(uniform), 2):
            log = call("log", call("sub", const(1, wide), uniform[i]))
            radius = call("sqrt", call("mul", log, const(-2, wide)))
            r = Ref(f"r_{words[i].name}", wide)
            lets.append(Let(r.name, radius))
            made, circle = _circle(uniform[i + 1], words[i].name)
            lets += made
            elements += [cast(call("mul", x, r), op.dtype) for x in circle]
        return lets, elements

    return _drawn(nest, 2 if wide is float64 else 4, draw)


# sin r = r + r^3 (..) and cos r = 1 - r^2 / 2 + r^4 (..) for |r| <= pi / 4, within 4e-9, with
# polynomials in r^2, lowest power first. pi / 2 is a sum of three, so that a few times it is exact.
_SIN = (-0.16666655242443085, 0.008332173340022564, -0.00019516656175255775)
_COS = (0.04166664555668831, -0.001388736185617745, 2.4437729734927416e-05)
_QUARTER = (1.5707855224609375, 1.080433139577508e-05, 2.5633440682570896e-12)


def _circle(u: Expr, stem: str) -> tuple[list[Stmt], tuple[Expr, Expr]]:
    """Cosine and sine of 2 pi u, for u in [0, 1), and what they need defined."""
    angle = call("mul", u, like(u, 2 * math.pi))
    if u.dtype is float64:
        a = Ref(f"a_{stem}", float64)
        return [Let(a.name, angle)], (call("cos", a), call("sin", a))
    lets: list[Stmt] = []

    def let(name: str, x: Expr) -> Ref:
        lets.append(Let(f"{name}_{stem}", x))
        return Ref(f"{name}_{stem}", x.dtype)

    def series(z: Expr, factors: Sequence[float]) -> Expr:
        y: Expr = like(z, factors[-1])
        for c in reversed(factors[:-1]):
            y = call("add", call("mul", y, z), like(z, c))
        return y

    quarters = let("q", call("rint", call("mul", u, like(u, 4))))
    rest: Expr = angle
    for part in _QUARTER:
        rest = call("sub", rest, call("mul", quarters, like(u, part)))
    x = let("x", rest)
    z = let("z", call("mul", x, x))
    sin = let("s", call("add", x, call("mul", call("mul", x, z), series(z, _SIN))))
    start = call("sub", like(z, 1), call("mul", z, like(z, 0.5)))
    cos = let("c", call("add", start, call("mul", call("mul", z, z), series(z, _COS))))
    turns = let("k", cast(quarters, int32))
    odd = _has_bit(turns, 1)
    y = where(_has_bit(turns, 2), call("neg", where(odd, cos, sin)), where(odd, cos, sin))
    ahead = _has_bit(call("add", turns, like(turns, 1)), 2)
    across = where(odd, sin, cos)
    return lets, (where(ahead, call("neg", across), across), y)


def _has_bit(x: Expr, bit: int) -> Expr:
    return test("ne", call("band", x, like(x, bit)), like(x, 0))


@rule("random_bernoulli")
def _random_bernoulli(op: Any, node: Node, nest: Nest) -> list[Stmt]:
    limit = round(op.p * 2**32)
    return _drawn(nest, 4, lambda words, _: ([], [test("lt", w, like(w, limit)) for w in words]))


@rule("random_int")
def _random_int(op: Any, node: Node, nest: Nest) -> list[Stmt]:
    span = op.high - op.low

    def scaled(high: Expr, low: Expr) -> Expr:
        """A number of 64 bits brought into [0, span)."""
        if span < 2**32:  # floor(number * span / 2^64)
            half = like(low, 32)
            carry = call("shr", call("mul", low, like(low, span)), half)
            return call("shr", call("add", call("mul", high, like(high, span)), carry), half)
        word = _word64((high, low), 0)
        return word if span == 2**64 else call("iremainder", word, like(word, span))

    def draw(words: Sequence[Ref], block: Index) -> Drawing:
        numbers = [scaled(*words[i : i + 2]) for i in (0, 2)]
        moved = [call("add", x, like(x, op.low & (2**64 - 1))) for x in numbers]
        return [], [cast(cast(x, int64), op.dtype) for x in moved]

    return _drawn(nest, 2, draw)


def _random_keys(op: Any, node: Node, nest: Nest) -> list[Stmt]:
    def draw(words: Sequence[Ref], block: Index) -> Drawing:
        keys = [
            call("band", _word64(words, i), const(op.low ^ (2**64 - 1), uint64)) for i in (0, 1)
        ]
        places = [cast(Position(block * 2 + i, int64), uint64) for i in (0, 1)]
        return [], [call("bor", k, p) for k, p in zip(keys, places, strict=True)]

    return _drawn(nest, 2, draw)


RULES[RandomKeys] = _random_keys

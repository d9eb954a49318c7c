"""Scalar expressions as C, for one element or for several lanes at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ...dims import DimLike
from ...dtypes import DType, bool_
from ..index import Atom, Axis, Index, Part
from ..loops import Call, Checked, Const, Expr, Guard, Holds, Load, Position, Ref
from .convert import convert, from_narrow, narrow_name, rounded
from .integers import CHECKED, integer_function
from .prelude import Prelude
from .types import Sizes, index_text, literal, memory, register

LANE_AXIS = -1  # the number of the axis that counts lanes within a group

_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "band": "&", "bor": "|", "bxor": "^"}
_SIGNS |= {"shl": "<<", "shr": ">>"}
_TESTS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_LOGIC = {"and": "&", "or": "|", "xor": "^"}
_GATHERED = 2000  # characters of an initialiser of elements that are not adjacent, at most


def _range_error(e: Checked) -> str:
    """What is said of an index out of range, which stands for ``{}``."""
    least = f"-{e.size}" if e.negative else "0"
    word = e.what.rpartition(" ")[2]
    relation = "<=" if e.inclusive else "<"
    return f"{e.what} {{}} is out of bounds: expected {least} <= {word} {relation} {e.size}"


@dataclass
class Lanes:
    """How many elements are computed at a time, along which axis, and where the group stands.

    `offset` is that of the group from the counter; `rest` is the variable with the number of lanes
    that exist, "" where all do. `single` is the variable with the one lane that is computed.
    `aligned`: the counter is a multiple of `count`.
    """

    count: int = 1
    axis: Axis | None = None
    offset: int = 0
    rest: str = ""
    suffix: str = ""
    single: str = ""
    aligned: bool = False


@dataclass
class Scope:
    """What a kernel's text refers to."""

    prelude: Prelude
    sizes: Sizes
    buffers: dict[int, str] = field(default_factory=dict)  # by id of the buffer
    varying: dict[str, bool] = field(default_factory=dict)  # of names: whether one per lane
    mask_bytes: int = 1


class Writer:
    """Writes expressions in a scope, for a group of lanes."""

    def __init__(self, scope: Scope, lanes: Lanes) -> None:
        self.scope = scope
        self.prelude = scope.prelude
        self.lanes = lanes

    # -- what varies ------------------------------------------------------------------------------

    def varies(self, e: Expr) -> bool:
        """Whether lanes have different values."""
        if self.lanes.axis is None or self.lanes.count == 1:
            return False
        if isinstance(e, Call):
            return any(self.varies(a) for a in e.args)
        if isinstance(e, Checked):
            return self.varies(e.index)
        if isinstance(e, Ref):
            return self.scope.varying[e.name]
        if isinstance(e, Load):
            return self.moves(e.at) or any(self.moves(g.index) for g in e.guards)
        if isinstance(e, Position):
            return self.moves(e.at)
        return isinstance(e, Holds) and any(self.moves(g.index) for g in e.guards)

    def moves(self, index: Index) -> bool:
        """Whether lanes have different places."""
        if not any(a == self.lanes.axis or a.number == LANE_AXIS for a in index.axes()):
            return False
        steps = [self._atom_step(atom) for atom, _ in index.terms]
        return any(s is None or s for s in steps)

    def _atom_step(self, atom: Atom) -> int | None:
        """How far a part of an index moves from lane to lane; None where that differs.

        A quotient stays as it is, and a remainder moves on, where groups of lanes begin at
        multiples of their number and the divisor is one.
        """
        counters = Index(((atom, 1),)).axes()
        if not any(a == self.lanes.axis or a.number == LANE_AXIS for a in counters):
            return 0
        if isinstance(atom, Axis):
            return 1
        if isinstance(atom, Part) and self._divides(atom.size) and self._is_aligned(atom.index):
            return int(atom.is_rest)
        return None

    def _divides(self, size: DimLike | None) -> bool:
        """Whether a size is a multiple of the number of lanes."""
        return size is None or (isinstance(size, int) and size % self.lanes.count == 0)

    def _is_aligned(self, index: Index) -> bool:
        """Whether an index is a multiple of the number of lanes, and goes on by 1 from there."""
        if not self.lanes.aligned or not self._divides(index.offset):
            return False
        moving = 0
        for atom, c in index.terms:
            step = self._atom_step(atom)
            if step == 1 and c == 1 and LANE_AXIS not in {a.number for a in index.axes()}:
                moving += 1
            elif step != 0 or not self._divides(c):
                return False
        return moving == 1

    def _is_uniform(self, guard: Guard) -> bool:
        """Whether a condition holds in all lanes of a group or in none."""
        if not self.moves(guard.index):
            return True
        bounds = self._divides(guard.low) and self._divides(guard.high)
        return bounds and self._is_aligned(guard.index)

    # -- types ------------------------------------------------------------------------------------

    def type_of(self, dtype: DType, lanes: int) -> str:
        """The C type of a register."""
        if dtype is bool_:
            return "int" if lanes == 1 else self.prelude.vector(self.mask_type(), lanes)
        return register(dtype) if lanes == 1 else self.prelude.vector(register(dtype), lanes)

    def mask_type(self) -> str:
        return f"i{self.scope.mask_bytes * 8}"

    # -- expressions ------------------------------------------------------------------------------

    def vector(self, e: Expr) -> str:
        """`e` in all lanes, whether it varies or not."""
        text = self.write(e)
        return text if self.varies(e) or self.lanes.count == 1 else self.spread(text, e.dtype)

    def spread(self, text: str, dtype: DType) -> str:
        """A scalar in all lanes."""
        if dtype is bool_:
            kind = self.mask_type()
            return f"{self.prelude.splat(kind, self.lanes.count)}(({kind})-({text}))"
        return f"{self.prelude.splat(register(dtype), self.lanes.count)}({text})"

    def write(self, e: Expr) -> str:
        """`e`: a vector where it varies, else a scalar."""
        lanes = self.lanes.count if self.varies(e) else 1
        if isinstance(e, Const):
            return literal(e.value, e.dtype)
        if isinstance(e, Ref):
            return self._ref(e)
        if isinstance(e, Load):
            return self._load(e, lanes)
        if isinstance(e, Position):
            return self._position(e, lanes)
        if isinstance(e, Holds):
            return self._holds(e, lanes)
        if isinstance(e, Checked):
            return self._checked(e, lanes)
        return self._call(e, lanes)

    def _ref(self, e: Ref) -> str:
        if not self.scope.varying[e.name]:
            return e.name
        text, lane = e.name + self.lanes.suffix, self.lanes.single
        if not lane:
            return text
        return f"({text}[{lane}] != 0)" if e.dtype is bool_ else f"{text}[{lane}]"

    def _limit(self) -> str:
        """The number of lanes that exist."""
        return self.lanes.rest or str(self.lanes.count)

    # -- places -----------------------------------------------------------------------------------

    def index(self, index: Index, lane: str = "") -> str:
        """An index as C, of the group's first lane or of the lane that a variable says."""
        lane = lane or self.lanes.single
        names: dict[Axis, str] = {}
        axis = self.lanes.axis
        if axis is not None:
            parts = [str(axis)]
            parts += [str(self.lanes.offset)] if self.lanes.offset else []
            parts += [lane] if lane else []
            names[axis] = f"({' + '.join(parts)})" if len(parts) > 1 else parts[0]
        local = " + ".join(
            p for p in (str(self.lanes.offset) if self.lanes.offset else "", lane) if p
        )
        for a in index.axes():
            if a.number == LANE_AXIS:
                names[a] = f"({local})" if local else "0"
        return index_text(index, self.scope.sizes, names, lambda t: self._one(t.value, lane))

    def _one(self, e: Expr, lane: str) -> str:
        """`e` for one lane alone."""
        return Writer(self.scope, replace(self.lanes, count=1, single=lane)).write(e)

    def _checked(self, e: Checked, lanes: int) -> str:
        """An index, or the function returns what is wrong with it."""
        if lanes > 1:
            v = self.prelude.vector("i64", lanes)
            loop = self._loop(self._one(e, "l"))
            return f"({{ {v} x_ = {{0}}; {loop} x_; }})"
        size = self.scope.sizes(e.size)
        least = f"-{size}" if e.negative else "0"
        code = self.prelude.index_error(_range_error(e))
        wrong = f"at_ < {least} || at_ {'>' if e.inclusive else '>='} {size}"
        found = f"at_ < 0 ? at_ + {size} : at_" if e.negative else "at_"
        refuse = f"return refuse_index({code}, at_);"
        return f"({{ const i64 at_ = {self.write(e.index)}; if ({wrong}) {refuse} {found}; }})"

    def step(self, index: Index) -> int | str | None:
        """How far a lane moves in memory: a number, C text, or None where it is irregular."""
        total: DimLike = 0
        for atom, c in index.terms:
            step = self._atom_step(atom)
            if step is None:
                return None
            total = total + c * step
        return total if isinstance(total, int) else self.scope.sizes(total)

    def condition(self, guards: tuple[Guard, ...], lane: str = "") -> str:
        """Guards as a C condition on scalars."""
        parts = []
        for g in guards:
            at = self.index(g.index, lane)
            if g.low is not None:
                parts.append(f"{at} >= {self.scope.sizes(g.low)}")
            if g.high is not None:
                parts.append(f"{at} < {self.scope.sizes(g.high)}")
        return " && ".join(parts) or "1"

    def _ends(self, guards: tuple[Guard, ...]) -> tuple[str, str] | None:
        """Conditions that guards hold in all lanes, and that they hold in none.

        The first and the last lane tell, where indices go on by the same from lane to lane: each
        bound then holds up to some lane, or from there on. None where they do not.
        """
        if not all(isinstance(self.step(g.index), int) for g in guards):
            return None
        ends = ("0", f"{self._limit()} - 1")
        every, fails = [], []
        for g in guards:
            at = [self.index(g.index, lane) for lane in (ends if self.moves(g.index) else ends[:1])]
            if g.low is not None:
                low = self.scope.sizes(g.low)
                every += [f"{i} >= {low}" for i in at]
                fails.append(" && ".join(f"{i} < {low}" for i in at))
            if g.high is not None:
                high = self.scope.sizes(g.high)
                every += [f"{i} < {high}" for i in at]
                fails.append(" && ".join(f"{i} >= {high}" for i in at))
        return " && ".join(every) or "1", " || ".join(f"({f})" for f in fails) or "0"

    def _guarded(self, e: Load, kind: str, base: str, lanes: int) -> str:
        """Elements where guards hold, and 0 elsewhere, as memory holds them."""
        v = self.prelude.vector(kind, lanes)
        ends = self._ends(e.guards)
        if ends is None:
            return self._gathered(e, kind, base, lanes)
        every, none = ends
        zero = f"({v}){{0}}"
        if self.step(e.at) != 1:
            return f"(({none}) ? {zero} : {self._gathered(e, kind, base, lanes)})"
        place = f"{base} + {self.index(e.at)}"
        rest = self.lanes.rest
        whole = (
            f"{self.prelude.load_some(kind, lanes)}({place}, {rest})"
            if rest
            else f"{self.prelude.load(kind, lanes)}({place})"
        )
        some = self._one_by_one(e, v, base)
        return f"(({every}) ? {whole} : ({none}) ? {zero} : {some})"

    def _one_by_one(self, e: Load, v: str, base: str) -> str:
        return f"({{ {v} x_ = {{0}}; {self._loop(self._element(e, base, 'l'))} x_; }})"

    def _loop(self, element: str) -> str:
        return f"for (i64 l = 0; l < {self._limit()}; l++) x_[l] = {element};"

    def _element(self, e: Load, base: str, lane: str) -> str:
        found = f"{base}[{self.index(e.at, lane)}]"
        return f"{self.condition(e.guards, lane)} ? {found} : 0" if e.guards else found

    def _load(self, e: Load, lanes: int) -> str:
        """An element, or elements, from memory into a register."""
        kind = memory(e.dtype)
        base = self.scope.buffers[id(e.buffer)]
        if lanes == 1:
            text = f"{base}[{self.index(e.at)}]"
            text = self._loaded(text, e.dtype, 1)
            return f"({self.condition(e.guards)} ? {text} : 0)" if e.guards else text
        uniform = all(map(self._is_uniform, e.guards))
        if uniform and e.guards:  # one test for all lanes
            held = self._load(replace(e, guards=()), lanes)
            zero = self.spread("0", e.dtype)
            return f"({self.condition(e.guards)} ? {held} : {zero})"
        if self.step(e.at) == 1 and uniform:
            place = f"{base} + {self.index(e.at)}"
            if self.lanes.rest:
                text = f"{self.prelude.load_some(kind, lanes)}({place}, {self.lanes.rest})"
            else:
                text = f"{self.prelude.load(kind, lanes)}({place})"
            return self._loaded(text, e.dtype, lanes)
        found = self._guarded if e.guards else self._gathered
        return self._loaded(found(e, kind, base, lanes), e.dtype, lanes)

    def _gathered(self, e: Load, kind: str, base: str, lanes: int) -> str:
        """Elements that are not adjacent, one by one."""
        v = self.prelude.vector(kind, lanes)
        step = self.step(e.at)
        if isinstance(step, int) and not e.guards and not self.lanes.rest:
            row = ", ".join(f"p_[{lane * step}]" for lane in range(lanes))
            start = f"{base} + {self.index(e.at)}"
            return f"({{ const {kind} *const p_ = {start}; ({v}){{{row}}}; }})"
        if not self.lanes.rest and lanes * len(self._element(e, base, "0")) <= _GATHERED:
            # In memory on their way, they would have to wait for each other.
            return f"({v}){{{', '.join(self._element(e, base, str(i)) for i in range(lanes))}}}"
        return self._one_by_one(e, v, base)

    def _loaded(self, text: str, dtype: DType, lanes: int) -> str:
        """What memory holds, as a register."""
        narrow = narrow_name(dtype)
        if narrow is not None:
            return f"{from_narrow(self.prelude, narrow, lanes)}({text})"
        if dtype is bool_ and lanes > 1:
            return f"({convert(self.prelude, text, 'u8', self.mask_type(), lanes)} != 0)"
        return f"({text} != 0)" if dtype is bool_ else text

    def _position(self, e: Position, lanes: int) -> str:
        kind = register(e.dtype)
        if lanes == 1:
            return f"({kind})({self.index(e.at)})"
        v = self.prelude.vector(kind, lanes)
        step = self.step(e.at)
        if isinstance(step, int) and kind[0] != "f" and not self.lanes.rest:
            first = self.spread(f"({kind})({self.index(e.at)})", e.dtype)
            return f"({first} + ({v}){{{', '.join(str(step * i) for i in range(lanes))}}})"
        loop = self._loop(f"({kind})({self.index(e.at, 'l')})")
        return f"({{ {v} x_ = {{0}}; {loop} x_; }})"

    def _holds(self, e: Holds, lanes: int) -> str:
        if lanes == 1:
            return f"({self.condition(e.guards)})"
        kind = self.mask_type()
        v = self.prelude.vector(kind, lanes)
        loop = self._loop(f"-({self.condition(e.guards, 'l')})")
        some = f"({{ {v} x_ = {{0}}; {loop} x_; }})"
        ends = self._ends(e.guards)
        if ends is None:
            return some
        every, none = ends
        splat = self.prelude.splat(kind, lanes)
        return f"(({every}) ? {splat}(({kind})-1) : ({none}) ? ({v}){{0}} : {some})"

    # -- calls ------------------------------------------------------------------------------------

    def _call(self, e: Call, lanes: int) -> str:
        operand = e.args[0].dtype
        args = [self.vector(a) if lanes > 1 else self.write(a) for a in e.args]
        if e.fn == "cast":
            return self._cast(args[0], operand, e.dtype, lanes)
        if e.fn == "where" and lanes > 1 and not self.varies(e.args[0]):
            return f"({self.write(e.args[0])} ? {args[1]} : {args[2]})"
        if e.fn == "where":
            return self._where(args, e.dtype, lanes)
        kind = register(operand)
        if e.fn in _TESTS:
            if operand is bool_:
                return self._test_bools(e.fn, args, lanes)
            text = f"({args[0]} {_TESTS[e.fn]} {args[1]})"
            return self.fit_mask(text, operand, lanes)
        if e.fn in _LOGIC:
            return f"({args[0]} {_LOGIC[e.fn]} {args[1]})"
        if e.fn == "not":
            return f"(!{args[0]})" if lanes == 1 else f"(~{args[0]})"
        return self._number(e, args, kind, lanes)

    def _number(self, e: Call, args: list[str], kind: str, lanes: int) -> str:
        integer = kind[0] != "f"
        if e.fn in _SIGNS:
            text = f"({args[0]} {_SIGNS[e.fn]} {args[1]})"
            return f"(({kind}){text})" if integer and lanes == 1 else text
        if e.fn == "conj":
            return args[0]
        if e.fn in ("neg", "bnot"):
            text = f"({'-' if e.fn == 'neg' else '~'}{args[0]})"
            return f"(({kind}){text})" if integer and lanes == 1 else text
        if e.fn in ("max", "min"):
            other = e.args[1]
            # Of two zeros `bound` takes the other one than NumPy.
            number = isinstance(other, Const) and not (
                isinstance(other.value, float)
                and (math.isnan(other.value) or (other.value == 0 and self.prelude.is_exact))
            )
            if number and not integer:
                return f"{self.prelude.bound(e.fn, kind, lanes)}({args[0]}, {args[1]})"
            return f"{self.prelude.extremum(e.fn, kind, lanes)}({args[0]}, {args[1]})"
        if e.fn == "abs":
            return f"{self.prelude.abs(kind, lanes)}({args[0]})"
        if e.fn in CHECKED:
            return f"{integer_function(self.prelude, e.fn, kind)}({', '.join(args)}, &status)"
        if e.fn == "ipow":
            return f"{integer_function(self.prelude, e.fn, kind)}({', '.join(args)})"
        return f"{self.prelude.math(e.fn, kind, lanes)}({', '.join(args)})"

    def _test_bools(self, fn: str, args: list[str], lanes: int) -> str:
        """Comparisons of bools, false before true."""
        a, b = args
        if lanes == 1:
            return f"({a} {_TESTS[fn]} {b})"
        if fn in ("eq", "ne"):
            return f"({'~' if fn == 'eq' else ''}({a} ^ {b}))"
        # In a vector true is -1: the order is turned round.
        turned = {"lt": ">", "le": ">=", "gt": "<", "ge": "<="}[fn]
        return f"({a} {turned} {b})"

    def fit_mask(self, text: str, operand: DType, lanes: int) -> str:
        """A comparison's result as the kernel's masks are."""
        from .types import register_bytes

        if lanes == 1 or register_bytes(operand) == self.scope.mask_bytes:
            return text
        mask = f"i{8 * register_bytes(operand)}"
        return convert(self.prelude, text, mask, self.mask_type(), lanes)

    def _where(self, args: list[str], dtype: DType, lanes: int) -> str:
        from .types import register_bytes

        cond, a, b = args
        if lanes == 1:
            return f"({cond} ? {a} : {b})"
        if dtype is bool_:
            return f"(({cond} & {a}) | (~{cond} & {b}))"
        size = register_bytes(dtype)
        if size != self.scope.mask_bytes:
            cond = convert(self.prelude, cond, self.mask_type(), f"i{size * 8}", lanes)
        return f"{self.prelude.sel(register(dtype), lanes)}({cond}, {a}, {b})"

    def _cast(self, x: str, old: DType, new: DType, lanes: int) -> str:
        narrow = narrow_name(new)
        if narrow is not None:
            x = self._cast_number(x, old, "f32", lanes)
            return rounded(self.prelude, narrow, lanes, x)
        if new is bool_:
            return self.fit_mask(f"({x} != 0)", old, lanes)
        return self._cast_number(x, old, register(new), lanes)

    def _cast_number(self, x: str, old: DType, new: str, lanes: int) -> str:
        if old is not bool_:
            return convert(self.prelude, x, register(old), new, lanes)
        if lanes == 1:
            return f"({new})({x})"
        return convert(self.prelude, f"-({x})", self.mask_type(), new, lanes)

    # -- stores -----------------------------------------------------------------------------------

    def store(self, base: str, at: Index, e: Expr, *, streamed: bool = False) -> str:
        """A statement that writes `e` to memory, past the caches if `streamed`."""
        dtype = e.dtype
        kind = memory(dtype)
        if self.lanes.count == 1 or not self.moves(at):
            assert self.lanes.count == 1 or not self.varies(e)
            return f"{base}[{self.index(at)}] = {self._stored(self.write(e), dtype, 1)};"
        lanes = self.lanes.count
        text = self._stored(self.vector(e), dtype, lanes)
        if self.step(at) == 1:
            place = f"{base} + {self.index(at)}"
            if self.lanes.rest:
                some = self.prelude.store_some(kind, lanes)
                return f"{some}({place}, {text}, {self.lanes.rest});"
            whole = dtype.itemsize * lanes == self.prelude.vector_bytes
            store = self.prelude.stream if streamed and whole else self.prelude.store
            return f"{store(kind, lanes)}({place}, {text});"
        v = self.prelude.vector(kind, lanes)
        target = self.index(at, "l")
        loop = f"for (i64 l = 0; l < {self._limit()}; l++) {base}[{target}] = x_[l];"
        return f"{{ const {v} x_ = {text}; {loop} }}"

    def store_bools(self, base: str, at: Index, each: Sequence[Expr]) -> str:
        """A statement that writes several bools for each lane, one lane's behind another's."""
        mask, lanes, whole = self.mask_type(), self.lanes.count, f"i{8 * len(each)}"
        splat = self.prelude.splat(mask, lanes)
        bits = (f"({self.vector(e)} & {splat}(INT64_C(1) << {8 * i}))" for i, e in enumerate(each))
        text = convert(self.prelude, f"({' | '.join(bits)})", mask, whole, lanes)
        return (
            f"{self.prelude.store(whole, lanes)}(({whole} *)({base} + {self.index(at)}), {text});"
        )

    def _stored(self, text: str, dtype: DType, lanes: int) -> str:
        """A register as memory holds it."""
        from .convert import to_narrow

        narrow = narrow_name(dtype)
        if narrow is not None:
            return f"{to_narrow(self.prelude, narrow, lanes)}({text})"
        if dtype is bool_ and lanes > 1:
            return convert(self.prelude, f"-({text})", self.mask_type(), "u8", lanes)
        return text

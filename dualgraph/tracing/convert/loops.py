"""``while`` and ``for``: run as Python runs them, recorded as Loop or Scan where that is not known.

A loop that is recorded carries the variables that its body writes to. Which of them change, and of
what types they are, is found by tracing the body until nothing new turns up: a Python number that
changes becomes a number of the graph, one that takes a tensor's place becomes a tensor. A variable
that has no one type is left without a value at the start of each step, and after the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.dtypes import int64
from dualgraph_compiler.types import TensorType

from ..._dispatch import make
from ..._promote import cast
from ..._tensor import Tensor
from ...autograd.grad_mode import no_grad
from ...autograd.inplace import assign
from ...control import scan, while_loop
from .. import tree
from ..body import formal
from ..failure import current_place
from .branches import Block, and_, decide, truth
from .merging import Differ, as_like, as_like_type, blank, same, sketch
from .number import KINDS, Number, constant, kind_of, wrap
from .regions import RaisedInside, Region, innermost, is_traced
from .sequences import Sequence, as_sequence
from .signals import BREAK, CONTINUE, NEXT, RETURN, UNBOUND, Signal, Variables, possible

_REPEATABLE = (range, list, tuple, dict, str, enumerate, zip, reversed, Tensor)


def while_(test: Callable[[], Any], body: Block, cells: Any, orelse: Block | None = None) -> Any:
    """``while test(): body()``, ``else: orelse()``; the signal if control leaves by return."""
    signal: Signal | None = None
    while True:
        going = test()
        if is_traced(going):
            loop = _Loop(cells, signal)
            return _end(loop.run_while(test, body, going), cells, orelse)
        if not going:
            return _end(None, cells, orelse)
        signal = body()
        if signal is not None and not isinstance(signal.kind, int):
            if possible(signal).isdisjoint((BREAK, RETURN)):
                continue
            more = and_(signal.kind < BREAK, lambda: truth(test()))
            loop = _Loop(cells, signal)
            return _end(loop.run_while(test, body, more), cells, orelse)
        if signal is not None and signal.kind >= BREAK:
            return _end(signal, cells, orelse)


def for_(items: Any, body: Any, cells: Any, orelse: Block | None = None) -> Any:
    """``for item in items: body(item)``, ``else: orelse()``; the signal as for `while_`."""
    sequence = items if isinstance(items, Sequence) else as_sequence(items)
    if sequence is not None:
        length = sequence.length()
        if isinstance(length, Dim):
            return _end(_Loop(cells, None).run_scan(sequence, body, length), cells, orelse)
        if isinstance(length, Number):
            return _end(_Loop(cells, None).run_count(sequence, body, length), cells, orelse)
        if isinstance(items, Sequence):
            steps = range(length)
            return for_([_item(sequence, k) for k in steps], body, cells, orelse)
    state: Signal | None = None
    iterator = iter(items)
    for item in iterator:
        if state is None:
            signal = body(item)
        else:  # it may be over: this step happens only if not
            before = state
            going = before.kind < BREAK
            signal = decide(going, lambda: body(item), lambda: before, cells, before.place)  # noqa: B023
        if possible(signal).isdisjoint((BREAK, RETURN)):
            continue
        assert signal is not None
        if isinstance(signal.kind, int):
            return _end(signal, cells, orelse)
        if not isinstance(items, _REPEATABLE):
            raise innermost().failure(
                f"whether the loop over a {type(items).__name__} goes on depends on data, and what "
                "it has taken from it by then cannot be put back"
            )
        state = signal
    return _end(state, cells, orelse)


def _item(sequence: Sequence, k: int) -> Any:
    return sequence.item(iter([t[k] for t in sequence.tensors]), constant(k))


def _end(signal: Signal | None, cells: Any, orelse: Block | None) -> Signal | None:
    """What a loop gives that ended with `signal`: its breaks are its own."""
    ends = possible(signal)
    if ends.isdisjoint((BREAK, RETURN)):
        return None if orelse is None else orelse()
    assert signal is not None
    if isinstance(signal.kind, int):
        return signal if signal.kind == RETURN else None
    returned = Signal(signal.kind, signal.value, (ends - {BREAK}) | {NEXT})
    if orelse is not None:
        jumped = signal.kind >= BREAK
        return decide(jumped, lambda: _without_break(signal), orelse, cells, signal.place)
    if RETURN not in ends:
        return None
    return _without_break(returned)


def _without_break(signal: Signal) -> Signal | None:
    """A signal that says RETURN where `signal` does, and else nothing."""
    if RETURN not in possible(signal):
        return None
    returns = signal.kind == RETURN
    return decide(returns, lambda: Signal(RETURN, signal.value), lambda: None, None, signal.place)


class _Loop:
    """A loop on its way into the graph.

    Its `state` is what the variables that it writes to start from, and then the kind and the value
    of the signal so far, with numbers of the graph and tensors in the places of what changes.
    """

    def __init__(self, cells: Any, signal: Signal | None) -> None:
        self.capture = innermost()
        self.cells = cells
        self.variables = Variables(cells)
        self.place = place = current_place()
        where = f"`{place.expression}` on line {place.line}" if place is not None else "a test"
        self.what = f"the loop over {where}"
        self.capture.root.note_branch(place)
        held = self.variables.load()
        for name, x in zip(self.variables.names, held, strict=True):
            if x is UNBOUND:
                self.unset(name, "gives it a value, but may take no step")
        kind = NEXT if signal is None else signal.kind
        value = signal.value if RETURN in possible(signal) else UNBOUND  # type: ignore[union-attr]
        self.state: list[Any] = [*held, kind, value]
        self.possible = possible(signal) - {CONTINUE}
        self.again: Any = True
        self.signal: Signal | None = None  # of the step that was traced last
        self.k: Any = None
        # The places of leaves that steps write to in place.
        self.written: set[int] = set()
        # Tensors that steps write to in place without any variable of the loop holding them.
        self.filled: list[Tensor] = []
        self._outside: list[tuple[Any, Any]] = []

    def unset(self, name: str, why: str) -> None:
        """Leave a variable without a value, and say why should anybody ask."""
        self.capture.root.unset[name] = f"{self.what} {why}: {name!r}"

    # -- the three kinds --------------------------------------------------------------------------

    def run_while(self, test: Callable[[], Any], body: Block, going: Any) -> Signal | None:
        """A loop that tests before every step; `going` is the outcome of the first test."""

        def step(_: Any) -> Signal | None:
            signal = body()
            self.again = self.going(signal, lambda: truth(test()))
            return signal

        return self.repeat(step, going)

    def run_count(self, sequence: Sequence, body: Any, count: Number) -> Signal | None:
        """A loop of a number of steps that only the graph knows."""
        if sequence.tensors:
            raise self.capture.failure(f"{self.what} takes slices by a number that data decide")

        def step(_: Any) -> Signal | None:
            signal: Signal | None = body(sequence.item(iter(()), self.k))
            self.again = self.going(signal, lambda: self.k + 1 < count)
            return signal

        return self.repeat(step, count > 0)

    def repeat(self, step: Any, going: Any) -> Signal | None:
        """A Loop of steps, each of which says whether to go on."""
        if not is_traced(going):
            if not going:
                return self.finish([t for _, t in self.leaves()])
            going = constant(True)
        self.settle(step, [])
        first = [going]

        def cond(*carried: Any) -> Any:
            return first.pop() if first else self.again

        def body(number: Any, *carried: Any) -> Any:
            try:
                self.load(wrap(number), carried)
                step(())
                return (self.k + 1, *self.stored())
            finally:
                self.unload()

        made = while_loop(cond, body, (constant(0), *(t for _, t in self.leaves())))
        if any(t.requires_grad for t in made):
            self.capture.root.refuse_gradient(
                f"{self.what} takes as many steps as data decide: its gradient is not defined in a "
                "graph"
            )
        return self.finish(list(made[1:]))

    def run_scan(self, sequence: Sequence, body: Any, length: Dim) -> Signal | None:
        """A Scan of as many steps as a size that is not known yet."""
        from ...functions import arange

        def step(slices: Any) -> Signal | None:
            item = sequence.item(iter(slices), self.k)
            kind, value = self.now
            if isinstance(kind, int):
                return body(item)  # type: ignore[no-any-return]
            before = Signal(kind, value, self.possible)  # an earlier step may have ended it
            return decide(kind < BREAK, lambda: body(item), lambda: before, self.cells, self.place)

        self.settle(step, sequence.tensors)

        def one(carried: Any, slices: Any) -> Any:
            try:
                self.load(wrap(slices[0]), carried)
                self.signal = step(slices[1:])
                return self.stored(), None
            finally:
                self.unload()

        initial = [t for _, t in self.leaves()]
        last, _ = scan(one, tuple(initial), [arange(0, length), *sequence.tensors])
        return self.finish(list(last))

    def going(self, signal: Signal | None, test: Callable[[], Any]) -> Any:
        """Whether there is another step, after one that gave `signal`."""
        self.signal = signal
        if possible(signal).isdisjoint((BREAK, RETURN)):
            return test()
        assert signal is not None
        if isinstance(signal.kind, int):
            return False
        made = decide(
            signal.kind < BREAK,
            lambda: Signal(RETURN, test()),
            lambda: Signal(RETURN, False),
            self.cells,
            self.place,
        )
        assert made is not None
        return made.value

    # -- the state --------------------------------------------------------------------------------

    def leaves(self) -> list[tuple[int, Tensor]]:
        """The tensors of the state, with the numbers of what they are part of; those filled."""
        own = [
            (i, leaf)
            for i, x in enumerate(self.state)
            for _, leaf in tree.flatten(x)
            if isinstance(leaf, Tensor)
        ]
        return [*own, *((-1, t) for t in self.filled)]

    def load(self, k: Number, carried: Any) -> None:
        """Begin step `k` with these tensors in the places of the state's."""
        self.k = k
        given = iter(carried)
        values = [_replaced(x, given) for x in self.state]
        self.variables.store(values[:-2])
        self.now = values[-2:]
        self.signal = None
        self.begun = values
        self._outside = [(t._data, t._fn) for t in self.filled]
        for t, inside in zip(self.filled, given, strict=True):
            t._data, t._fn = inside._data, inside._fn
            t._ver[0] += 1  # views of it are made again

    def unload(self) -> list[Tensor]:
        """Let the tensors filled be those outside again; what a step left in them."""
        found = [make(t._data, t._fn) for t in self.filled]
        for t, (value, fn) in zip(self.filled, self._outside, strict=False):
            t._data, t._fn = value, fn
            t._ver[0] += 1
        self._outside = []
        return found

    def ended(self) -> list[Any]:
        """The state at the end of a step."""
        ends, signal = possible(self.signal), self.signal
        self.possible |= ends - {CONTINUE}
        kind, value = self.now
        if ends.isdisjoint((BREAK, RETURN)):
            kind = kind if isinstance(kind, int) else constant(NEXT)
        else:
            assert signal is not None
            kind = signal.kind
            value = signal.value if RETURN in ends else value
        return [*self.variables.load(), kind, value]

    def stored(self) -> tuple[Tensor, ...]:
        """The tensors that the next step begins with."""
        out: list[Tensor] = []
        for x, new in zip(self.state, self.ended(), strict=True):
            if x is UNBOUND:
                continue
            pairs = zip(tree.flatten(x), tree.flatten(new), strict=True)
            for (_, old), (_, leaf) in pairs:
                if isinstance(old, Tensor):
                    out.append(_as(leaf, old))
        return (*out, *self.unload())

    def finish(self, results: list[Tensor]) -> Signal | None:
        """Give the variables what the loop left in them; its signal."""
        n = len(self.leaves())
        for place in sorted(self.written | {*range(n - len(self.filled), n)}):
            start = self.leaves()[place][1]
            if start.requires_grad or results[place].requires_grad:
                assign(start, results[place])
            else:
                with no_grad():
                    assign(start, results[place].detach())
            results[place] = start
        for (_, start), t in zip(self.leaves(), results, strict=False):
            if t is not start and type(start) is not Number:
                self.capture.entangle(start, t)  # they are one if no step is taken
        given = iter(results)
        *values, kind, value = [_replaced(x, given) for x in self.state]
        self.variables.store(values)
        if self.possible.isdisjoint((BREAK, RETURN)):
            return None
        return Signal(kind, None if value is UNBOUND else value, self.possible, self.place)

    # -- finding what changes ---------------------------------------------------------------------

    def settle(self, step: Any, sliced: list[Tensor]) -> None:
        """Trace steps until it is known what is carried, and as what."""
        before = self.variables.load()
        changed = True
        while changed:
            region = Region(self.capture, "body")
            k = wrap(formal(region, TensorType(int64, ())))
            own = [formal(region, t._type(), t) for _, t in self.leaves()]
            inputs = [t._data for t in own]
            rows = [formal(region, TensorType(x.dtype, tuple(x.shape[1:])), x) for x in sliced]
            self.load(k, own)

            def once(rows: Any = rows) -> Any:
                self.signal = step(rows)
                return self.ended()

            try:
                after = region.record(once)
            except RaisedInside as raised:
                error = raised.error
                raise self.capture.failure(
                    f"a step of {self.what} raises {type(error).__name__}: {error}"
                ) from error
            finally:
                self.unload()
                self.variables.store(before)
            with region:
                changed = self.adapt(after)
            if not changed and region.rebound:
                self.filled += [t for t, _ in region.rebound.values()]
                changed = True
            if not changed:
                self.find_written(region, inputs, after)

    def adapt(self, after: list[Any]) -> bool:
        """Change the state where a step changed more than was known; whether it did."""
        changed = False
        names = [*self.variables.names, "kind", "value"]
        for i, (start, begun, new) in enumerate(zip(self.state, self.begun, after, strict=True)):
            last = i == len(self.state) - 1
            if start is UNBOUND and not (last and new is not UNBOUND):
                continue
            if new is begun:
                continue
            try:
                with self.capture:
                    adapted = blank(new) if start is UNBOUND else _joined(start, begun, new)
            except Differ as error:
                if i >= len(self.variables.names):
                    raise self.capture.failure(f"{self.what} returns {error}") from None
                self.unset(names[i], f"gives it {error}")
                adapted = UNBOUND
            if adapted is not start:
                self.state[i] = adapted
                changed = True
        return changed

    def find_written(self, region: Region, inputs: list[Any], after: list[Any]) -> None:
        """Note which tensors of the state a step overwrites in place.

        Raises:
            CaptureFailure: other variables show the same memory.
        """
        begun, ends = [], []
        for x, end in zip(self.begun, after, strict=True):
            if x is not UNBOUND:
                for (_, t), (_, e) in zip(tree.flatten(x), tree.flatten(end), strict=True):
                    if isinstance(t, Tensor):
                        begun.append(t)
                        ends.append(e)
        starts = [t for _, t in self.leaves()]
        for i, (t, value) in enumerate(zip(begun, inputs, strict=False)):
            if t._data is value:
                continue
            cell = starts[i]._ver
            others = [s for j, s in enumerate(starts) if j != i] + [
                c for c, _, _ in region.captured.values()
            ]
            if t is not ends[i] or any(o._ver is cell for o in others):
                raise self.capture.failure(
                    f"{self.what} changes a tensor in place that other variables hold, too"
                )
            self.written.add(i)


def _replaced(x: Any, given: Any) -> Any:
    """A structure with the next tensors of `given` for those in it; itself where it has none."""
    if not any(isinstance(leaf, Tensor) for _, leaf in tree.flatten(x)):
        return x

    def leaf(old: Any) -> Any:
        if not isinstance(old, Tensor):
            return old
        new = next(given)
        return wrap(new) if type(old) is Number and type(new) is not Number else new

    return tree.map_leaves(leaf, x)


def _as(leaf: Any, old: Tensor) -> Tensor:
    """What a step gives as a tensor of the type of `old`."""
    if type(old) is Number:
        return cast(leaf, old.dtype) if type(leaf) is Number else constant(leaf, old.kind)
    return as_like(leaf, old._type())


def _joined(start: Any, begun: Any, new: Any) -> Any:
    """A start that holds what a step makes of it.

    Raises:
        Differ: there is none.
    """
    if tree.structure(start) != tree.structure(new):
        raise Differ(f"{sketch(start)} and then {sketch(new)}")
    leaves = zip(*([x for _, x in tree.flatten(part)] for part in (start, begun, new)), strict=True)
    made = [_joined_leaf(*three) for three in leaves]
    if all(a is b for a, (_, b) in zip(made, tree.flatten(start), strict=True)):
        return start
    found = iter(made)
    return tree.map_leaves(lambda _: next(found), start)


def _joined_leaf(start: Any, begun: Any, new: Any) -> Any:
    if new is begun or same(start, new):
        return start
    differ = Differ(f"{sketch(start)} and then {sketch(new)}")
    one, other = kind_of(start), kind_of(new)
    if one is not None and other is not None:
        if one is not other and bool in (one, other):
            raise differ
        kind = one if one is other else float
        if type(start) is Number:
            return start if start.kind is kind else wrap(cast(start, KINDS[kind]))
        return constant(start, kind)
    if isinstance(start, Tensor) and one is None:
        if as_like_type(new, start._type()) != start._type():
            raise differ
        return start
    if one is not None and isinstance(new, Tensor):
        return as_like(start, new._type())
    raise differ

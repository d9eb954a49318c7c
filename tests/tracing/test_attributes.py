"""Python data that a compiled call changes: the same after every call as after an eager one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph_compiler.errors import TraceError

COUNT = 0


class Pair(NamedTuple):
    a: Any
    b: Any


class Holder:
    """What a function reads and writes."""

    def __init__(self) -> None:
        self.state: Any = None
        self.other: Any = dg.ones(2)
        self.count = 0
        self.first = True
        self.history: list[Any] = []
        self.table: dict[str, Any] = {}
        self.recent: deque[Any] = deque(maxlen=2)
        self.window = [dg.zeros(2), dg.ones(2)]
        self.pair = Pair(dg.zeros(2), [dg.ones(2)])
        self.seen = 0


def running_sum(h: Holder, x: Any) -> Any:
    h.state = x if h.state is None else h.state + x
    return h.state * 2


def calls_counted(h: Holder, x: Any) -> Any:
    h.count += 1
    return x + 1


def samples_counted(h: Holder, x: Any) -> Any:
    h.seen += x.shape[0]
    return x + 1


def first_call_differs(h: Holder, x: Any) -> Any:
    if h.first:
        h.first = False
        return x * 100
    return x


def appended(h: Holder, x: Any) -> Any:
    h.history.append(x * 2)
    return x


def kept_by_name(h: Holder, x: Any) -> Any:
    h.table["last"] = x * 3
    return h.table["last"] + 1


def most_recent(h: Holder, x: Any) -> Any:
    h.recent.append(x * 2)
    return sum(h.recent, x)


def rolling_window(h: Holder, x: Any) -> Any:
    h.window = [*h.window[1:], x]
    return h.window[0] + h.window[1]


def elements_replaced(h: Holder, x: Any) -> Any:
    for i in range(2):
        h.window[i] = h.window[i] + x
    return h.window[0] * h.window[1]


def named_tuple(h: Holder, x: Any) -> Any:
    h.pair = Pair(h.pair.a + x, [h.pair.b[0] * 2])
    return h.pair.a * h.pair.b[0]


def swapped(h: Holder, x: Any) -> Any:
    h.state, h.other = h.other, x * 1
    return h.state + h.other


def the_argument_itself(h: Holder, x: Any) -> Any:
    h.state = x
    return h.state + 0


# Graphs that the calls need: where Python decides by what is there, one for each way.
FUNCTIONS: dict[Callable[[Holder, Any], Any], int] = {
    running_sum: 2,
    calls_counted: 1,
    samples_counted: 1,
    first_call_differs: 2,
    appended: 1,
    kept_by_name: 2,
    rolling_window: 1,
    elements_replaced: 1,
    named_tuple: 1,
    swapped: 2,
    the_argument_itself: 2,
}


def plain(x: Any) -> Any:
    if isinstance(x, dg.Tensor):
        assert not x.is_symbolic
        return x.tolist()
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    return [plain(v) for v in x] if isinstance(x, list | tuple | deque) else x


@pytest.mark.parametrize("function", [*FUNCTIONS, most_recent], ids=lambda f: f.__name__)
def test_eager_and_compiled_agree(function: Callable[[Holder, Any], Any]) -> None:
    one, two = Holder(), Holder()
    fast = dg.compile(lambda x: function(two, x))
    for i in range(6):
        x = dg.full((2,), float(i))
        with dg.no_grad():
            assert plain(fast(x)) == plain(function(one, x))
        assert plain(vars(two)) == plain(vars(one))
    if function in FUNCTIONS:
        assert len(fast.graphs) == FUNCTIONS[function]


def test_the_result_and_the_attribute_are_one_tensor() -> None:
    h = Holder()
    fast = dg.compile(lambda x: running_state(h, x))
    y = fast(dg.ones(2))
    assert y is h.state
    z = fast(dg.ones(2))
    assert z is h.state
    assert y.tolist() == [1, 1]  # not overwritten


def running_state(h: Holder, x: Any) -> Any:
    h.state = x * 1 if h.state is None else h.state + x
    return h.state


def test_a_stream_in_a_module_is_one_graph() -> None:
    class Stream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(3, 4)
            self.h = dg.zeros(1, 4)

        def forward(self, x: Any) -> Any:
            self.h = self.cell(x, self.h)
            return self.h

    one, two = Stream().eval(), Stream().eval()
    two.load_state_dict(one.state_dict())
    fast = dg.compile(two)
    with dg.no_grad():
        for _ in range(4):
            x = dg.randn(1, 3)
            np.testing.assert_allclose(fast(x).numpy(), one(x).numpy(), rtol=1e-5, atol=1e-6)
        assert len(fast.graphs) == 1
        one.h, two.h = dg.zeros(2, 4), dg.zeros(2, 4)  # another batch
        for _ in range(3):
            x = dg.randn(2, 3)
            np.testing.assert_allclose(fast(x).numpy(), one(x).numpy(), rtol=1e-5, atol=1e-6)
    assert len(fast.graphs) == 2


def test_buffers_that_are_assigned() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", dg.zeros(2))

        def forward(self, x: Any) -> Any:
            self.mean = self.mean * 0.5 + x
            return x - self.mean

    one, two = Mean(), Mean()
    fast = dg.compile(two)
    for i in range(4):
        x = dg.full((2,), float(i))
        assert fast(x).tolist() == one(x).tolist()
        assert two.mean.tolist() == one.mean.tolist()
        assert "mean" in dict(two.named_buffers())


def test_globals_and_variables_of_closures() -> None:
    global COUNT
    COUNT = 0
    total = dg.zeros(2)
    calls = 0

    @dg.compile
    def f(x: Any) -> Any:
        global COUNT
        nonlocal total, calls
        COUNT += 1
        calls += 2
        total = total + x
        return total * 1

    for i in range(1, 4):
        assert f(dg.ones(2)).tolist() == [i, i]
        assert (COUNT, calls, total.tolist()) == (i, 2 * i, [i, i])
    assert len(f.graphs) == 1


def test_gradients_reach_what_was_assigned() -> None:
    w = dg.ones(2, requires_grad=True)
    h = Holder()

    @dg.compile
    def f(x: Any) -> Any:
        h.state = x * w
        return x.sum()

    f(dg.full((2,), 3.0))
    h.state.sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [3, 3]


def test_objects_that_hide_tensors_are_left_to_eager_code() -> None:
    class Box:
        def __init__(self, x: Any) -> None:
            self.x = x

    h = Holder()

    def f(x: Any) -> Any:
        h.state = Box(x * 2)
        return x

    with pytest.warns(UserWarning, match="holds tensors computed"):
        dg.compile(f)(dg.ones(2))
    assert h.state.x.tolist() == [2, 2]
    with pytest.raises(TraceError, match=r"h\.state is given a Box"):
        dg.compile(f, fullgraph=True)(dg.ones(2))


def test_a_call_that_fails_changes_nothing() -> None:
    h = Holder()

    @dg.compile
    def f(x: Any, i: Any) -> Any:
        h.count += 1
        h.history.append(x)
        return x[i]

    f(dg.ones(3), dg.tensor(2))
    with pytest.raises(IndexError):
        f(dg.ones(3), dg.tensor(7))
    assert (h.count, len(h.history)) == (1, 1)


def test_tracing_alone_changes_nothing() -> None:
    h = Holder()

    def f(x: Any) -> Any:
        h.state = x
        h.history.append(x)
        return x + 1

    dg.trace(f, dg.ones(2))
    assert h.state is None
    assert h.history == []

"""Calls that the launcher answers by itself: the results, and everything that must stop it."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn
from dualgraph.tracing.arguments import taken_apart
from dualgraph_compiler.errors import AutogradError
from dualgraph_runtime.native import find_compiler
from dualgraph_runtime.native.launcher import extension


def _has_launcher() -> bool:
    compiler = find_compiler()
    return compiler is not None and extension(compiler) is not None


pytestmark = pytest.mark.skipif(not _has_launcher(), reason="needs a C compiler")


def compiled(function: Any, *args: Any) -> Any:
    """`function` compiled, and called until calls are answered without Python code."""
    fast = dg.compile(function, execution="native")
    for _ in range(3):
        fast(*args)
    assert fast._shortcuts
    return fast


def shortcut_hits(fast: Any) -> int:
    return sum(s.hits for s in fast._shortcuts)


def is_answered(fast: Any, *args: Any) -> bool:
    """Whether one more call is answered without Python code."""
    before = shortcut_hits(fast)
    fast(*args)
    return shortcut_hits(fast) == before + 1


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by an item with each call that goes the general way."""
    calls: list[int] = []

    def counted(*args: Any) -> Any:
        calls.append(1)
        return taken_apart(*args)

    monkeypatch.setattr("dualgraph.tracing.compiled.taken_apart", counted)
    return calls


def test_results_are_tensors_of_their_own() -> None:
    x, y = dg.tensor([1.0, 2.0]), dg.tensor([3.0, 5.0])
    fast = compiled(lambda x, y: (x + y, x * y), x, y)
    first, product = fast(x, y)
    first += 100
    second, _ = fast(x, y)
    assert second.tolist() == [4.0, 7.0]
    assert first.tolist() == [104.0, 107.0]
    assert product.tolist() == [3.0, 10.0]
    assert (second._version, second.requires_grad, second.grad_fn) == (0, False, None)
    second.label = "mine"  # what is kept for later calls is arrays, not tensors
    kept = weakref.ref(second)
    del second
    assert kept() is None
    assert not hasattr(fast(x, y)[0], "label")


def test_calls_are_counted() -> None:
    x = dg.ones(3)
    fast = dg.compile(lambda x: x * 2, execution="native")
    for _ in range(7):
        fast(x)
    assert shortcut_hits(fast) > 0
    assert "7 calls" in str(fast.report())


def test_views_of_memory_that_was_handed_out() -> None:
    """NumPy may write to it, which is read; what has produced a view does not depend on that."""
    base = dg.arange(6.0)
    fast = compiled(lambda x: x * 2, base[:3])
    array = base.numpy()  # from which on state may change unseen, so what holds is found anew
    view = base[1:4]
    fast(view)
    assert is_answered(fast, view)
    array[:] = 7
    assert is_answered(fast, view)
    assert fast(view).tolist() == [14.0] * 3
    grown = dg.ones(3, requires_grad=True)
    base[:3] = grown  # the view is computed from now on
    before = shortcut_hits(fast)
    assert fast(view).requires_grad
    assert shortcut_hits(fast) == before


@pytest.mark.parametrize(
    "other",
    [
        lambda: dg.ones(4),
        lambda: dg.ones(2, 3),
        lambda: dg.ones(3, dtype=dg.float64),
        lambda: dg.ones(6)[::2],
        lambda: dg.ones(3, requires_grad=True),
        lambda: nn.Parameter(dg.ones(3)),
        lambda: dg.ones(3, requires_grad=True) * 1,
        lambda: 2.0,
    ],
)
def test_another_kind_of_argument_is_noticed(other: Callable[[], Any]) -> None:
    x = dg.tensor([1.0, 2.0, 4.0])
    fast = compiled(lambda x, y: x.sum() + y, x, dg.zeros(3))
    y = other()
    before = shortcut_hits(fast)
    got, wanted = fast(x, y), x.sum() + y
    assert shortcut_hits(fast) == before
    np.testing.assert_array_equal(got.detach().numpy(), wanted.detach().numpy())
    assert (got.dtype, got.requires_grad) == (wanted.dtype, wanted.requires_grad)


def test_one_tensor_for_two_is_noticed() -> None:
    x, y = dg.tensor([1.0]), dg.tensor([2.0])
    fast = compiled(lambda x, y: x * y, x, y)
    assert not is_answered(fast, x, x)
    assert fast(x, x).tolist() == [1.0]


def test_views_are_taken_as_long_as_they_are_current() -> None:
    rows = dg.arange(6.0).reshape(3, 2)
    fast = compiled(lambda x: x * 2, rows[0])
    assert is_answered(fast, rows[1])
    assert fast(rows[2]).tolist() == [8.0, 10.0]
    shown = rows[1]
    rows += dg.tensor([1.0, 1.0], requires_grad=True)  # now `shown` is on the tape
    assert not is_answered(fast, shown)
    assert fast(shown).requires_grad


def test_kinds_of_calls_take_turns() -> None:
    x, y = dg.ones(2), dg.ones(3)
    fast = dg.compile(lambda x, n: x * n, execution="native", dynamic=False)
    for _ in range(4):
        for t, n in ((x, 2), (y, 2), (x, 3)):
            assert fast(t, n).tolist() == (t * n).tolist()
    assert is_answered(fast, x, 2)
    assert is_answered(fast, y, 2)
    assert is_answered(fast, x, 3)


def test_grad_mode_and_captures_are_noticed() -> None:
    x = dg.tensor([3.0], requires_grad=True)
    fast = compiled(lambda x: x * x, x)
    with dg.no_grad():
        assert not is_answered(fast, x)
        assert not fast(x).requires_grad
    assert is_answered(fast, x)
    before = shortcut_hits(fast)
    assert [node.op.name for node in dg.trace(lambda x: fast(x), x).nodes] == ["mul"]
    assert shortcut_hits(fast) == before
    off = dg.compiler.disable(lambda: is_answered(fast, x))
    assert not off()


def test_settings_are_those_of_the_thread() -> None:
    x = dg.tensor([3.0], requires_grad=True)
    fast = compiled(lambda x: x * x, x)
    found: list[Any] = []

    def work() -> None:
        found.append(fast(x).requires_grad)
        with dg.no_grad():
            found.append(fast(x).requires_grad)
            at_work.set()
            done.wait(60)

    at_work, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    assert at_work.wait(60)
    found.append(fast(x).requires_grad)
    done.set()
    thread.join()
    assert found == [True, False, True]


def test_state_that_changes_is_noticed() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    x = dg.ones(1, 2)

    def same() -> bool:
        with dg.no_grad():
            return bool(np.allclose(fast(x).numpy(), model(x).numpy(), atol=1e-6))

    with dg.no_grad():
        fast = compiled(model, x)
        assert is_answered(fast, x)
        model[0].weight.add_(1)
        assert same()
        model[1].running_mean.fill_(7)
        assert same()
        model[0].weight = nn.Parameter(dg.full((2, 2), 3.0))
        assert same()
        model[0].bias.data = dg.full((2,), 9.0)
        assert same()
        model[0].weight.detach().numpy()[0] = 100.0
        assert same()
        model[1] = nn.Identity()
        assert same()
        assert same()


def test_python_data_is_looked_at_each_time() -> None:
    settings = {"factor": 2.0}
    x = dg.ones(2)
    fast = compiled(lambda x: x * settings["factor"], x)
    assert is_answered(fast, x)
    settings["factor"] = 5.0
    assert fast(x).tolist() == [5.0, 5.0]


def test_gradients_flow_through_answered_calls() -> None:
    model = nn.Linear(3, 2)
    x = dg.randn(4, 3)
    fast = compiled(model, x)
    assert is_answered(fast, x)
    for t in model.parameters():
        t.grad = None
    (fast(x) ** 2).sum().backward()
    got = [t.grad.numpy().copy() for t in model.parameters()]
    for t in model.parameters():
        t.grad = None
    (model(x) ** 2).sum().backward()
    for g, t in zip(got, model.parameters()):
        np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-5)
    y = fast(x)
    with dg.no_grad():
        model.weight.add_(1)
    x.add_(1)
    with pytest.raises(AutogradError, match="modified by an inplace operation"):
        y.sum().backward()


def with_gradients(x: dg.Tensor) -> Any:
    """A result whose gradient has been taken already, and that gradient."""
    y = (x * x).sum()
    return y, *dg.autograd.grad(y, [x])


def test_results_differentiated_inside_have_entries_of_their_own() -> None:
    x = dg.tensor([1.0, 2.0], requires_grad=True)
    fast = compiled(with_gradients, x)
    kept = [fast(x)[0] for _ in range(3)]
    assert len({id(y.grad_fn.node if hasattr(y.grad_fn, "node") else y.grad_fn) for y in kept}) == 3
    met: list[float] = []
    kept[0].register_hook(lambda g: met.append(float(g)))
    for y in (kept[1], fast(x)[0]):
        with pytest.raises(AutogradError, match="second time"):
            y.backward()
    assert met == []
    with pytest.raises(AutogradError, match="second time"):
        kept[0].backward()
    assert met == [1.0]
    entry = weakref.ref(fast(x)[0].grad_fn)
    again = fast(x)[0].grad_fn
    assert entry() is None or entry() is not again
    later = dg.tensor([1.0], requires_grad=True)
    assert fast(x)[0].grad_fn.seq > later._fn.seq


def test_failing_runs_raise() -> None:
    x, i = dg.tensor([1.0, 2.0]), dg.tensor([1])
    fast = compiled(lambda x, i: x[i], x, i)
    i[0] = 5
    with pytest.raises(IndexError):
        fast(x, i)


def test_a_function_that_holds_itself_goes() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fast = dg.compile(self.double, execution="native")

        def double(self, x: dg.Tensor) -> dg.Tensor:
            return x * 2

    x = dg.ones(2)
    holder = Holder()
    for _ in range(4):
        holder.fast(x)
    assert holder.fast._shortcuts
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None


def test_several_threads_at_once() -> None:
    x = dg.randn(300, 300)  # long enough for the GIL to be released
    fast = compiled(lambda x, n: (x @ x) * n, x, 1.0)
    wanted = fast(x, 1.0).numpy().copy()
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(30):
            if not np.array_equal(fast(x, 1.0).numpy(), wanted):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_methods_and_keywords() -> None:
    class Scaled:
        factor = 3.0

        @dg.compile
        def scale(self, x: dg.Tensor) -> dg.Tensor:
            return x * self.factor

    fast = compiled(lambda x: x * 2, dg.ones(2))
    assert fast(x=dg.ones(2)).tolist() == [2.0, 2.0]
    with pytest.raises(TypeError):
        fast()
    with pytest.raises(TypeError):
        fast(dg.ones(2), dg.ones(2))
    assert Scaled().scale(dg.ones(1)).tolist() == [3.0]


def decode(x: dg.Tensor, past: list[tuple[dg.Tensor, dg.Tensor]]) -> Any:
    """A step that appends to what it is given."""
    new = [(dg.cat([a, x]), dg.cat([b, x * 2])) for a, b in past]
    return {"sum": sum(a.sum() + b.sum() for a, b in new), "past": new, "done": None}


def test_nested_arguments_and_results_of_growing_sizes(general: list[int]) -> None:
    fast = dg.compile(decode, execution="native")
    x = dg.tensor([[1.0, 2.0]])
    runs: list[Any] = [[(dg.zeros(1, 2), dg.ones(1, 2)) for _ in range(2)] for _ in range(2)]
    for _ in range(40):
        found = [f(x, past) for f, past in zip((decode, fast), runs, strict=True)]
        assert [list(f) for f in found] == [["sum", "past", "done"]] * 2
        assert found[0]["sum"].item() == found[1]["sum"].item()
        runs = [f["past"] for f in found]
    assert len(general) < 20
    assert type(runs[1]) is list
    assert type(runs[1][0]) is tuple
    for a, b in zip(*([t for pair in run for t in pair] for run in runs), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_other_structures_are_noticed() -> None:
    a, b = dg.tensor([1.0]), dg.tensor([2.0])
    fast = compiled(lambda xs: sum(xs), [a, b])
    assert is_answered(fast, [b, a])
    for other in ((a, b), [a], [a, b, a], [a, a], [a, 3.0]):
        before = shortcut_hits(fast)
        assert fast(other).tolist() == sum(other).tolist()
        assert shortcut_hits(fast) == before
        fast(other)
    items = [a, b]
    pairs = compiled(lambda x, y: (x[0] + y[1], x[1] * y[0]), items, [a + 1, b + 1])
    assert not is_answered(pairs, items, items)


def test_sizes_that_code_asked_about_are_looked_at() -> None:
    fast = dg.compile(lambda x: x * 2 if x.shape[0] > 4 else x * 3, execution="native")
    for n in (3, 2, 7, 6, 3, 8, 1, 9, 4, 5):
        for _ in range(2):
            assert fast(dg.ones(n)).tolist() == [2.0 if n > 4 else 3.0] * n


def test_more_room_is_used_when_it_is_there(general: list[int]) -> None:
    fast = dg.compile(lambda x: F.softmax(x.cumsum(0), dim=0) @ x.T, execution="native")
    for n in range(1, 120):
        x = dg.ones(n, 3)
        assert fast(x).shape == (n, n)
    assert len(general) < 40
    assert is_answered(fast, dg.ones(20, 3))

"""What calls share a graph, sizes that vary, and the bound on graphs."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph.tracing import EagerFallbackWarning
from dualgraph_compiler.errors import ArgumentError, TraceError
from dualgraph_models import resnet


def test_a_size_that_varies_becomes_a_symbol() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    fast = dg.compile(model)
    for n in (2, 5, 1, 0, 7):
        x = dg.randn(n, 3)
        np.testing.assert_allclose(
            fast(x).detach().numpy(), model(x).detach().numpy(), rtol=1e-5, atol=1e-6
        )
    assert len(fast.graphs) == 2
    assert str(fast.graphs[1].inputs[0].type) == "f32[s_input_0, 3]"


def test_dynamic_false_and_true() -> None:
    for dynamic, count in ((False, 3), (True, 1)):
        fast = dg.compile(lambda x: x * 2, dynamic=dynamic)
        for n in (1, 0, 4):
            assert fast(dg.ones(n)).tolist() == [2.0] * n
        assert len(fast.graphs) == count


def test_sizes_that_were_equal_have_one_name() -> None:
    fast = dg.compile(lambda x, y: x + y)
    for n in (2, 3, 4):
        fast(dg.ones(n), dg.ones(n))
    assert len(fast.graphs) == 2
    x, y = fast.graphs[1].inputs
    assert x.type.shape == y.type.shape
    assert fast(dg.ones(5), dg.ones(1)).tolist() == [2.0] * 5  # broadcast, after all
    assert fast(dg.ones(2, 2)[0], dg.ones(2)).tolist() == [2.0] * 2


def test_sizes_that_were_equal_by_chance_part() -> None:
    fast = dg.compile(lambda x, y: (x * 2, y.sum()))
    for n, m in ((2, 2), (3, 3), (4, 5), (6, 7)):
        a, b = fast(dg.ones(n), dg.ones(m))
        assert (a.tolist(), b.item()) == ([2.0] * n, m)
    assert len(fast.graphs) == 3


@pytest.mark.parametrize("dynamic", [True, None])
@pytest.mark.parametrize("order", [(7, 9, 2, 5, 0, 3), (2, 7, 9, 0, 4)])
def test_sizes_that_a_graph_is_not_right_for_have_graphs_of_their_own(
    dynamic: bool | None, order: tuple[int, ...]
) -> None:
    def f(x: Any) -> Any:
        return x[: x.shape[0] - 3] * 2  # the graph's slice counts from the start

    fast = dg.compile(f, dynamic=dynamic)
    for n in order:
        x = dg.arange(n).float()
        for grad in (False, True):
            x.requires_grad_(grad)
            assert fast(x).tolist() == f(x).tolist()
        fast(x).sum().backward()
        assert x.grad.tolist() == [2.0 if i < len(range(n)[: n - 3]) else 0.0 for i in range(n)]
    big = [g for g in fast.graphs if g.assumptions]
    assert len(big) == 2  # one without gradients, one with, for all sizes that it is right for


def test_declared_sizes_that_the_graph_is_not_right_for_run_eagerly() -> None:
    rows = dg.Dim("rows")
    for spec, step in (({"x": {0: "n"}}, 1), ({"x": {0: rows * 2}}, 2)):
        fast = dg.compile(lambda x: x[: x.shape[0] - 3] * 2, dynamic_shapes=spec)
        for n in (8, 4 * step):
            assert fast(dg.ones(n)).tolist() == [2.0] * (n - 3)
        with pytest.warns(EagerFallbackWarning, match="test_cache.py.*dynamic_shapes"):
            assert fast(dg.ones(2)).tolist() == [2.0]
        assert fast(dg.ones(2)).tolist() == [2.0]
        assert len(fast.graphs) == 1


def test_a_branch_on_a_size_guards_how_it_came_out() -> None:
    def f(x: Any) -> Any:
        if x.shape[0] == 1:
            return x * 100
        return x * 2 if x.shape[0] > 3 else x * 3

    fast = dg.compile(f)
    for n in (2, 3, 4, 5, 6, 1, 2, 7, 1, 3):
        x = dg.ones(n)
        assert fast(x).tolist() == f(x).tolist()
    assert len(fast.graphs) <= 5


def test_a_size_that_python_needs_is_fixed() -> None:
    def f(x: Any) -> Any:
        return x.sum(0) * len(range(x.shape[0]))

    fast = dg.compile(f)
    for n in (2, 3, 4, 3):
        x = dg.randn(n, 2)
        np.testing.assert_allclose(fast(x).numpy(), f(x).numpy(), rtol=1e-6)
    assert len(fast.graphs) == 3


def test_sizes_in_results_are_those_of_the_call() -> None:
    fast = dg.compile(lambda x: (x * 2, x.shape, x.shape[0], x.numel() / 2))
    for n in (2, 3, 5):
        y, shape, size, half = fast(dg.ones(n, 4))
        assert (tuple(y.shape), shape, size, half) == ((n, 4), (n, 4), n, n * 2.0)
    assert len(fast.graphs) == 2


def test_the_bound_says_what_kept_changing() -> None:
    fast = dg.compile(lambda x, k: x * k, recompile_limit=3)
    for k in (1.0, 2.0, 3.0):
        fast(dg.ones(2), k)
    with pytest.warns(EagerFallbackWarning, match=r"3 times.*argument k: 1\.0, 2\.0, 3\.0"):
        assert fast(dg.ones(2), 4.0).tolist() == [4, 4]
    assert fast(dg.ones(2), 5.0).tolist() == [5, 5]  # without a word
    assert fast(dg.ones(2), 2.0).tolist() == [2, 2]
    assert fast(dg.ones(2, dtype=dg.float64), 2.0).dtype is dg.float64  # another kind
    assert len(fast.graphs) == 4


def test_the_bound_names_state_and_sizes() -> None:
    model = nn.Module()
    model.k = 0
    f = dg.compile(lambda x: x * model.k, recompile_limit=2)
    f(dg.ones(1))
    model.k = 1
    f(dg.ones(1))
    model.k = 2
    with pytest.warns(EagerFallbackWarning, match=r"model\.k: 0, 1"):
        assert f(dg.ones(1)).item() == 2
    g = dg.compile(lambda x: x * 2, recompile_limit=2, dynamic=False)
    g(dg.ones(1))
    g(dg.ones(2))
    with pytest.warns(EagerFallbackWarning, match="argument x dim 0: 1, 2"):
        g(dg.ones(3))
    h = dg.compile(lambda x: x * 2, recompile_limit=1, dynamic=False, fullgraph=True)
    h(dg.ones(1))
    with pytest.raises(TraceError, match="argument x dim 0"):
        h(dg.ones(2))


def test_numerics_are_checked() -> None:
    with pytest.raises(ArgumentError, match="'standard' or 'strict'"):
        dg.compile(lambda x: x, numerics="loose")
    assert dg.compile(lambda x: x + 1, numerics="strict")(dg.ones(1)).item() == 2


def test_keys_of_arguments() -> None:
    fast = dg.compile(lambda x, k: x / k)
    values = [fast(dg.ones(1), k).item() for k in (0.0, -0.0, 0.0)]
    assert values == [np.inf, -np.inf, np.inf]
    nan = dg.compile(lambda x, k: x * k)
    for _ in range(3):
        nan(dg.ones(1), float("nan"))
    assert len(nan.graphs) == 1


def test_objects_are_told_apart_by_who_they_are() -> None:
    class Scale:
        def __init__(self, k: float) -> None:
            self.k = k

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Scale)

        def __hash__(self) -> int:
            return 1

    fast = dg.compile(lambda x, s: x * s.k)
    one, two = Scale(1.0), Scale(2.0)
    assert [fast(dg.ones(1), s).item() for s in (one, two, one)] == [1, 2, 1]
    two.k = 5.0
    assert fast(dg.ones(1), two).item() == 5


def test_many_threads_call_with_many_sizes() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh()).eval()
    fast = dg.compile(model)
    inputs = [dg.randn(n, 3) for n in range(1, 7)]
    expected = [model(x).detach().numpy() for x in inputs]
    wrong: list[Any] = []

    def call(offset: int) -> None:
        try:
            for i in range(30):
                j = (i + offset) % len(inputs)
                got = fast(inputs[j]).detach().numpy()
                if not np.allclose(got, expected[j], atol=1e-5):
                    wrong.append(j)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_compiled_function_that_calls_itself() -> None:
    @dg.compile
    def power(x: Any, n: int) -> Any:
        return x if n == 0 else power(x, n - 1) * 2

    assert power(dg.ones(1), 3).item() == 8


def test_only_the_size_that_an_error_is_about_is_fixed() -> None:
    """A convolution refuses channels of a symbolic number, and shows the whole shape."""
    model = resnet.ResNet(num_classes=5, width=8).eval()
    fast = dg.compile(model, dynamic=True)
    with dg.no_grad():
        for batch, size in ((3, 32), (1, 40), (7, 32)):  # at first as many images as channels
            x = dg.randn(batch, 3, size, size)
            np.testing.assert_allclose(fast(x).numpy(), model(x).numpy(), rtol=1e-4, atol=1e-5)
    assert len(fast.graphs) == 1
    assert [str(d) for d in fast.graphs[0].inputs[0].shape] == ["s_x_0", "3", "s_x_2", "s_x_2"]

"""``t.data = value`` in compiled functions: what shares the old memory keeps the old data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import dualgraph as dg
from dualgraph.tracing import EagerFallbackWarning

Made = tuple[Callable[..., Any], list[Any]]


def with_views_outside() -> Made:
    w = dg.arange(3).float()

    def f(x: Any) -> Any:
        w.data = w.data + x
        return w * 2

    return f, [w, w.view(3, 1), w.detach()]


def of_a_view() -> Made:
    w = dg.tensor([[1.0, 2.0, 3.0]]).reshape(3)

    def f(x: Any) -> Any:
        w.data = w.data + x
        return w * 2

    return f, [w]


def with_views_inside() -> Made:
    w = dg.arange(3).float()

    def f(x: Any) -> Any:
        old, view = w.data, w.view(3, 1)
        w.data = old + x
        w.data = w.data * 2
        return w - old, view, old, w.data

    return f, [w]


def between_writes() -> Made:
    w = dg.arange(3).float()

    def f(x: Any) -> Any:
        w.add_(1)
        w.data = w.data * x
        w.add_(x)
        return w * 1

    return f, [w, w.detach()]


def of_a_parameter() -> Made:
    w = dg.arange(3).float().requires_grad_()

    def f(x: Any) -> Any:
        w.grad = None
        (w * w * x).sum().backward()
        w.data = w.data - 0.1 * w.grad
        return w.detach() * 1

    return f, [w, w.data]


def of_an_argument() -> Made:
    kept = dg.zeros(3)

    def f(x: Any) -> Any:
        kept.copy_(x)
        x.data = x.data + 1
        x.mul_(2)
        return x * 1

    return f, [kept]


def written_under_both_names() -> Made:
    w = dg.arange(3).float()

    def f(x: Any) -> Any:
        y = x * 2
        w.data = y
        y.add_(1)
        return w + 1

    return f, [w]


def of_the_base_of_a_view_written() -> Made:
    w = dg.arange(3).float()

    def f(x: Any) -> Any:
        view = w.view(3, 1)
        w.data = w.data * x
        view.add_(1)
        return w + 1, view * 1

    return f, [w]


def of_an_argument_itself() -> Made:
    w = dg.arange(3).float()

    def f(x: Any) -> Any:
        w.data = x
        return w + 1

    return f, [w]


def plain(x: Any) -> Any:
    return [plain(y) for y in x] if isinstance(x, tuple | list) else x.tolist()


def seen(make: Callable[[], Made], how: str) -> list[Any]:
    f, state = make()
    fast = dg.compile(f)
    found = []
    for i in range(4):
        g = f if how == "eager" or (how == "in turn" and i % 2) else fast
        x = dg.ones(3) * (i + 1)
        found.append([plain(g(x)), plain(x), plain(state)])
    return found


@pytest.mark.parametrize("how", ["compiled", "in turn"])
@pytest.mark.parametrize(
    "make",
    [
        with_views_outside,
        of_a_view,
        with_views_inside,
        between_writes,
        of_a_parameter,
        of_an_argument,
    ],
)
@pytest.mark.filterwarnings("error")
def test_as_eager_code_does(make: Callable[[], Made], how: str) -> None:
    assert seen(make, how) == seen(make, "eager")


@pytest.mark.parametrize(
    "make",
    [written_under_both_names, of_the_base_of_a_view_written, of_an_argument_itself],
)
def test_what_shares_memory_from_then_on_runs_eagerly(make: Callable[[], Made]) -> None:
    with pytest.warns(EagerFallbackWarning, match="test_data_assigned.py"):
        found = seen(make, "compiled")
    assert found == seen(make, "eager")


def test_a_result_shows_the_data_that_there_is_now() -> None:
    w = dg.arange(3).float()
    fast = dg.compile(lambda x: (w.detach(), x * 1))
    fast(dg.ones(1))
    w.data = dg.ones(3) * 7
    shown = fast(dg.ones(1))[0]
    assert shown.tolist() == [7.0, 7.0, 7.0]
    w.add_(1)
    assert shown.tolist() == [8.0, 8.0, 8.0]


def test_a_constant_assigned_is_a_new_tensor_at_every_call() -> None:
    w = dg.ones(3)

    @dg.compile
    def f(x: Any) -> Any:
        w.data = dg.zeros(3)
        return x * 2

    for _ in range(3):
        f(dg.ones(3))
        assert w.tolist() == [0.0, 0.0, 0.0]
        w.add_(1)
    assert len(f.graphs) == 1


@pytest.mark.parametrize("detached_first", [True, False])
def test_a_detached_tensor_kept_outside_is_told_from_what_it_was_made_from(detached_first) -> None:
    weight = dg.ones(2)
    kept = weight.detach()

    def f(x):
        return kept * 10 + x * weight if detached_first else x * weight + kept * 10

    fast = dg.compile(f)
    assert fast(dg.ones(2)).tolist() == [11, 11]
    weight.data = dg.zeros(2)
    for _ in range(2):
        assert fast(dg.ones(2)).tolist() == [10, 10]
    assert len(fast.graphs) == 2

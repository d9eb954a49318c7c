"""`cond`, `while_loop` and `scan`: eagerly, traced, compiled, exported, and in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph_runtime as rt
from dualgraph.tracing import tree
from dualgraph_compiler.errors import (
    ArgumentError,
    AutogradError,
    DTypeError,
    ShapeError,
    TraceError,
)
from dualgraph_compiler.graph import interpret, parse_graph, to_text, verify


def leaves(result: Any) -> list[np.ndarray]:
    found = [leaf for _, leaf in tree.flatten(result) if isinstance(leaf, dg.Tensor)]
    return [t.detach().numpy() for t in found]


def check(function: Callable[..., Any], *args: dg.Tensor, onnx: bool = True) -> None:
    """Every way to run `function` on `args` gives what the eager call gives."""
    expected = leaves(function(*args))
    graph = dg.trace(function, *args)
    verify(graph)
    assert to_text(parse_graph(to_text(graph, full=True))) == to_text(graph)
    arrays = [a.detach().numpy() for a in args]
    ways = [interpret(graph, arrays), leaves(dg.compile(function)(*args))]
    if onnx:
        ways += run_onnx(function, args)
    for found in ways:
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def run_onnx(function: Callable[..., Any], args: Any) -> list[list[np.ndarray]]:
    """The results of our runtime and of ONNX Runtime."""
    ort = pytest.importorskip("onnxruntime")
    model = dg.onnx.export(function, args).SerializeToString()
    found = []
    for session in (rt.InferenceSession(model), ort.InferenceSession(model)):
        names = [i.name for i in session.get_inputs()]
        feeds = dict(zip(names, (a.detach().numpy() for a in args), strict=True))
        found.append(session.run(None, feeds))
    return found


def check_gradients(function: Callable[..., Any], *args: dg.Tensor) -> None:
    """Eager, compiled and numerical gradients agree; so do second derivatives."""

    def loss(*xs: dg.Tensor) -> dg.Tensor:
        results = [leaf for _, leaf in tree.flatten(function(*xs))]
        return sum((r * r).sum() for r in results if r is not None)

    def first(*xs: dg.Tensor) -> dg.Tensor:
        grads = dg.autograd.grad(loss(*xs), xs, create_graph=True)
        return sum((g * g).sum() for g in grads)

    for target in (loss, first):
        eager = dg.autograd.grad(target(*args), args)
        compiled = dg.autograd.grad(dg.compile(target)(*args), args)
        for i, (a, b) in enumerate(zip(eager, compiled, strict=True)):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-8, atol=1e-10)
            v = np.random.default_rng(i).normal(size=a.shape)
            ends = []
            for step in (1e-6, -1e-6):
                moved = [x.detach() for x in args]
                moved[i] = moved[i] + dg.tensor(step * v)
                ends.append(target(*(m.requires_grad_() for m in moved)).item())
            slope = (ends[0] - ends[1]) / 2e-6
            assert np.sum(a.numpy() * v) == pytest.approx(slope, rel=1e-5, abs=1e-6)


def f64(*shape: int) -> dg.Tensor:
    return dg.randn(*shape, dtype=dg.float64).requires_grad_()


# -- cond -----------------------------------------------------------------------------------------


def branching(x: dg.Tensor, w: dg.Tensor) -> dg.Tensor:
    return dg.cond(x.sum() > 0, lambda a, b: (a * b).tanh(), lambda a, b: a.sin() - b, (x, w))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_cond(sign: float) -> None:
    check(branching, dg.tensor([1.0, 2.0]) * sign, dg.tensor([0.5, 0.25]))
    x = (dg.tensor([1.0, 2.0], dtype=dg.float64) * sign).requires_grad_()
    check_gradients(branching, x, f64(2))


def test_cond_makes_one_node() -> None:
    graph = dg.trace(branching, dg.ones(2), dg.ones(2))
    assert [n.op.name for n in graph.nodes] == ["sum", "greater", "if"]


def test_cond_reads_state_and_tensors_around() -> None:
    layer = dg.nn.Linear(3, 3)
    scale = dg.tensor([1.0, 2.0, 3.0])

    def f(x: dg.Tensor) -> dg.Tensor:
        y = x * 2
        return dg.cond(x.mean() > 0, lambda: layer(y) * scale, lambda: y)

    check(f, dg.ones(2, 3))
    check(f, -dg.ones(2, 3))
    graph = dg.trace(f, dg.ones(2, 3))
    assert len(graph.params) == 3
    found = []
    for call in (f, dg.compile(f)):
        layer.zero_grad()
        call(dg.ones(2, 3)).sum().backward()
        found.append(layer.weight.grad.numpy().copy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def test_cond_nests_and_returns_structures() -> None:
    def f(x: dg.Tensor) -> Any:
        return dg.cond(
            x.sum() > 0,
            lambda: {"a": x, "b": (dg.cond(x.max() > 1, lambda: x * 2, lambda: x * 3), None)},
            lambda: {"a": x.abs(), "b": (x.exp(), None)},
        )

    for values in ([2.0, 1.0], [0.5, 0.5], [-1.0, -2.0]):
        check(f, dg.tensor(values))
    assert dg.compile(f)(dg.ones(2))["b"][1] is None


def test_a_python_bool_chooses_while_tracing() -> None:
    graph = dg.trace(lambda x: dg.cond(True, lambda: x + 1, lambda: x - 1), dg.ones(2))
    assert [n.op.name for n in graph.nodes] == ["add"]


def test_a_detached_operand_gets_no_gradient() -> None:
    def f(x: dg.Tensor) -> dg.Tensor:
        return dg.cond(x.sum() > 0, lambda: x.detach() * x, lambda: x)

    x = dg.tensor([2.0, 3.0], requires_grad=True)
    (g,) = dg.autograd.grad(dg.compile(f)(x).sum(), x)
    np.testing.assert_array_equal(g.numpy(), [2.0, 3.0])


@pytest.mark.parametrize(
    ("one", "other", "error", "message"),
    [
        (lambda x: x, lambda x: x.sum(), ShapeError, r"f32\[3\] from .* but f32\[\] from"),
        (lambda x: x, lambda x: x > 0, DTypeError, r"f32\[3\] from .* but bool\[3\] from"),
        (
            lambda x: (x, x),
            lambda x: x,
            TraceError,
            r"\(f32\[3\], f32\[3\]\) from .*structure of f32",
        ),
        (lambda x: x, lambda x: None, TraceError, "expected tensors and numbers, got NoneType"),
    ],
)
def test_branches_that_disagree(one: Any, other: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        dg.trace(lambda x: dg.cond(x.sum() > 0, one, other, (x,)), dg.ones(3))
    if error is not TraceError:
        assert str(caught.value).count("test_frontend.py:") == 2


def test_writing_to_a_tensor_of_the_trace_is_refused() -> None:
    def f(x: dg.Tensor) -> dg.Tensor:
        return dg.cond(x.sum() > 0, lambda x: x.add_(1), lambda x: x, (x,))

    with pytest.raises(TraceError, match="writes to a tensor made outside"):
        dg.trace(f, dg.ones(3))


# -- while_loop -----------------------------------------------------------------------------------


def doubling(x: dg.Tensor) -> Any:
    return dg.while_loop(lambda i, y: y.sum() < 100, lambda i, y: (i + 1, y * 2), (0, x))


def test_while_loop() -> None:
    for start in ([1.0, 2.0], [100.0, 200.0]):
        check(doubling, dg.tensor(start))
    i, y = doubling(dg.tensor([1.0, 2.0]))
    assert (i.item(), y.tolist()) == (6, [64.0, 128.0])


def test_while_loop_reads_tensors_around() -> None:
    def newton(x: dg.Tensor) -> Any:
        (root,) = dg.while_loop(
            lambda r: (r * r - x).abs().max() > 1e-4, lambda r: ((r + x / r) / 2,), (x,)
        )
        return root

    check(newton, dg.tensor([2.0, 9.0]))


def test_gradient_of_while_loop() -> None:
    x = dg.tensor([1.0, 2.0], requires_grad=True)
    (g,) = dg.autograd.grad(doubling(x)[1].sum(), x)  # eagerly, of the steps taken
    np.testing.assert_array_equal(g.numpy(), [64.0, 64.0])
    with pytest.raises(AutogradError, match=r"dg\.scan"):
        dg.compile(lambda x: dg.autograd.grad(doubling(x)[1].sum(), x))(x)


def test_steps_must_keep_types() -> None:
    def narrowing(x: dg.Tensor) -> Any:
        return dg.while_loop(lambda y: y.sum() < 9, lambda y: y.sum(), (x,))

    for call in (narrowing, lambda x: dg.trace(narrowing, x)):
        with pytest.raises(ShapeError, match=r"f32\[\] from .* f32\[2\] from the carried values"):
            call(dg.ones(2))
    with pytest.raises(ArgumentError, match="got none"):
        dg.while_loop(lambda: True, lambda: (), ())


# -- scan -----------------------------------------------------------------------------------------


def recurrent(xs: dg.Tensor, h: dg.Tensor, w: dg.Tensor) -> Any:
    def step(h: dg.Tensor, x: dg.Tensor) -> Any:
        h = (h @ w + x).tanh()
        return h, h * x

    return dg.scan(step, h, xs)


def backwards(xs: dg.Tensor, h: dg.Tensor, w: dg.Tensor) -> Any:
    return dg.scan(lambda h, x: ((h @ w).sin() + x, {"y": h}), h, xs, reverse=True)


@pytest.mark.parametrize("function", [recurrent, backwards])
def test_scan(function: Any) -> None:
    check(function, dg.randn(5, 2, 3), dg.randn(2, 3), dg.randn(3, 3))
    # ONNX Runtime cannot scan nothing.
    check(function, dg.randn(0, 2, 3), dg.randn(2, 3), dg.randn(3, 3), onnx=False)
    check_gradients(function, f64(3, 2, 2), f64(2, 2), f64(2, 2))


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_without_xs(reverse: bool) -> None:
    def powers(x: dg.Tensor) -> Any:
        return dg.scan(lambda c, _: (c * x, c), x, length=3, reverse=reverse)

    check(powers, dg.tensor([2.0, 3.0]))
    check_gradients(powers, f64(2))


def test_scan_over_a_symbolic_length() -> None:
    shapes = {"xs": {0: "t", 1: "b"}, "h": {0: "b"}}
    fast = dg.compile(recurrent, dynamic_shapes=shapes)
    w = dg.randn(3, 3)
    for t, b in ((4, 2), (1, 1), (0, 3), (7, 2)):
        xs, h = dg.randn(t, b, 3), dg.randn(b, 3)
        for a, e in zip(leaves(fast(xs, h, w)), leaves(recurrent(xs, h, w)), strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)
    assert len(fast.graphs) == 1


def test_scan_exports_its_symbolic_length() -> None:
    ort = pytest.importorskip("onnxruntime")
    shapes = {"xs": {0: "t", 1: "b"}, "h": {0: "b"}}
    args = (dg.randn(4, 2, 3), dg.randn(2, 3), dg.randn(3, 3))
    model = dg.onnx.export(backwards, args, dynamic_shapes=shapes).SerializeToString()
    for session in (rt.InferenceSession(model), ort.InferenceSession(model)):
        xs, h, w = dg.randn(6, 4, 3), dg.randn(4, 3), args[2]
        feeds = {"xs": xs.numpy(), "h": h.numpy(), "w": w.numpy()}
        for a, e in zip(session.run(None, feeds), leaves(backwards(xs, h, w)), strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)


def test_cond_inside_scan() -> None:
    def f(xs: dg.Tensor) -> Any:
        def step(c: dg.Tensor, x: dg.Tensor) -> Any:
            c = dg.cond(x.sum() > 0, lambda: c + x * c, lambda: c - xs.mean())
            return c, None

        return dg.scan(step, xs[0], xs)

    check(f, dg.randn(6, 2))
    check_gradients(f, f64(4, 2))


def test_a_loop_inside_a_branch() -> None:
    def f(x: dg.Tensor) -> Any:
        return dg.cond(x.sum() > 0, lambda: doubling(x)[1], lambda: x)

    check(f, dg.tensor([1.0, 2.0]))
    check(f, dg.tensor([-1.0, -2.0]))


def test_scan_trains_a_module() -> None:
    cell = dg.nn.RNNCell(3, 4)

    def loss(xs: dg.Tensor, h: dg.Tensor) -> dg.Tensor:
        last, _ = dg.scan(lambda h, x: (cell(x, h), None), h, xs)
        return last.square().sum()

    found = []
    for call in (loss, dg.compile(loss)):
        cell.zero_grad()
        call(dg.ones(5, 2, 3), dg.zeros(2, 4)).backward()
        found.append([p.grad.numpy().copy() for p in cell.parameters()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_scan_refuses() -> None:
    x = dg.ones(3, 2)
    with pytest.raises(ArgumentError, match="xs or a length"):
        dg.scan(lambda c, x: (c, x), x)
    with pytest.raises(ArgumentError, match="axis to scan"):
        dg.scan(lambda c, x: (c, x), x, dg.tensor(1.0))
    with pytest.raises(ShapeError, match="expected 3 slices"):
        dg.scan(lambda c, x: (c, x), x, (x, dg.ones(4)))
    for call in (lambda f: f(x), lambda f: dg.trace(f, x)):
        with pytest.raises(TraceError, match="pair"):
            call(lambda x: dg.scan(lambda c, x: c, x, x))
        with pytest.raises(ShapeError, match=r"f32\[\] from .* f32\[3, 2\]"):
            call(lambda x: dg.scan(lambda c, x: (c.sum(), x), x, x))
        with pytest.raises(TraceError, match="structure"):
            call(lambda x: dg.scan(lambda c, x: ((c, c), x), x, x))


def test_branches_that_need_data_say_so() -> None:
    with pytest.raises(TraceError, match=r"test_frontend\.py:\d+"):
        dg.trace(lambda x: dg.scan(lambda c, y: (c * y.numpy(), y), x[0], x), dg.ones(3))


# -- state ----------------------------------------------------------------------------------------


def noisy_scan(x: dg.Tensor) -> Any:
    def step(c: dg.Tensor, x: dg.Tensor) -> Any:
        c = c + dg.rand(2) * x
        return c, dg.nn.functional.dropout(c, 0.5)

    return dg.scan(step, x[0], x)


def noisy_cond(x: dg.Tensor) -> Any:
    return dg.cond(x.sum() > 0, lambda: x + dg.rand(4, 2), lambda: x), dg.rand(2)


def noisy_loop(x: dg.Tensor) -> Any:
    return dg.while_loop(lambda y: y.sum() < 20, lambda y: y + dg.rand(4, 2), (x,))


def nested(x: dg.Tensor) -> Any:
    def step(c: dg.Tensor, x: dg.Tensor) -> Any:
        c = dg.cond(c.sum() > 3, lambda: c - dg.rand(2), lambda: c + x * dg.rand(2))
        return c, dg.rand(1)

    return dg.scan(step, x[0], x)


@pytest.mark.parametrize("function", [noisy_scan, noisy_cond, noisy_loop, nested])
def test_random_numbers_are_the_eager_ones(function: Any) -> None:
    for sign in (1, -1):
        x = dg.ones(4, 2) * sign
        found = []
        for call in (function, dg.compile(function)):
            dg.manual_seed(3)
            found.append([*leaves(call(x)), *leaves(call(x)), dg.rand(2).numpy()])
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b)


def test_buffers_are_written() -> None:
    norm = dg.nn.BatchNorm1d(2)
    count = dg.zeros(())

    def f(x: dg.Tensor) -> Any:
        def step(c: dg.Tensor, x: dg.Tensor) -> Any:
            count.add_(1)
            return c + dg.cond(x.sum() > 0, lambda: norm(x), lambda: x * count), None

        return dg.scan(step, x[0], x)[0], count * 1

    x = dg.stack([dg.randn(4, 2).abs(), -dg.randn(4, 2).abs(), dg.randn(4, 2).abs()])
    found = []
    for call in (f, dg.compile(f)):
        norm.reset_running_stats()
        count.zero_()
        results = leaves(call(x))
        state = [norm.running_mean, norm.num_batches_tracked, count]
        found.append([*results, *(t.numpy().copy() for t in state)])
    assert found[0][3] == 2
    assert found[0][4] == 3
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

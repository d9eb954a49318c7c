"""Tracing: what becomes an input, a param, a node; source lines; what is refused."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph_compiler.errors import ArgumentError, ShapeError, TraceError
from dualgraph_compiler.graph import interpret, verify


def test_a_function_of_tensors_becomes_a_graph() -> None:
    def f(x, y):
        return (x * y + 1.0).sum()

    x, y = dg.tensor([[1.0, 2.0]]), dg.tensor([[3.0], [4.0]])
    graph = dg.trace(f, x, y)
    verify(graph)
    assert [v.name for v in graph.inputs] == ["x", "y"]
    assert [n.op.name for n in graph.nodes] == ["mul", "add", "sum"]
    (out,) = interpret(graph, [x.numpy(), y.numpy()])
    assert out == f(x, y).item()


def test_nodes_carry_the_users_line() -> None:
    def f(x):
        return dg.relu(x) + 1  # this very line

    graph = dg.trace(f, dg.ones(2))
    relu, add = graph.nodes
    assert relu.loc is not None
    assert relu.loc == add.loc
    assert relu.loc.file == __file__
    assert relu.loc.line == f.__code__.co_firstlineno + 1
    assert f"test_trace.py:{relu.loc.line}" in str(graph)


def test_parameters_become_params_with_their_names() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    graph = dg.trace(model, dg.ones(5, 4))
    assert sorted(v.name for v in graph.params) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    (out,) = interpret(graph, [np.ones((5, 4), np.float32)])
    np.testing.assert_array_equal(out, model(dg.ones(5, 4)).detach().numpy())


def test_tied_weights_are_one_param() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3, bias=False)
            self.b = nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    graph = dg.trace(Tied(), dg.ones(2, 3))
    assert [v.name for v in graph.params] == ["a.weight"]


def test_symbolic_sizes_flow_through_shape_arithmetic() -> None:
    def f(x):
        n = x.shape[0]
        return x.reshape(n, -1), x.reshape(n * 2, 6), x.flatten(), x[1:]

    graph = dg.trace(f, dg.ones(2, 3, 4), dynamic_shapes={"x": {0: "batch"}})
    shapes = [str(v.type) for v in graph.outputs]
    # Nothing says that there is a first row to leave out, so the last size covers batch = 0 too.
    assert shapes == [
        "f32[batch, 12]",
        "f32[2*batch, 6]",
        "f32[12*batch]",
        "f32[max(0, batch - 1), 3, 4]",
    ]
    a = np.arange(60, dtype=np.float32).reshape(5, 3, 4)
    for got, expected in zip(interpret(graph, [a]), f(dg.from_numpy(a)), strict=True):
        np.testing.assert_array_equal(got, expected.numpy())


def test_a_size_used_as_a_number_stays_symbolic() -> None:
    def mean(x):
        return x.sum(0) / x.shape[0]

    graph = dg.trace(mean, dg.ones(2, 3), dynamic_shapes={"x": {0: "n"}})
    a = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_allclose(interpret(graph, [a])[0], a.mean(0))


def test_shapes_that_contradict_are_refused_with_both_sides() -> None:
    with pytest.raises(ShapeError, match=r"n.*m|m.*n") as caught:
        dg.trace(
            lambda x, y: x + y,
            dg.ones(3),
            dg.ones(3),
            dynamic_shapes={"x": {0: "n"}, "y": {0: "m"}},
        )
    assert any("test_trace.py" in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * np.float32(x.sum()),
        lambda x: x[: int(x.sum())],
        lambda x: x * [1, 2, 3][x[0].long()],
        lambda x: x.numpy(),
        lambda x: x.tolist(),
        lambda x: x + np.asarray(x),
    ],
    ids=["number", "slice", "index", "numpy", "tolist", "asarray"],
)
def test_nothing_that_depends_on_data_is_frozen(f) -> None:
    with pytest.raises(TraceError, match=r"needs the data of a tensor.*test_trace\.py"):
        dg.trace(f, dg.ones(3))


def test_a_tensor_that_escapes_is_refused_later() -> None:
    escaped = []
    hide = functools.partial(escaped.append)

    def f(x):
        hide(x * 2)
        return x

    dg.trace(f, dg.ones(3))
    with pytest.raises(TraceError, match="finished trace"):
        escaped[0] + 1


def test_an_error_in_the_function_leaves_eager_mode_intact() -> None:
    def broken(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        dg.trace(broken, dg.ones(3))
    assert (dg.ones(3) + 1).tolist() == [2.0, 2.0, 2.0]


def test_nested_arguments_and_results() -> None:
    def f(pair, *, options):
        return {"sum": pair[0] + pair[1]["b"], "same": [pair[0], pair[0]], "n": options["n"]}

    graph = dg.trace(f, (dg.ones(2), {"b": dg.zeros(2)}), options={"n": 3})
    assert [v.name for v in graph.inputs] == ["pair.0", "pair.1.b"]
    assert graph.outputs[1] is graph.outputs[2] is graph.inputs[0]


def test_factories_inside_a_trace_make_constants_of_the_graph() -> None:
    def f(x):
        return x + dg.ones(3) + dg.tensor([1.0, 2.0, 3.0]) + dg.zeros(x.shape[0])

    graph = dg.trace(f, dg.ones(3))
    assert graph.params == []
    np.testing.assert_array_equal(interpret(graph, [np.zeros(3, np.float32)])[0], [2, 3, 4])


def test_in_place_operations_are_captured_by_value() -> None:
    def f(x):
        y = x.clone()
        y[0] = 7.0
        y.mul_(2)
        y[1:] += 1
        return y

    graph = dg.trace(f, dg.ones(3))
    np.testing.assert_array_equal(
        interpret(graph, [np.zeros(3, np.float32)])[0], f(dg.zeros(3)).numpy()
    )


def test_gradients_inside_a_trace() -> None:
    def f(x, y):
        c = (x * y).sum()
        (g,) = dg.autograd.grad(c, [x], create_graph=True)
        (gg,) = dg.autograd.grad((g * g).sum(), [y])
        return c, g, gg

    x = dg.tensor([1.0, 2.0], requires_grad=True)
    y = dg.tensor([3.0, 4.0], requires_grad=True)
    graph = dg.trace(f, x, y)
    got = interpret(graph, [x.detach().numpy(), y.detach().numpy()])
    for a, b in zip(got, f(x, y), strict=True):
        np.testing.assert_array_equal(a, b.detach().numpy())


def test_backward_inside_a_trace_leaves_the_parameters_alone() -> None:
    w = dg.ones(3, requires_grad=True)

    def f(x):
        loss = (w * x).sum()
        loss.backward()
        return loss

    dg.trace(f, dg.ones(3))
    assert w.grad is None


def test_dynamic_shapes_must_name_parameters() -> None:
    with pytest.raises(ArgumentError, match="'z'.*'x'"):
        dg.trace(lambda x: x, dg.ones(2), dynamic_shapes={"z": {0: "n"}})
    with pytest.raises(ArgumentError, match="dimension 3"):
        dg.trace(lambda x: x, dg.ones(2), dynamic_shapes={"x": {3: "n"}})

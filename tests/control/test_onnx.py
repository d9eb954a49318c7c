"""If, Loop and Scan in ONNX models: imported, run, differentiated, exported again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

import dualgraph as dg
from dualgraph_compiler.compile import optimize
from dualgraph_compiler.errors import IndexOutOfRange, OnnxError
from dualgraph_compiler.graph import Graph, interpret, parse_graph, to_text, verify
from dualgraph_compiler.onnx import export_graph, import_model
from tests.onnx.helpers import run_onnxruntime
from tests.onnx.test_conformance import cases, problem


def model(text: str, opset: int = 21) -> onnx.ModelProto:
    header = f'<ir_version: 8, opset_import: ["": {opset}]>\n'
    return parser.parse_model(header + text)


def check(proto: onnx.ModelProto, *inputs: Any, tol: float = 1e-6) -> Graph:
    """Our result is ONNX Runtime's, before and after optimising, and after exporting again."""
    graph = import_model(proto)
    verify(graph)
    feeds = dict(zip((i.name for i in proto.graph.input), inputs, strict=True))
    expected = run_onnxruntime(proto, feeds)
    small = optimize(graph, verify=True)
    ways = [interpret(graph, inputs), interpret(small, inputs)]
    for g in (graph, small):
        again = export_graph(g)
        onnx.checker.check_model(again, full_check=True)
        ways.append(run_onnxruntime(again, feeds))
        ways.append(interpret(import_model(again), inputs))
    assert to_text(parse_graph(to_text(graph, full=True))) == to_text(graph)
    for found in ways:
        for a, b in zip(found, expected, strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_allclose(a, b, rtol=tol, atol=tol)
    return graph


def f32(*values: Any) -> np.ndarray:
    return np.array(values, np.float32)


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


# -- ONNX's own cases -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["test_if", "test_loop11", "test_scan_sum", "test_scan9_sum", "test_scan9_multi_state"],
)
def test_cases_of_onnx(name: str) -> None:
    case = next(c for c in cases() if c.name == name)
    graph = import_model(case.model)
    verify(graph)
    for g in (graph, optimize(graph, verify=True), import_model(export_graph(graph))):
        assert not problem(interpret(g, case.inputs), case.outputs)


@pytest.mark.parametrize("name", ["test_if_seq", "test_if_opt", "test_loop13_seq"])
def test_sequences_and_optionals_are_refused(name: str) -> None:
    from onnx.backend.test.loader import load_model_tests

    case = next(c for c in load_model_tests(kind="node") if c.name == name)
    with pytest.raises(OnnxError, match=r"equence|ptional"):
        import_model(case.model)


# -- If -------------------------------------------------------------------------------------------

IF = """
g (bool c, float[n] x) => (float[n] y)
<float[1] scale = {3.0}>
{
  twice = Add (x, x)
  y = If (c) <
    then_branch = a () => (float[n] r) { s = Mul (twice, scale)  r = Neg (s) },
    else_branch = b () => (float[n] r2) <float[1] own = {0.5}> { r2 = Mul (twice, own) }
  >
}
"""


def test_branches_read_names_around_them() -> None:
    x = f32(1, 2, 3)
    for c in (np.True_, np.False_):
        graph = check(model(IF), np.asarray(c), x)
    assert names(graph) == ["add", "if"]


def test_weights_of_branches_are_trainable() -> None:
    net = dg.onnx.load(model(IF).SerializeToString())
    assert sorted(n for n, _ in net.named_parameters()) == ["own", "scale"]
    x = dg.tensor([1.0, 2.0], requires_grad=True)
    net(dg.tensor(True), x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [-6, -6])
    np.testing.assert_allclose(net.scale.grad.numpy(), [-6])


def test_a_constant_condition_takes_its_branch() -> None:
    proto = model(IF.replace("bool c, ", "").replace("<float[1]", "<bool c = {1}, float[1]", 1))
    assert names(check(proto, f32(1, 2))) == ["add", "mul", "neg"]


def test_a_condition_on_shapes_takes_its_branch() -> None:
    proto = model("""
g (float[2, 1, 3] x) => (float[n, m] y)
<int64[1] one = {1}, int64[1] zero = {0}>
{
  s = Shape <start = 1, end = 2> (x)
  c = Equal (s, one)
  y = If (c) <
    then_branch = a () => (float[2, 3] r) { r = Squeeze (x, one) },
    else_branch = b () => (float[2, 1, 3] r2) { r2 = Identity (x) }
  >
}
""")
    assert "if" not in names(check(proto, np.ones((2, 1, 3), np.float32)))


def test_branches_of_different_sizes() -> None:
    proto = model("""
g (bool c, float[n] x) => (float[m] z)
{
  y = If (c) <
    then_branch = a () => (float[k] r) { r = Concat <axis = 0> (x, x) },
    else_branch = b () => (float[k] r2) { r2 = Identity (x) }
  >
  s = Shape (y)
  ones = ConstantOfShape <value = float[1] {1.0}> (s)
  z = Add (y, ones)
}
""")
    for c in (True, False):
        check(proto, np.array(c), f32(1, 2, 3))


def test_old_operators_inside_branches() -> None:
    proto = model(
        """
g (bool c, float[1, 3] x) => (float[3] y)
{
  y = If (c) <
    then_branch = a () => (float[3] r) { r = Squeeze <axes = [0]> (x) },
    else_branch = b () => (float[3] r2) { r2 = ReduceSum <axes = [0], keepdims = 0> (x) }
  >
}
""",
        opset=11,
    )
    for c in (True, False):
        check(proto, np.array(c), f32([1, 2, 3]))


# -- Loop -----------------------------------------------------------------------------------------


def loop(
    limit: str, cond: str, *, go: str = "Identity (c)", extra: str = "", size: str = "n"
) -> onnx.ModelProto:
    return model(f"""
g (int64 m, float[{size}] x) => (float[k] last, float[t, k] all)
<int64 three = {{3}}, bool yes = {{1}}, float[1] w = {{1.5}}, float[1] most = {{50.0}}>
{{
  last, all = Loop ({limit}, {cond}, x) <
    body = b (int64 i, bool c, float[{size}] a) => (bool d, float[{size}] e, float[{size}] f) {{
      f = Identity (a)
      e = Mul (a, w)
      {extra}
      d = {go}
    }}
  >
}}
""")


def test_loop_with_a_known_length_is_a_scan() -> None:
    graph = check(loop("three", ""), np.array(9), f32(1, 2))
    assert names(graph) == ["scan"]
    assert [str(v.type) for v in graph.outputs] == ["f32[n]", "f32[3, n]"]


def test_loop_over_a_symbolic_length_is_a_scan() -> None:
    proto = model("""
g (float[t, 2] x) => (float[2] last)
<int64 zero = {0}, float[2] init = {0.0, 0.0}>
{
  s = Shape (x)
  t = Gather (s, zero)
  last = Loop (t, "", init) <
    body = b (int64 i, bool c, float[2] a) => (bool d, float[2] e) {
      row = Gather (x, i)
      e = Add (a, row)
      d = Identity (c)
    }
  >
}
""")
    graph = check(proto, np.ones((5, 2), np.float32))
    assert "scan" in names(graph)
    assert "loop" not in names(graph)


def test_loop_of_a_length_that_is_fed() -> None:
    for steps in (0, 1, 4):
        proto = loop("m", "yes", size="2")
        assert names(check(proto, np.array(steps), f32(1, 2))) == ["loop"]


def test_loop_that_stops_itself() -> None:
    stop = "Less (s, most1)"
    extra = "s = ReduceMax <keepdims = 0> (e)  most1 = Squeeze (most)"
    for limit, steps in (("m", 20), ("m", 2), ("", 0)):
        check(loop(limit, "yes", go=stop, extra=extra), np.array(steps), f32(1, 2))


def test_loop_that_does_not_begin() -> None:
    proto = loop("m", "no", size="2")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(False), "no"))
    check(proto, np.array(3), f32(1, 2))


def test_carried_values_that_grow() -> None:
    proto = model("""
g (int64 m, float[n] x) => (float[k] y)
{
  y = Loop (m, "", x) <
    body = b (int64 i, bool c, float[p] a) => (bool d, float[q] e) {
      e = Concat <axis = 0> (a, x)
      d = Identity (c)
    }
  >
}
""")
    for steps in (0, 1, 3):
        check(proto, np.array(steps), f32(1, 2))


def test_a_window_past_the_end_is_an_error() -> None:
    case = next(c for c in cases() if c.name == "test_loop11")
    graph = import_model(case.model)
    trips, *rest = case.inputs
    with pytest.raises(IndexOutOfRange):
        interpret(graph, [trips + 1, *rest])


def test_nested_loops_and_names() -> None:
    proto = model("""
g (int64 m, float[2] x) => (float[2] y)
<int64 two = {2}>
{
  k = Add (x, x)
  y = Loop (m, "", x) <
    body = b (int64 i, bool c, float[2] a) => (bool d, float[2] e) {
      e = Loop (two, "", a) <
        body = b2 (int64 j, bool c2, float[2] a2) => (bool d2, float[2] e2) {
          at = Cast <to = 1> (i)
          s = Add (a2, at)
          e2 = Add (s, k)
          d2 = Identity (c2)
        }
      >
      d = Identity (c)
    }
  >
}
""")
    check(proto, np.array(3), f32(1, 2))


# -- Scan -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        "scan_input_directions = [1, 1], scan_output_directions = [1]",
        "scan_input_directions = [1, 1]",
        "scan_input_directions = [1, 0], scan_output_directions = [1]",
        "scan_input_axes = [1, 0], scan_output_axes = [1]",
        "scan_input_axes = [-1, 0], scan_output_axes = [-1], scan_input_directions = [0, 1]",
    ],
)
def test_scan(attributes: str) -> None:
    comma = ", " if attributes else ""
    proto = model(f"""
g (float[3] h, float[3, 3] x, float[3, 3] z) => (float[3] last, float[3, 3] ys)
{{
  last, ys = Scan (h, x, z) <
    num_scan_inputs = 2,
    body = b (float[3] a, float[3] u, float[3] v) => (float[3] e, float[3] y) {{
      p = Mul (a, u)
      e = Add (p, v)
      y = Add (e, h)
    }}{comma}{attributes}
  >
}}
""")
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=s).astype(np.float32) for s in ((3,), (3, 3), (3, 3))]
    check(proto, *inputs)


def test_scan_of_opset_8_runs_over_a_batch() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["a", "u"], ["e"]), helper.make_node("Identity", ["e"], ["y"])],
        "b",
        [info("a", [2]), info("u", [2])],
        [info("e", [2]), info("y", [2])],
    )
    node = helper.make_node("Scan", ["", "h", "x"], ["last", "ys"], body=body, num_scan_inputs=1)
    clip = helper.make_node("Clip", ["last"], ["low"], max=4.0)  # converted to be imported
    graph = helper.make_graph(
        [node, clip], "g", [info("h", [2, 2]), info("x", [2, 3, 2])], [info("low", [2, 2])]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=3)
    h, x = np.ones((2, 2), np.float32), np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    (low,) = interpret(import_model(proto), [h, x])
    np.testing.assert_array_equal(low, np.minimum(h + x.sum(1), 4))


def info(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


# -- refusals -------------------------------------------------------------------------------------


def test_bodies_that_do_not_fit() -> None:
    proto = loop("m", "yes")
    body = proto.graph.node[0].attribute[0].g
    body.input.pop()
    with pytest.raises(OnnxError, match="2 inputs and 3 outputs for 1 carried"):
        import_model(proto)
    proto = model(IF)
    proto.graph.node[1].attribute[0].g.node[0].input[0] = "missing"
    with pytest.raises(OnnxError, match="'missing' is read but nothing before defines it"):
        import_model(proto)
    proto = model(
        IF.replace("Neg (s)", "Unsqueeze (s, two)").replace(
            "<float[1]", "<int64[1] two = {0}, float[1]", 1
        )
    )
    with pytest.raises(OnnxError, match=r"branches' results differ"):
        import_model(proto)


def test_unknown_operators_inside_bodies_are_listed() -> None:
    with pytest.raises(OnnxError, match="Nonesuch"):
        import_model(model(IF.replace("Neg (s)", "Nonesuch (s)")))


# -- loaded as modules ----------------------------------------------------------------------------


def test_a_loaded_loop_called_twice_in_a_trace() -> None:
    """Each call has a number of steps of its own."""
    proto = loop(
        "m",
        "yes",
        go="Less (s, top)",
        extra="s = ReduceMax <keepdims = 0> (e)  top = Squeeze (most)",
    )
    net = dg.onnx.load(proto.SerializeToString())

    def f(m: dg.Tensor, x: dg.Tensor) -> Any:
        one, other = net(m, x)[1], net(m + 1, x)[1]
        return one.reshape(-1), other.reshape(-1), one.sum() + other.sum()

    x = dg.tensor([1.0, 2.0])
    fast = dg.compile(f)
    for steps in (0, 2, 30):
        for a, b in zip(fast(dg.tensor(steps), x), f(dg.tensor(steps), x), strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-6)
    assert len(fast.graphs) == 1

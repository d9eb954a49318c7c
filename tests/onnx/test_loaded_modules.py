"""Modules that `dg.onnx.load` makes: their names, their code, and fine-tuning them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph.onnx import GraphModule
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.graph import Graph, parse_graph
from dualgraph_runtime import InferenceSession
from tests.onnx.export_matrix import graph_of
from tests.onnx.helpers import real_model, run_onnxruntime
from tests.op_samples import OpSamples, all_samples


def executed(net: GraphModule) -> nn.Module:
    """The module that the printed code of `net` defines, with its weights."""
    namespace: dict[str, Any] = {}
    exec(compile(net.code, "<printed>", "exec"), namespace)
    made: nn.Module = namespace["Net"]()
    made.load_state_dict(net.state_dict())
    return made


def compare(net: GraphModule, *inputs: np.ndarray) -> None:
    """The printed code gives what the module gives, bit for bit where that can be told."""
    tensors = [dg.from_numpy(np.array(x)) for x in inputs]
    with dg.no_grad(), np.errstate(all="ignore"):
        ours, theirs = net(*tensors), executed(net)(*tensors)
    pairs = zip(*(y if isinstance(y, tuple) else (y,) for y in (ours, theirs)), strict=True)
    for a, b in pairs:
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if a.dtype is dg.bfloat16:
            a, b = a.float(), b.float()
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-7)


RECORDS = all_samples()
# Others store such numbers in bytes of their own, which NumPy does not compare.
UNCOMPARED = {"float8_cast"}


@pytest.mark.parametrize("record", RECORDS.values(), ids=list(RECORDS))
def test_printed_code_computes_the_same(record: OpSamples) -> None:
    if record.op.name in UNCOMPARED or not record.op.is_pure:
        pytest.skip("no arithmetic on its results, or other ones at every call")
    seen = set()
    for sample in record.samples:
        kind = repr(sample.op), *(x.dtype.kind for x in sample.inputs)
        if kind in seen:
            continue
        seen.add(kind)
        compare(GraphModule(graph_of(sample)), *sample.inputs)


NETWORK = """
dim frames: 1..100
graph net(%x: f32[batch, 3], %frames_of: f32[2*frames + 1, 3]):
  param %features.0.weight: f32[4, 3]
  param %features.0.bias: f32[4]
  param %head: f32[4, 2]
  const %c0: f32[] = 0.1
  const %order: i64[3] = [2, 0, 1]
  %1: f32[batch, 3] = index_select(%x, %order, axis=1)  # net.py:3
  %2: f32[batch, 4] = linear(%1, %features.0.weight, %features.0.bias)  # net.py:4
  %3: f32[batch, 4] = mul(%2, %c0)
  %4: f32[batch, 2] = matmul(%3, %head)
  %5: f32[2*batch] = reshape(%4, shape=(2*batch,))
  %6: f32[frames, 3] = slice(%frames_of, starts=(1, 0), stops=(frames + 1, 3), steps=(1, 1))
  return %5 as y, %6 as z
"""


def network() -> Graph:
    data = {"features.0.weight": (4, 3), "features.0.bias": (4,), "head": (4, 2)}
    rng = np.random.default_rng(0)
    graph = parse_graph(NETWORK)
    for v in graph.params:
        v.data = rng.normal(size=data[v.name]).astype(np.float32)
    graph.params[-1].name = "head/dense:0"  # which text does not hold
    return graph


def test_names_make_modules_and_the_code_is_readable() -> None:
    net = GraphModule(network())
    assert [n for n, _ in net.named_parameters()] == [
        "features.0.weight",
        "features.0.bias",
        "head.dense_0",
    ]
    assert net.features[0].weight.shape == (4, 3)
    assert net.code == (
        '''"""net: 6 nodes."""

import dualgraph as dg
import dualgraph.nn.functional as F


class Net(dg.onnx.Part):
    def __init__(self):
        super().__init__()
        self.parameter('features.0.weight', (4, 3), dg.float32)
        self.parameter('features.0.bias', (4,), dg.float32)
        self.parameter('head.dense_0', (4, 2), dg.float32)

    def forward(self, x, frames_of):
        batch = x.shape[0]
        frames = (frames_of.shape[0] - 1) // 2
        index_select = dg.index_select(x, 1, dg.tensor([2, 0, 1], dtype=dg.int64))  # net.py:3
        linear = F.linear(index_select, self.features[0].weight, self.features[0].bias)  # net.py:4
        mul = linear * 0.1
        matmul = mul @ self.head.dense_0
        reshape = matmul.reshape(2 * batch)
        slice = frames_of[1:frames + 1]
        return reshape, slice
'''
    )
    rng = np.random.default_rng(1)
    for batch, frames in ((2, 3), (5, 1)):
        shapes = (batch, 3), (2 * frames + 1, 3)
        compare(net, *(rng.normal(size=s).astype(np.float32) for s in shapes))


def test_printed_code_compiles_and_exports() -> None:
    net = GraphModule(network())
    made = executed(net)
    args = dg.randn(2, 3), dg.randn(7, 3)
    wanted = made(*args)
    for y, z in zip(dg.compile(made, fullgraph=True, dynamic=True)(*args), wanted, strict=True):
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-6)
    proto = dg.onnx.export(made, args)
    assert {t.name for t in proto.graph.initializer} >= set(made.state_dict())


@pytest.mark.parametrize(
    ("which", "trained"),
    [
        (True, {"features.0.weight", "features.0.bias", "head.dense_0"}),
        (False, set()),
        ("head", {"head.dense_0"}),
        (["head", "features.0.bias"], {"features.0.bias", "head.dense_0"}),
        ("*.bias", {"features.0.bias"}),
        (lambda name, p: p.ndim == 2, {"features.0.weight", "head.dense_0"}),
    ],
)
def test_which_parameters_train(which: Any, trained: set[str]) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    net = dg.onnx.load(dg.onnx.export(model, dg.ones(1, 2)), trainable=False)
    assert not any(p.requires_grad for p in net.parameters())
    net = GraphModule(network())
    net.train_only(which)
    assert {n for n, p in net.named_parameters() if p.requires_grad} == trained
    with pytest.raises(ArgumentError, match="no parameter is called 'tail'"):
        net.train_only(["tail"])


# -- control flow and sizes that depend on data ----------------------------------------------------


def branching(x: dg.Tensor, n: dg.Tensor) -> dg.Tensor:
    y = dg.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, (x,))
    for _ in range(3):
        y = y * 1.5
    return dg.while_loop(lambda i, y: i < n, lambda i, y: (i + 1, y + x), (n * 0, y))[1]


def test_control_flow_in_a_loaded_module() -> None:
    model = dg.onnx.export(branching, (dg.ones(3), dg.tensor(2)))
    net = dg.onnx.load(model)
    assert {"If", "Loop"} <= {n.op_type for n in model.graph.node}
    for sign in (1, -1):
        x, n = dg.randn(3).abs() * sign, dg.tensor(4)
        np.testing.assert_allclose(net(x, n).numpy(), branching(x, n).numpy(), rtol=1e-5)
        np.testing.assert_allclose(executed(net)(x, n).numpy(), net(x, n).numpy(), rtol=1e-6)


def test_sizes_that_depend_on_data_in_a_loaded_module() -> None:
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Transpose", ["where"], ["places"]),
        helper.make_node("GatherND", ["x", "places"], ["found"]),
        helper.make_node("Mul", ["found", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m"])],
        [onnx.numpy_helper.from_array(np.full(1, 3, np.float32), "w")],
    )
    net = dg.onnx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]))
    x = dg.tensor([0.0, 1.0, 0.0, 2.0])
    np.testing.assert_array_equal(net(x).detach().numpy(), [3, 6])
    np.testing.assert_array_equal(executed(net)(x).detach().numpy(), [3, 6])
    net(x).sum().backward()
    assert net.w.grad.tolist() == [3.0]


# -- fine-tuning -----------------------------------------------------------------------------------


def fine_tune(net: GraphModule, step_of: Callable[..., Any], args: Any, steps: int) -> Any:
    """Losses of some steps, eager and compiled, each from the same start."""
    start = {k: v.clone() for k, v in net.state_dict().items()}
    found = []
    for wrap in (lambda f: f, lambda f: dg.compile(f, fullgraph=True)):
        net.load_state_dict(start)
        step = wrap(step_of(net, optim.Adam([p for p in net.parameters() if p.requires_grad])))
        found.append([step(*args).item() for _ in range(steps)])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)
    assert found[0][-1] < found[0][0]
    return found[0]


def check_exported(net: GraphModule, x: dg.Tensor) -> None:
    """The fine-tuned model as a file gives the eager answer everywhere."""
    proto = dg.onnx.export(net, x)
    with dg.no_grad():
        wanted = net(x)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    feeds = {net.input_names[0]: x.numpy()}
    for found in (InferenceSession(proto).run(None, feeds), run_onnxruntime(proto, feeds)):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-3, atol=1e-4)


def test_fine_tuning_the_heads_of_a_face_detector() -> None:
    path = real_model("ultraface_version-RFB-320.onnx")
    net = dg.onnx.load(path, trainable=["classification_headers", "regression_headers.3"])
    trained = {n.split(".")[0] for n, p in net.named_parameters() if p.requires_grad}
    assert trained == {"classification_headers", "regression_headers"}
    rng = np.random.default_rng(0)
    x = dg.from_numpy(rng.normal(size=(1, 3, 240, 320)).astype(np.float32))
    compare(net, x.numpy())
    faces = dg.from_numpy(rng.integers(0, 2, 4420))

    def step_of(net: GraphModule, optimizer: optim.Optimizer) -> Any:
        def step(x: dg.Tensor, faces: dg.Tensor) -> dg.Tensor:
            scores, boxes = net(x)
            loss = F.nll_loss((scores[0] + 1e-6).log(), faces) + (boxes**2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return step

    backbone = net.base_net[0][0].weight.detach().numpy().copy()
    fine_tune(net, step_of, (x, faces), 3)
    np.testing.assert_array_equal(net.base_net[0][0].weight.detach().numpy(), backbone)
    check_exported(net, x)


def test_fine_tuning_the_head_of_a_file_type_classifier() -> None:
    net = dg.onnx.load(real_model("magika_v3_3.onnx"), trainable=["*Dense_1*", "*Const_24_0"])
    assert sum(p.requires_grad for p in net.parameters()) == 2
    rng = np.random.default_rng(0)
    x = dg.from_numpy(rng.integers(0, 257, (4, 2048)).astype(np.int32))
    compare(net, x.numpy())
    kinds = dg.from_numpy(rng.integers(0, 214, 4))

    def step_of(net: GraphModule, optimizer: optim.Optimizer) -> Any:
        def step(x: dg.Tensor, kinds: dg.Tensor) -> dg.Tensor:
            loss = F.nll_loss((net(x) + 1e-9).log(), kinds)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return step

    fine_tune(net, step_of, (x, kinds), 4)
    check_exported(net, x)

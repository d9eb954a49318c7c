"""Hostile files: always an error of ours, in bounded time and memory.

The cases are mutated from ONNX's own (`hostile.py`, `mutate.py`), two thousand of them. More are
run by ``DUALGRAPH_HOSTILE_CASES=20000 pytest tests/onnx/test_hostile.py``, or ``python -m
tests.onnx.hostile``.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

import dualgraph_runtime as rt
from dualgraph_compiler.errors import DualGraphError, OnnxError, OutOfMemory, RunError
from dualgraph_compiler.onnx import import_model, wellformed
from tests.onnx import hostile
from tests.onnx.helpers import make_model
from tests.onnx.mutate import damaged

node = helper.make_node
CASES = int(os.environ.get("DUALGRAPH_HOSTILE_CASES", "2000"))
HUGE = 10**15


# -- mutated files ---------------------------------------------------------------------------------


def fuzz(*args: str) -> None:
    """In a process of its own: what ends it does not end the tests."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.onnx.hostile", "--details", *args],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=60 + CASES,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'ran': 0," not in done.stdout, "no mutated model is valid: that tests little"


def test_mutated_models() -> None:
    fuzz("--count", str(CASES))


@pytest.mark.compiler
def test_mutated_models_compiled() -> None:
    fuzz("--seed", "900000", "--count", str(CASES // 100), "--execution", "native")


@given(st.randoms(use_true_random=False), st.integers(0, 19))
def test_damaged_bytes(rng: Any, case: int) -> None:
    model, _ = CORPUS[case]
    with contextlib.suppress(DualGraphError):
        import_model(damaged(rng, model.SerializeToString()))


CORPUS = [
    (
        make_model(
            [node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), node("Relu", ["c"], ["y"])],
            {"x": ["n", 1, 4, 4]},
            ["y"],
            opset=opset,
            initializers={"w": np.ones((2, 1, 3, 3), np.float32)},
        ),
        [],
    )
    for opset in range(2, 22)
]


# -- asking for more memory than there is ----------------------------------------------------------


def ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


ONE = np.ones(1, np.float32)

BOMBS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "ConstantOfShape": ([node("ConstantOfShape", ["s"], ["y"])], {"s": ints(HUGE)}),
    "ConstantOfShape, overflowing": (
        [node("ConstantOfShape", ["s"], ["y"])],
        {"s": ints(2**40, 2**40, 2**40)},
    ),
    "Expand": ([node("Expand", ["one", "s"], ["y"])], {"s": ints(HUGE)}),
    "Expand, read": (
        [node("Expand", ["one", "s"], ["e"]), node("ReduceSum", ["e"], ["y"])],
        {"s": ints(HUGE)},
    ),
    "Tile": ([node("Tile", ["one", "s"], ["y"])], {"s": ints(HUGE)}),
    "Pad": ([node("Pad", ["one", "s"], ["y"])], {"s": ints(HUGE, HUGE)}),
    "Resize": ([node("Resize", ["one", "", "", "s"], ["y"])], {"s": ints(HUGE)}),
    "Resize by a scale": (
        [node("Resize", ["one", "", "s"], ["y"])],
        {"s": np.array([1e15], np.float32)},
    ),
    "Range": (
        [node("Range", ["zero", "s", "two"], ["y"])],
        {"s": np.array(HUGE), "zero": np.array(0), "two": np.array(2)},
    ),
    "OneHot": (
        [node("OneHot", ["zero", "s", "values"], ["y"])],
        {"s": np.array(HUGE), "zero": ints(0), "values": np.array([0, 1], np.float32)},
    ),
    "EyeLike": (
        [node("ConstantOfShape", ["s"], ["c"]), node("EyeLike", ["c"], ["y"])],
        {"s": ints(10**8, 10**8)},
    ),
    "Concat": (
        [node("Expand", ["one", "s"], ["e"]), node("Concat", ["e"] * 50, ["y"], axis=0)],
        {"s": ints(10**12)},
    ),
    "outer product": (
        [
            node("Expand", ["one", "s"], ["a"]),
            node("Unsqueeze", ["a", "axis"], ["b"]),
            node("Mul", ["a", "b"], ["y"]),
        ],
        {"s": ints(10**8), "axis": ints(1)},
    ),
    "RandomNormal": ([node("RandomNormal", [], ["y"], shape=[HUGE])], {}),
    "MaxUnpool": (
        [node("MaxUnpool", ["x4", "i4", "s"], ["y"], kernel_shape=[1, 1])],
        {
            "x4": np.ones((1, 1, 1, 1), np.float32),
            "i4": np.zeros((1, 1, 1, 1), np.int64),
            "s": ints(1, 1, 10**8, 10**8),
        },
    ),
    "convolution": (
        [node("Conv", ["x4", "w"], ["y"], pads=[10**8, 10**8, 10**8, 10**8])],
        {"x4": np.ones((1, 1, 1, 1), np.float32), "w": np.ones((1, 1, 1, 1), np.float32)},
    ),
    "pooling": (
        [node("MaxPool", ["x4"], ["y"], kernel_shape=[2**40, 2**40])],
        {"x4": np.ones((1, 1, 1, 1), np.float32)},
    ),
}


def bomb(name: str, *, fed: bool) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A model that asks for far too much, by constants or by what it is fed."""
    nodes, operands = BOMBS[name]
    operands = {"one": ONE, **operands}
    used = {i for n in nodes for i in n.input if i}
    operands = {n: a for n, a in operands.items() if n in used}
    types = {n: helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in operands.items()}
    model = make_model(
        nodes,
        {n: a.shape for n, a in operands.items()} if fed else {},
        ["y"],
        initializers={} if fed else operands,
        dtypes=types,
    )
    model.graph.output[0].ClearField("type")
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    return model, operands if fed else {}


@pytest.mark.parametrize("fed", [False, True])
@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, fed: bool) -> None:
    model, feed = bomb(name, fed=fed)
    options = rt.SessionOptions()
    options.execution = "interpreter"
    start = time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DualGraphError) as caught:
        rt.InferenceSession(model, options).run(None, feed)
    assert str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 500_000
    assert time.process_time() - start < 10


@pytest.mark.compiler
@pytest.mark.parametrize("name", ["ConstantOfShape", "Expand, read", "outer product", "Pad"])
def test_bombs_compiled(name: str) -> None:
    model, feed = bomb(name, fed=False)
    options = rt.SessionOptions()
    options.execution = "native"
    with pytest.raises(DualGraphError):
        rt.InferenceSession(model, options).run(None, feed)


@pytest.mark.parametrize("execution", ["interpreter", "native"])
def test_sizes_that_are_fed(execution: Any) -> None:
    """A fed array may be small and what is made of it large: its elements times themselves."""
    model = make_model(
        [node("Unsqueeze", ["x", "axis"], ["t"]), node("Mul", ["x", "t"], ["y"])],
        {"x": ["n"]},
        ["y"],
        initializers={"axis": ints(1)},
    )
    options = rt.SessionOptions()
    options.execution = execution
    session = rt.InferenceSession(model, options)
    x = np.lib.stride_tricks.as_strided(ONE, (10**7,), (0,))
    with pytest.raises(OutOfMemory, match="bytes, more than the"):
        session.run(None, {"x": x})
    assert session.run(None, {"x": np.full(3, 2, np.float32)})[0].tolist() == [[4] * 3] * 3


# -- forms no model may have -----------------------------------------------------------------------


def refused(model: onnx.ModelProto | bytes, match: str) -> None:
    with pytest.raises(OnnxError, match=match):
        import_model(model)


def relu(**changes: Any) -> onnx.ModelProto:
    return make_model([node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"], **changes)


def call(name: str, *operands: str, result: str = "y") -> onnx.NodeProto:
    return node(name, list(operands), [result], domain="own")


def function(name: str, *calls: onnx.NodeProto) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, ["x"], ["y"], list(calls), opsets)


def test_functions_that_call_themselves() -> None:
    loop = [function("f", call("g", "x")), function("g", call("f", "x"))]
    model = make_model([call("f", "x")], {"x": [2]}, ["y"], functions=loop, domains=["own"])
    refused(model, "a function calls itself: f -> g -> f")
    deep = [function(f"f{i}", call(f"f{i + 1}", "x")) for i in range(60)]
    deep.append(function("f60", node("Relu", ["x"], ["y"])))
    model = make_model([call("f0", "x")], {"x": [2]}, ["y"], functions=deep, domains=["own"])
    refused(model, "over 40 deep")


def test_functions_that_stand_for_too_much() -> None:
    """Each calls the next ten times: 10^30 nodes."""
    chain = [
        function(
            f"f{i}",
            *(call(f"f{i + 1}", "x" if not j else f"v{j}", result=f"v{j + 1}") for j in range(9)),
            call(f"f{i + 1}", "v9"),
        )
        for i in range(30)
    ]
    chain.append(function("f30", node("Relu", ["x"], ["y"])))
    model = make_model([call("f0", "x")], {"x": [2]}, ["y"], functions=chain, domains=["own"])
    refused(model, "stand for over")


def test_cycles() -> None:
    nodes = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"])]
    refused(make_model(nodes, {"x": [2]}, ["b"]), "'b' is read but nothing before defines it")
    refused(make_model([node("Relu", ["y"], ["y"])], {"x": [2]}, ["y"]), "'y' is read but")


def nested(depth: int) -> onnx.NodeProto:
    made = node("Relu", ["x"], ["y"])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    for i in range(depth):
        branch = helper.make_graph([made], f"b{i}", [], [out])
        made = node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return made


def test_graphs_in_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    types = {"c": TensorProto.BOOL}
    model = make_model([nested(6)], {"x": [2], "c": []}, ["y"], dtypes=types)
    assert len(import_model(model)) == 1
    monkeypatch.setattr(wellformed, "_MAX_DEPTH", 5)
    refused(model, "nested more than 5 deep")


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        (helper.make_attribute("axis", 1.0), "'axis' is a float, expected a int"),
        (helper.make_attribute("axis", [1]), "'axis' is a list of ints, expected a int"),
        (helper.make_attribute("axis", "1"), "'axis' is a string, expected a int"),
        (onnx.AttributeProto(name="axis"), "'axis' is a undefined, expected a int"),
        (onnx.AttributeProto(name="axis", type=2, ref_attr_name="a"), "outside of a function"),
    ],
)
def test_attributes_of_a_wrong_type(attribute: onnx.AttributeProto, message: str) -> None:
    model = make_model([node("Softmax", ["x"], ["y"])], {"x": [2]}, ["y"])
    model.graph.node[0].attribute.append(attribute)
    refused(model, message)


def test_attributes_absent_or_twice() -> None:
    refused(make_model([node("Cast", ["x"], ["y"])], {"x": [2]}, ["y"]), "'to' is missing")
    model = make_model([node("Softmax", ["x"], ["y"], axis=0)], {"x": [2]}, ["y"])
    model.graph.node[0].attribute.append(model.graph.node[0].attribute[0])
    refused(model, "'axis' is stated twice")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (node("Add", ["x"], ["y"]), "expected 2 operands, got 1"),
        (node("Add", ["x", ""], ["y"]), "operand 1 may not be left out"),
        (node("Relu", ["x", "x"], ["y"]), "expected 1 operands, got 2"),
        (node("Relu", ["x"], ["y", "z"]), "expected 1 results, got 2"),
        (node("Relu", ["q"], ["y"]), "'q' is read but nothing before defines it"),
        (node("Nothing", ["x"], ["y"]), "not supported: Nothing"),
        (node("Transpose", ["x"], ["y"], perm=[0, 0]), "Transpose"),
        (node("Concat", ["x", "x"], ["y"], axis=7), "Concat"),
        (node("MaxPool", ["x"], ["y"], kernel_shape=[0, 0]), "MaxPool"),
        (node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[0, 0]), "MaxPool"),
        (node("Conv", ["x", "x"], ["y"], group=0), "Conv"),
        (node("Conv", ["x", "x"], ["y"], group=-(2**63)), "Conv"),
        (node("Conv", ["x", "x"], ["y"], pads=[2**62] * 4), "Conv|bytes"),
        (node("Conv", ["x", "x"], ["y"], dilations=[0, -1]), "Conv"),
        (node("Flatten", ["x"], ["y"], axis=2**62), "Flatten"),
        (node("Softmax", ["x"], ["y"], axis=-(2**63)), "Softmax"),
        (node("Cast", ["x"], ["y"], to=2**40), "Cast"),
        (node("DepthToSpace", ["x"], ["y"], blocksize=0), "DepthToSpace"),
        (node("SpaceToDepth", ["x"], ["y"], blocksize=-2), "SpaceToDepth.*blocksize of 1 or more"),
        (node("Gather", ["x", "x"], ["y"]), "Gather|index"),
        (node("Split", ["x"], ["y"], num_outputs=0), "Split"),
        (node("LRN", ["x"], ["y"], size=-1), "LRN"),
        (node("Constant", [], ["y"]), "Constant"),
    ],
)
def test_nodes_that_make_no_sense(made: onnx.NodeProto, message: str) -> None:
    model = make_model([made], {"x": [1, 4, 6, 6]}, ["y"])
    with pytest.raises(DualGraphError, match=message):
        rt.InferenceSession(model).run(None, {"x": np.ones((1, 4, 6, 6), np.float32)})


@pytest.mark.parametrize(
    "scales", [[1, 1, np.nan, 1], [1, 1, np.inf, 1], [1, 1, -1, 1], [1, 1, 0, 1], [1, 1], []]
)
def test_scales_that_make_no_sense(scales: list[float]) -> None:
    model = make_model(
        [node("Resize", ["x", "", "s"], ["y"])],
        {"x": [1, 1, 2, 2]},
        ["y"],
        initializers={"s": np.array(scales, np.float32)},
    )
    with pytest.raises(DualGraphError):
        rt.InferenceSession(model).run(None, {"x": np.ones((1, 1, 2, 2), np.float32)})


def test_names_used_twice() -> None:
    refused(
        make_model([node("Relu", ["x"], ["y"]), node("Exp", ["x"], ["y"])], {"x": [2]}, ["y"]),
        "'y' is defined twice",
    )
    refused(make_model([node("Relu", ["x"], ["x"])], {"x": [2]}, ["x"]), "'x' is defined twice")


@pytest.mark.parametrize("dims", [[-1], [2**62, 4], [0], [3], [1] * 65])
def test_tensors_without_their_data(dims: list[int]) -> None:
    model = make_model(
        [node("Add", ["x", "w"], ["y"])], {"x": [2]}, ["y"], initializers={"w": np.ones(2, "f")}
    )
    model.graph.initializer[0].dims[:] = dims
    refused(model, "tensor 'w'")
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].float_data.extend([1, 2])
    refused(model, "tensor 'w'")


def test_external_data_that_is_a_pipe_or_a_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for location in ("pipe", "zero", "/dev/zero", "../zero", "."):
        model = make_model(
            [node("Add", ["x", "w"], ["y"])], {"x": [2]}, ["y"], initializers={"w": np.ones(2, "f")}
        )
        w = model.graph.initializer[0]
        w.ClearField("raw_data")
        w.data_location = TensorProto.EXTERNAL
        w.external_data.add(key="location", value=location)
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(OnnxError, match="external data of tensor 'w'"):
            import_model(tmp_path / "m.onnx")


def test_text_that_is_no_text() -> None:
    data = relu().SerializeToString()
    for old, new in ((b"Relu", b"\xff\xfe\xfd\xfc"), (b"\x01x", b"\x01\xff")):
        refused(data.replace(old, new), "no text|not an ONNX model|cannot be imported")


def test_a_chain_of_many_nodes() -> None:
    """Nothing recurses from node to node."""
    count = 20_000
    nodes = [node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    model = make_model(nodes, {"v0": [2]}, [f"v{count}"])
    options = rt.SessionOptions()
    options.execution = "interpreter"
    (y,) = rt.InferenceSession(model, options).run(None, {"v0": np.ones(2, np.float32)})
    assert y.tolist() == [1, 1]


def test_what_a_kernel_raises_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from dualgraph_compiler.ops import REGISTRY

    def fail(*_: Any) -> Any:
        raise KeyError("something")

    model = make_model([node("CumSum", ["x", "axis"], ["y"])], {"x": [2]}, ["y"],
                       initializers={"axis": np.array(0)})  # fmt: skip
    options = rt.SessionOptions()
    options.execution = "interpreter"
    monkeypatch.setattr(REGISTRY["cumsum"], "eager", fail)
    with pytest.raises(RunError, match="'something', in .*node.*cumsum"):
        rt.InferenceSession(model, options).run(None, {"x": np.ones(2, np.float32)})


# -- the harness itself ----------------------------------------------------------------------------


def test_the_harness_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of other kinds, time, memory, and the end of the process."""

    def attempt(seed: int, models: Any, execution: str) -> str:
        if seed == 1:
            raise KeyError("x")
        if seed == 2:
            os._exit(1)
        if seed == 3:
            end = time.process_time() + 0.3
            while time.process_time() < end:
                pass
        if seed == 4:
            np.ones(2**30)
        return "ran"

    monkeypatch.setattr(hostile, "attempt", attempt)
    monkeypatch.setattr(hostile, "corpus", list)
    counts, findings = hostile.run(list(range(6)), limit=0.2)
    assert counts["ran"] == 2
    found = {f.seed: f.what for f in findings}
    assert found[1].startswith("KeyError at test_hostile.py")
    assert found[2] == "the process ended or hung"
    assert found[3].startswith("took 0.3 s")
    assert "MemoryError" in found[4]

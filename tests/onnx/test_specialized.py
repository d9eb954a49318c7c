"""Models in steps as one graph for each kind of call: the same results, and what the kinds are."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import dualgraph as dg
import dualgraph_runtime as rt
from dualgraph.onnx.stepped import SteppedModule
from dualgraph_compiler.errors import DualGraphError, FeedError, OnnxError
from dualgraph_compiler.onnx.stepwise import whole
from dualgraph_runtime.stepwise import specialized
from tests.onnx.helpers import make_model, run_onnxruntime, suite
from tests.onnx.stepwise import compare, floats, model_of, native, sequence, session, value

node = helper.make_node
FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
STRING = TensorProto.STRING


def tensor(name: str, kind: int = FLOAT, shape: Any = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def branch(name: str, nodes: list[onnx.NodeProto], kind: int = FLOAT) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [tensor(name, kind)])


def specials(s: rt.InferenceSession | SteppedModule) -> list[specialized.Special]:
    walker = s._walker if isinstance(s, SteppedModule) else s._steps
    assert walker is not None
    assert walker.specialized is not None
    return walker.specialized.programs


def by_rate() -> onnx.ModelProto:
    """One of two nets, as the rate says; neither fits the lengths of the other."""

    def net(name: str, width: int) -> onnx.GraphProto:
        one = branch(name + "s", [node("Squeeze", [name + "c", "last"], [name + "s"])])
        more = branch(name + "m", [node("ReduceMax", [name + "c", "last"], [name + "m"])])
        more.node[0].attribute.append(helper.make_attribute("keepdims", int(width == 4)))
        return branch(
            name,
            [
                node("Conv", ["x", f"w{width}"], [name + "c"], strides=[width]),
                node("Shape", [name + "c"], [name + "z"]),
                node("Gather", [name + "z", "last"], [name + "n"]),
                node("Equal", [name + "n", "one"], [name + "e"]),
                node("If", [name + "e"], [name + "r"], then_branch=one, else_branch=more),
                node("Gemm", [name + "r", f"g{width}"], [name]),
            ],
        )

    rng = np.random.default_rng(0)
    weights = {
        "w8": rng.standard_normal((4, 1, 8)).astype(np.float32),
        "w4": rng.standard_normal((4, 1, 4)).astype(np.float32),
        "g8": rng.standard_normal((4, 3)).astype(np.float32),
        "g4": rng.standard_normal((4, 3)).astype(np.float32),
        "last": np.array([-1]),
        "one": np.array([1]),
        "wide": np.array(16000),
    }
    nodes = [
        node("Equal", ["rate", "wide"], ["is_wide"]),
        node("If", ["is_wide"], ["y"], then_branch=net("a", 8), else_branch=net("b", 4)),
    ]
    return make_model(
        nodes,
        {"x": ["batch", 1, "n"], "rate": []},
        ["y"],
        dtypes={"rate": INT},
        initializers=weights,
    )


@pytest.mark.parametrize("options", [None, pytest.param(native(), marks=pytest.mark.compiler)])
def test_a_branch_by_an_input_and_branches_by_sizes(options: Any) -> None:
    model = by_rate()
    s = rt.InferenceSession(model, options)
    kinds = [(1, 9, 16000), (1, 24, 16000), (2, 4, 8000), (1, 4, 8000)]
    for _ in range(3):
        for batch, n, rate in kinds:
            feeds = {"x": floats(batch, 1, n), "rate": np.array(rate)}
            compare(s.run(None, feeds), run_onnxruntime(model, feeds))
    assert len(specials(s)) == len(kinds)
    assert f"one graph for x: f32[1, 1, 9], rate = {16000}" in s.report()
    if options is not None:
        assert all(p.runnable.way == "compiled" for p in specials(s))
        s.trim()
        s.run(None, feeds)


def may_need_steps(model: onnx.ModelProto) -> bool:
    """Whether a model is fed integers or what is no tensor, or holds graphs."""
    kinds = {i.type.tensor_type.elem_type for i in (*model.graph.input, *model.graph.output)}
    return bool(kinds & {0, INT}) or any(n.op_type in ("If", "Loop") for n in model.graph.node)


def test_both_ways_agree_on_every_case() -> None:
    """Cases of ONNX's suite that run in steps; most of them are one graph, too."""
    as_one, in_steps = set(), set()
    for case in suite("node"):
        if case.model is None or not case.data_sets or not may_need_steps(case.model):
            continue
        s = rt.InferenceSession(case.model)
        if s._steps is None or s._steps.specialized is None:
            continue
        inputs, _ = case.data_sets[0]
        feeds = {i.name: v for i, v in zip(case.model.graph.input, inputs, strict=False)}
        found = s.run(None, feeds)
        (as_one if specials(s) else in_steps).add(case.name)
        s._steps.specialized = None
        if "bernoulli" not in case.name and "dropout" not in case.name:
            compare(found, s.run(None, feeds))
    assert len(as_one) > 200
    assert len(as_one) > 5 * len(in_steps), in_steps


def pieces() -> onnx.ModelProto:
    """Pieces of x, as long as `lengths` says, each scaled by its number, in the other order."""
    body = helper.make_graph(
        [
            node("Identity", ["going"], ["still"]),
            node("SequenceAt", ["parts", "i"], ["part"]),
            node("Cast", ["i"], ["f"], to=FLOAT),
            node("Mul", ["part", "f"], ["scaled"]),
            node("SequenceInsert", ["s", "scaled", "front"], ["longer"]),
        ],
        "body",
        [tensor("i", INT, []), tensor("going", BOOL, []), value("s", sequence())],
        [tensor("still", BOOL, []), value("longer", sequence())],
    )
    return model_of(
        [
            node("SplitToSequence", ["x", "lengths"], ["parts"]),
            node("Constant", [], ["front"], value_int=0),
            node("SequenceEmpty", [], ["none"]),
            node("SequenceLength", ["parts"], ["count"]),
            node("Loop", ["count", "", "none"], ["all"], body=body),
            node("ConcatFromSequence", ["all"], ["y"], axis=0),
        ],
        [tensor("x", FLOAT, ["n"]), tensor("lengths", INT, ["k"])],
        [value("all", sequence()), tensor("y")],
    )


@pytest.mark.parametrize("options", [None, native()])
def test_loops_over_sequences_are_unrolled(options: Any) -> None:
    model = pieces()
    s = rt.InferenceSession(model, options)
    for lengths in ([2, 3], [1, 1, 3], [2, 3], [3, 2]):
        feeds = {"x": floats(5), "lengths": np.array(lengths)}
        compare(s.run(None, feeds), session(model).run(None, feeds))
    assert len(specials(s)) == 3
    assert "lengths = [3, 2]" in s.report()


def test_results_that_are_inputs_or_the_same_are_the_callers_own() -> None:
    model = model_of(
        [node("SequenceConstruct", ["x", "x"], ["s"]), node("Identity", ["x"], ["y"])],
        [tensor("x", FLOAT, ["n"])],
        [value("s", sequence()), tensor("y")],
    )
    for options in (None, native()):
        s = rt.InferenceSession(model, options)
        x = floats(3)
        (a, b), y = s.run(None, {"x": x})
        assert specials(s)
        a[:], b[:], y[:] = 1, 2, 3
        compare([x, a], [floats(3), np.ones(3, np.float32)])


def test_sequences_and_optionals_as_inputs() -> None:
    """A list of other length, or nothing in place of something, is another kind of call."""
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, ["n"]))
    model = model_of(
        [
            node("OptionalHasElement", ["bias"], ["has"]),
            node("ConcatFromSequence", ["s"], ["all"], axis=0),
            node(
                "If",
                ["has"],
                ["y"],
                then_branch=branch(
                    "a",
                    [node("OptionalGetElement", ["bias"], ["b"]), node("Add", ["all", "b"], ["a"])],
                ),
                else_branch=branch("c", [node("Identity", ["all"], ["c"])]),
            ),
            node("Identity", ["bias"], ["again"]),
        ],
        [value("s", sequence()), value("bias", kind)],
        [tensor("y"), value("again", kind)],
    )
    s = rt.InferenceSession(model)
    x, b = floats(2), np.ones(1, np.float32)
    for items, bias in [([x], b), ([x, x], None), ([x, x], b), ([x], None), ([x, x], None)]:
        y, again = s.run(None, {"s": items, "bias": bias})
        compare(y, np.concatenate(items) + (0 if bias is None else bias))
        compare(again, bias)
    assert len(specials(s)) == 4


def labelled(rank: int) -> onnx.ModelProto:
    """The label of the best score of each row, or of the only row; and some that are always so."""
    model = model_of(
        [
            node("Constant", [], ["words"], value_strings=["no", "yes", "maybe"]),
            node("ArgMax", ["scores"], ["best"], axis=-1, keepdims=0),
            node("Gather", ["words", "best"], ["label"]),
            node("Slice", ["others", "start", "end"], ["some"]),
            node("Unsqueeze", ["some", "start"], ["row"]),
            node("SequenceConstruct", ["label", "row"], ["both"]),
        ],
        [tensor("scores", FLOAT, ["n", 3][-rank:])],
        [tensor("label", STRING), value("both", sequence(STRING)), tensor("best", INT)],
    )
    others = helper.make_tensor("others", STRING, [3], [b"a", "ä".encode(), b"c"])
    start, end = (
        onnx.numpy_helper.from_array(np.array([i]), n) for i, n in enumerate(("start", "end"))
    )
    model.graph.initializer.extend([others, start, end])
    return model


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("options", [None, native()])
def test_strings_that_are_only_moved(rank: int, options: Any) -> None:
    """They are numbers in the graph."""
    model = labelled(rank)
    s = rt.InferenceSession(model, options)
    scores = np.eye(3, dtype=np.float32)[[1, 0, 2, 1] if rank == 2 else 2]
    for _ in range(3):
        label, both, best = s.run(None, {"scores": scores})
        np.testing.assert_array_equal(label, run_onnxruntime(model, {"scores": scores})[0])
        compare([label, both, best], session(model, "interpreter").run(None, {"scores": scores}))
        assert type(label) is np.ndarray
        assert label.dtype == object
        label[...] = "changed"
    assert both[1].tolist() == [["a"]]
    assert len(specials(s)) == 1


def fed_shape() -> onnx.ModelProto:
    nodes = [node("Reshape", ["x", "shape"], ["r"]), node("ReduceSum", ["r", "axes"], ["y"])]
    inputs = {"x": ["n"], "shape": [2], "axes": [1]}
    return make_model(nodes, inputs, ["y"], dtypes={"shape": INT, "axes": INT})


def test_kinds_that_never_come_again_run_in_steps() -> None:
    s = rt.InferenceSession(fed_shape())
    for n in range(1, 90):
        feeds = {"x": floats(2 * n), "shape": np.array([n, 2]), "axes": np.array([0])}
        np.testing.assert_allclose(
            s.run(None, feeds)[0][0], floats(2 * n).reshape(n, 2).sum(0), 1e-4
        )
    assert len(specials(s)) == specialized._AT_ONCE
    s.run(None, feeds)
    assert "shape = [89, 2], axes = [0]" in s.report()


def test_programs_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more kinds in turns than are kept, the rest run in steps; the unused make way."""
    s = rt.InferenceSession(fed_shape())

    def call(n: int) -> None:
        feeds = {"x": floats(2 * n), "shape": np.array([n, 2]), "axes": np.array([1])}
        assert s.run(None, feeds)[0].shape == (n, 1)

    for _ in range(3):
        for n in range(1, 25):
            call(n)
    first = specials(s)
    assert len(first) == specialized._MOST
    for n in range(1, 25):
        call(n)
    assert {id(p) for p in specials(s)} == {id(p) for p in first}
    monkeypatch.setattr(specialized, "_UNUSED", 8)
    for n in range(30, 50):
        for _ in range(8):
            call(n)
    assert len(specials(s)) == specialized._MOST
    assert not {id(p) for p in specials(s)} & {id(p) for p in first}
    assert len(s._steps.specialized._known) <= specialized._MOST_MET
    assert len(s._steps.specialized._used) == specialized._MOST


def test_errors_are_those_of_the_steps() -> None:
    model = fed_shape()
    feeds = {"x": floats(6), "shape": np.array([5, 5]), "axes": np.array([0])}
    messages = []
    for s in (rt.InferenceSession(model), session(model)):
        for _ in range(2):
            with pytest.raises(OnnxError) as caught:
                s.run(None, feeds)
            messages.append(str(caught.value))
        s.run(None, feeds | {"shape": np.array([2, 3])})
    assert len({*messages}) == 1
    assert "(Reshape)" in messages[0]


def test_what_data_tells_runs_in_steps() -> None:
    nodes = [
        node("ReduceMax", ["x"], ["top"]),
        node("Cast", ["top"], ["k"], to=INT),
        node("TopK", ["x", "k"], ["y", "at"]),
    ]
    s = rt.InferenceSession(make_model(nodes, {"x": ["n"]}, ["y"]))
    for top in (2, 3, 2, 1, 3):
        x = np.array([0.5, top, 0.25, 0.125], np.float32)
        assert s.run(None, {"x": x})[0].shape == (top,)
    assert not specials(s)


def test_threads_with_calls_of_several_kinds() -> None:
    s = rt.InferenceSession(fed_shape(), native())
    wrong: list[Any] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(40):
            rows, axis = int(rng.integers(1, 4)), int(rng.integers(0, 2))
            x = rng.standard_normal(12).astype(np.float32)
            feeds = {"x": x, "shape": np.array([rows, -1]), "axes": np.array([axis])}
            (y,) = s.run(None, feeds)
            if not np.allclose(y, x.reshape(rows, -1).sum(axis, keepdims=True), atol=1e-5):
                wrong.append((rows, axis))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.compiler
def test_code_that_comes_later_can_be_waited_for() -> None:
    options = rt.SessionOptions()
    options.execution = "auto"
    model = by_rate()
    s = rt.InferenceSession(model, options)
    assert not s.wait(0)
    feeds = {"x": floats(1, 1, 8), "rate": np.array(16000)}
    s.run(None, feeds)
    assert "interpreted" in s.report()
    assert s.wait()
    assert specials(s)[0].runnable.way == "compiled"
    compare(s.run(None, feeds), run_onnxruntime(model, feeds))


# -- files from anybody ----------------------------------------------------------------------------


def counting(steps: int, inner: int = 1) -> onnx.ModelProto:
    """A loop, or one within another, that appends to a sequence in each step."""

    def body(name: str, nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
        still = node("Identity", [name + "c"], [name + "d"])
        inputs = [tensor(name + "i", INT, []), tensor(name + "c", BOOL, [])]
        inputs.append(value(name + "s", sequence()))
        outputs = [tensor(name + "d", BOOL, []), value(name + "t", sequence())]
        return helper.make_graph([still, *nodes], name, inputs, outputs)

    append = body("b", [node("SequenceInsert", ["bs", "x"], ["bt"])])
    nest = body("a", [node("Loop", ["inner", "", "as"], ["at"], body=append)])
    nodes = [
        node("SequenceEmpty", [], ["none"]),
        node("Constant", [], ["steps"], value_int=steps),
        node("Constant", [], ["inner"], value_int=inner),
        node("Loop", ["steps", "", "none"], ["all"], body=nest),
        node("SequenceLength", ["all"], ["y"]),
    ]
    return model_of(nodes, [tensor("x", FLOAT, [1])], [tensor("y", INT)])


@pytest.mark.parametrize(
    ("steps", "inner", "fits"), [(20, 1, True), (1200, 1, False), (60, 40, False)]
)
def test_loops_are_unrolled_within_bounds(steps: int, inner: int, fits: bool) -> None:
    s = rt.InferenceSession(counting(steps, inner))
    assert s.run(None, {"x": floats(1)})[0] == steps * inner
    assert bool(specials(s)) is fits


def test_an_axis_of_any_size_is_not_split_into_nodes() -> None:
    nodes = [node("SplitToSequence", ["x"], ["s"]), node("SequenceAt", ["s", "at"], ["y"])]
    model = make_model(nodes, {"x": ["n"], "at": []}, ["y"], dtypes={"at": INT})
    s = rt.InferenceSession(model)
    for n, fits in [(whole._UNROLLED * 2, False), (3, True)]:
        feeds = {"x": np.arange(n, dtype=np.float32), "at": np.array(2)}
        compare(s.run(None, feeds), [np.full(1, 2, np.float32)])
        assert bool(specials(s)) is fits


def test_a_shape_beyond_all_memory() -> None:
    nodes = [node("Expand", ["x", "shape"], ["e"]), node("Exp", ["e"], ["y"])]
    s = rt.InferenceSession(
        make_model(nodes, {"x": [1], "shape": [2]}, ["y"], dtypes={"shape": INT})
    )
    for sizes in ([1 << 30, 1 << 20], [1 << 30, 1 << 21], [4, 1 << 40]):
        with pytest.raises(DualGraphError, match="bytes"):
            s.run(None, {"x": np.ones(1, np.float32), "shape": np.array(sizes)})


def test_more_tensors_than_a_graph_should_take() -> None:
    nodes = [node("ConcatFromSequence", ["s"], ["y"], axis=0)]
    s = rt.InferenceSession(model_of(nodes, [value("s", sequence())], [tensor("y")]))
    for n in (specialized._MOST_TENSORS + 1, 3):
        assert s.run(None, {"s": [floats(2)] * n})[0].shape == (2 * n,)
    (special,) = specials(s)
    assert len(special.fed or ()) == 3


# -- modules ---------------------------------------------------------------------------------------


def test_modules_and_their_gradients() -> None:
    """What a module gives and what flows back are the same in either way."""
    model = by_rate()
    found = []
    for in_steps in (False, True):
        net = dg.onnx.load(model)
        assert isinstance(net, SteppedModule)
        if in_steps:
            net._walker.specialized = None
        grads: list[Any] = []
        for n, rate in [(8, 16000), (4, 8000), (24, 16000)]:
            x = dg.tensor(floats(2, 1, n), requires_grad=True)
            net.zero_grad()
            net(x, dg.tensor(rate)).square().sum().backward()
            reached = [x, *(p for p in net.parameters() if p.grad is not None)]
            grads.append([t.grad.numpy() for t in reached])
        found.append(grads)
        assert in_steps or len(specials(net)) == 3
    assert all(np.any(x) for x, *_ in found[0])
    compare(found[0], found[1])


# -- the way of a call -----------------------------------------------------------------------------


def test_elements_that_count_are_compared_at_every_call() -> None:
    """Kinds in turns, arrays that change in place, other types, other layouts, wrong feeds."""
    model = by_rate()
    s = rt.InferenceSession(model, native())
    rate = np.array(16000)
    x = floats(1, 1, 24)
    for wanted in (16000, 16000, 16000, 8000, 8000, 16000, 8000, 16000):
        n = 24 if wanted == 16000 else 4
        rate[...] = wanted
        fed = x[:, :, :n]
        compare(
            s.run(None, {"rate": rate, "x": fed}), run_onnxruntime(model, {"x": fed, "rate": rate})
        )
    wide = np.zeros((1, 1, 48), np.float32)
    wide[:, :, ::2] = x
    expected = run_onnxruntime(model, {"x": x, "rate": rate})
    for other in (wide[:, :, ::2], x.astype(">f4"), rt.OrtValue(x), x):
        compare(s.run(None, {"x": other, "rate": rate}), expected)
    for bad in ({"x": x}, {"x": x, "rate": rate, "z": x}, {"x": x.astype(float), "rate": rate}):
        with pytest.raises(FeedError):
            s.run(None, bad)
    with pytest.raises(FeedError):
        s.run(None, {"x": x, "rate": rate.astype(np.int32)})
    compare(s.run(["y"], {"x": x, "rate": rate}), expected)
    with pytest.raises(FeedError, match="no output 'z'"):
        s.run(["z"], {"x": x, "rate": rate})

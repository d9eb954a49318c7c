"""Operators on Python values, against ONNX's reference and what their definitions say."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import dualgraph_runtime as rt
from dualgraph_compiler.errors import OnnxError
from tests.onnx.helpers import run_onnxruntime

node = helper.make_node
INT, STRING = TensorProto.INT64, TensorProto.STRING
WORDS = np.array(["a b  c", "", " x", "one,two,,three", "ÄÖ ß"], dtype=object)


def run(made: onnx.NodeProto, *operands: Any, types: Any = ()) -> list[Any]:
    """The results of a node; `types` of operands that are no tensors."""
    infos = []
    for i, (name, v) in enumerate(zip(made.input, operands, strict=True)):
        given = dict(types).get(i)
        if given is None:
            string = np.asarray(v).dtype == object
            elem = 8 if string else helper.np_dtype_to_tensor_dtype(np.asarray(v).dtype)
            given = helper.make_tensor_type_proto(elem, None)
        infos.append(helper.make_value_info(name, given))
    outs = [helper.make_value_info(name, onnx.TypeProto()) for name in made.output]
    graph = helper.make_graph([made], "g", infos, outs)
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return rt.InferenceSession(model).run(None, dict(zip(made.input, operands, strict=True)))


def as_reference(made: onnx.NodeProto, *operands: Any) -> None:
    found = run(made, *operands)
    expected = ReferenceEvaluator(made).run(None, dict(zip(made.input, operands, strict=True)))
    for got, wanted in zip(found, expected, strict=True):
        wanted = np.asarray(wanted)
        assert got.shape == wanted.shape
        np.testing.assert_array_equal(got, wanted.astype(got.dtype))


@pytest.mark.parametrize("delimiter", [None, "", " ", ",", "two"])
@pytest.mark.parametrize("most", [None, 0, 1, 2])
@pytest.mark.parametrize("shape", [(5,), (5, 1), (0,)])
def test_string_split(delimiter: str | None, most: int | None, shape: tuple[int, ...]) -> None:
    attrs = {"delimiter": delimiter, "maxsplit": most}
    made = node(
        "StringSplit", ["x"], ["y", "n"], **{k: v for k, v in attrs.items() if v is not None}
    )
    as_reference(made, WORDS[: int(np.prod(shape))].reshape(shape))


def test_string_concat() -> None:
    as_reference(node("StringConcat", ["x", "z"], ["y"]), WORDS[:, None], WORDS)


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({}, ["Mon", "tue", "WED"]),
        ({"case_change_action": "UPPER"}, ["MON", "TUE", "WED"]),
        ({"stopwords": ["mon"], "case_change_action": "LOWER"}, ["tue", "wed"]),
        ({"stopwords": ["mon"], "is_case_sensitive": 1}, ["Mon", "tue", "WED"]),
        ({"stopwords": ["Mon", "tue", "WED"], "is_case_sensitive": 1}, [""]),
    ],
)
def test_string_normalizer(attrs: dict[str, Any], expected: list[str]) -> None:
    x = np.array(["Mon", "tue", "WED"], dtype=object)
    made = node("StringNormalizer", ["x"], ["y"], **attrs)
    assert run(made, x)[0].tolist() == expected
    assert run(made, x[None])[0].tolist() == [expected]
    with pytest.raises(OnnxError, match=r"'y' \(StringNormalizer\): expected strings of shape"):
        run(made, np.stack([x, x]))


def test_regular_expressions() -> None:
    x = np.array([["a@b.de", "nobody"], ["", "x@y.com"]], dtype=object)
    made = node("RegexFullMatch", ["x"], ["y"], pattern=r"\w+@\w+\.(de|com)")
    np.testing.assert_array_equal(run(made, x)[0], [[True, False], [False, True]])
    with pytest.raises(OnnxError, match="the pattern '\\(' is none"):
        run(node("RegexFullMatch", ["x"], ["y"], pattern="("), x)


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("skip", [0, 1, 5])
@pytest.mark.parametrize("lengths", [(1, 1), (2, 2), (1, 2), (1, 3)])
@pytest.mark.parametrize("strings", [True, False])
def test_ngrams(mode: str, skip: int, lengths: tuple[int, int], strings: bool) -> None:
    pool = [2, 3, 5, 4, 5, 6, 7, 8, 6, 7, 1, 1, 1]  # 4 of one, 3 of two, 1 of three
    attrs: dict[str, Any] = {
        "mode": mode,
        "min_gram_length": lengths[0],
        "max_gram_length": lengths[1],
        "max_skip_count": skip,
        "ngram_counts": [0, 4, 10],
        "ngram_indexes": [0, 1, 2, 3, 5, 4, 6, 7],
        "weights": [1.0, 2.0, 0.5, 3.0, 1.5, 1.0, 2.0, 0.25],
    }
    key = "pool_strings" if strings else "pool_int64s"
    x = np.array([[1, 1, 3, 1, 1, 7], [8, 6, 7, 5, 6, 8], [5, 6, 7, 8, 6, 7]])
    if strings:
        pool, x = [str(v) for v in pool], x.astype(str).astype(object)
    made = node("TfIdfVectorizer", ["x"], ["y"], **attrs, **{key: pool})
    for given in (x, x[0]):  # the reference takes the weights in another order
        info = helper.make_tensor_value_info("x", STRING if strings else INT, given.shape)
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph([made], "g", [info], [out])
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        (expected,) = run_onnxruntime(model, {"x": given})
        np.testing.assert_array_equal(run(made, given)[0], expected)


def test_casts_of_strings() -> None:
    x = np.array(["1.5", "-INF", "nan", " 7 "], dtype=object)
    (y,) = run(node("Cast", ["x"], ["y"], to=TensorProto.FLOAT), x)
    np.testing.assert_array_equal(y, np.array([1.5, -np.inf, np.nan, 7], np.float32))
    (y,) = run(node("Cast", ["x"], ["y"], to=TensorProto.INT64), np.array(["12", "-3"], object))
    np.testing.assert_array_equal(y, [12, -3])
    (y,) = run(node("Cast", ["x"], ["y"], to=TensorProto.STRING), np.array([0.1, 3, -0.0], "f4"))
    assert y.tolist() == ["0.1", "3.0", "-0.0"]
    with pytest.raises(OnnxError, match=r"'y' \(Cast\): a string is no float32"):
        run(node("Cast", ["x"], ["y"], to=TensorProto.FLOAT), np.array(["one"], object))


FLOATS = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))


def test_sequences() -> None:
    s = [np.full(n, n, np.float32) for n in (1, 2, 3)]
    at = node("SequenceAt", ["s", "i"], ["y"])
    for i in (-3, -1, 0, 2):
        np.testing.assert_array_equal(run(at, s, np.array(i), types=[(0, FLOATS)])[0], s[i])
    for i in (-4, 3):
        with pytest.raises(OnnxError, match=f"position {i} is outside of a sequence of 3"):
            run(at, s, np.array(i), types=[(0, FLOATS)])
    insert = node("SequenceInsert", ["s", "x", "i"], ["y"])
    for i in (-3, 0, 3):
        (found,) = run(insert, s, s[1], np.array(i), types=[(0, FLOATS)])
        expected = list(s)
        expected.insert(i, s[1])
        assert [len(a) for a in found] == [len(a) for a in expected]
    (found,) = run(node("SequenceErase", ["s"], ["y"]), s, types=[(0, FLOATS)])
    assert [len(a) for a in found] == [1, 2]
    assert [len(a) for a in s] == [1, 2, 3]  # what was given stays as it was


@pytest.mark.parametrize("split", [None, 2, [1, 4], [5, 0]])
def test_split_to_sequence(split: Any) -> None:
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    names = ["x"] if split is None else ["x", "split"]
    given = [x] if split is None else [x, np.array(split)]
    (found,) = run(node("SplitToSequence", names, ["y"], axis=1), *given)
    sizes = {None: [1] * 5, 2: [2, 2, 1]}.get(split if not isinstance(split, list) else 0, split)
    assert [a.shape for a in found] == [(2, n) for n in sizes]
    np.testing.assert_array_equal(np.concatenate(found, 1), x)


def test_strings_on_their_numbers() -> None:
    x = np.array(["b", "a", "b", "c"], dtype=object)
    y, at, back, counts = run(node("Unique", ["x"], ["y", "i", "b", "n"]), x)
    assert y.tolist() == ["a", "b", "c"]
    assert (at.tolist(), back.tolist(), counts.tolist()) == ([1, 0, 3], [1, 0, 1, 2], [1, 2, 1])
    cond = np.array([True, False, True, False])
    (y,) = run(node("Where", ["c", "x", "z"], ["y"]), cond, x, np.array(["z"], object))
    assert y.tolist() == ["b", "z", "b", "z"]


# -- random draws --------------------------------------------------------------------------------


def test_random_draws_differ_unless_seeded() -> None:
    free = node("RandomNormal", [], ["y"], shape=[3, 4], mean=5.0, scale=0.1)
    seeded = node("RandomUniform", [], ["y"], shape=[3, 4], low=2.0, high=3.0, seed=7.0)
    assert not np.array_equal(run(free)[0], run(free)[0])
    first = run(seeded)[0]
    np.testing.assert_array_equal(first, run(seeded)[0])
    assert first.dtype == np.float32
    assert first.shape == (3, 4)
    assert ((first >= 2) & (first < 3)).all()


def test_random_draws_are_distributed_as_asked() -> None:
    x = np.tile(np.array([0.0, 0.25, 1.0], np.float32), (4000, 1))
    (y,) = run(node("Bernoulli", ["x"], ["y"], dtype=TensorProto.BOOL, seed=1.0), x)
    assert y.dtype == bool
    np.testing.assert_allclose(y.mean(0), [0, 0.25, 1], atol=0.03)
    logits = np.log(np.array([[0.5, 0.3, 0.2], [1e-9, 0.5, 0.5]], np.float32)) + 3
    (z,) = run(node("Multinomial", ["x"], ["y"], sample_size=4000, seed=1.0), logits)
    assert z.dtype == np.int32
    shares = np.stack([(z == c).mean(1) for c in range(3)], 1)
    np.testing.assert_allclose(shares, [[0.5, 0.3, 0.2], [0, 0.5, 0.5]], atol=0.03)
    (n,) = run(node("RandomNormalLike", ["x"], ["y"], mean=2.0, scale=3.0, seed=1.0), x)
    assert n.dtype == np.float32
    assert abs(n.mean() - 2) < 0.1
    assert abs(n.std() - 3) < 0.1


def test_dropout_while_training() -> None:
    x = np.ones((100, 50), np.float32)
    made = node("Dropout", ["x", "ratio", "training"], ["y", "mask"], seed=3)
    y, mask = run(made, x, np.array(0.3, np.float32), np.array(True))
    assert abs(mask.mean() - 0.7) < 0.03
    np.testing.assert_allclose(y, mask / np.float32(0.7), rtol=1e-6)
    y, mask = run(made, x, np.array(0.3, np.float32), np.array(False))
    np.testing.assert_array_equal(y, x)
    assert mask.all()
    with pytest.raises(OnnxError, match="expected a ratio"):
        run(made, x, np.array(1.0, np.float32), np.array(True))

"""Nothing that a model file says in words becomes C code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dualgraph_compiler.graph import interpret, parse_graph
from dualgraph_compiler.native import Target, build
from dualgraph_compiler.native.render.kernel import comment
from dualgraph_compiler.onnx import import_model
from dualgraph_runtime.native import compile_graph, find_compiler

RNG = np.random.default_rng(0)

# What could end a comment, continue one over the line's end, or begin code.
HOSTILE = [
    "*/ evil(); /*",
    "x\nevil();",
    "x\\",
    "x\\\nevil();",
    "x ??/",
    "x ??/\nevil();",
    "\r\nevil();\r",
    "\u2028evil();\u2029",
    "\u202eevil();",
    "x\x00evil();",
    '"; evil(); "',
    "#include </etc/passwd>",
    "%:include <evil>",
    "_Pragma(evil)",
    "{} {0} %s %n",
    "é漢字\U0001f600",
    "//",
    "/",
    "*",
    "evil" * 500,
]


def model(word: str) -> onnx.ModelProto:
    """A model in which everything that may be named or described is named or described so."""
    count = 0

    def name() -> str:
        nonlocal count
        count += 1
        return f"{word}{count}{word}"

    names = {k: name() for k in ("x", "w", "b", "i", "k", "a", "c", "d", "e", "f", "g", "h", "y")}
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(8, 12)).astype(np.float32),
        "b": np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, *range(7)], np.float32),
        "k": rng.normal(size=(4, 4, 3, 3)).astype(np.float32),
    }
    nodes = [
        ("MatMul", ["x", "w"], ["a"], {}),
        ("Add", ["a", "b"], ["c"], {}),
        ("Softmax", ["c"], ["d"], {"axis": 1}),
        ("Gather", ["d", "i"], ["e"], {"axis": 1}),
        ("Unsqueeze", ["e", "axes"], ["f"], {}),
        ("Conv", ["f", "k"], ["g"], {"pads": [1, 1, 1, 1]}),
        ("CumSum", ["g", "axis"], ["h"], {}),
        ("Relu", ["h"], ["y"], {}),
    ]
    shape = {"axes": np.array([0]), "axis": np.array(2)}
    for k in shape:
        names[k] = name()
    made = [
        helper.make_node(
            op, [names[i] for i in ins], [names[o] for o in outs], name(), name(), **attributes
        )
        for op, ins, outs, attributes in nodes
    ]
    graph = helper.make_graph(
        made,
        name(),
        [
            helper.make_tensor_value_info(names["x"], TensorProto.FLOAT, [4, 8], name()),
            helper.make_tensor_value_info(names["i"], TensorProto.INT64, [6, 5], name()),
        ],
        [helper.make_tensor_value_info(names["y"], TensorProto.FLOAT, None, name())],
        [numpy_helper.from_array(a, names[k]) for k, a in {**weights, **shape}.items()],
        name(),
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    proto.doc_string = proto.producer_name = name()
    return proto


def text_of(word: str) -> str:
    return build(import_model(model(word)), Target(32)).text


def code_of(text: str) -> list[str]:
    """The lines of a text that are not in comments, read as a C compiler reads them."""
    text = re.sub(r"\\\n", "", text.replace("??/", "\\"))
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def plain() -> list[str]:
    return code_of(text_of("v"))


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_the_code_is_that_of_the_model_with_harmless_names(word: str, plain: list[str]) -> None:
    text = text_of(word)
    assert code_of(text) == plain
    assert text.isascii()
    assert "\\\n" not in text
    assert "??" not in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_comments_end_where_they_should(word: str) -> None:
    """Names of values are harmless before they come here; this does not rely on that."""
    for text in (word, f"x{word}", f"x ?{word}"):
        assert code_of(f"int a;  // {comment(text)}\nint b;") == ["int a;", "int b;"]
        assert code_of(f"int a; /* {comment(text)} */\nint b;") == ["int a;", "int b;"]


@pytest.mark.compiler
def test_the_compiler_reads_the_same_tokens(tmp_path: Path) -> None:
    """The judge of what is a comment is the compiler."""
    compiler = find_compiler()
    assert compiler is not None
    found = []
    for word in ("v", "".join(w for w in HOSTILE if "\x00" not in w)):
        source = tmp_path / "text.c"
        source.write_text(text_of(word), encoding="utf-8")
        command = [*compiler.command, "-std=c11", "-E", "-P", str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(done.stdout)
    assert found[0] == found[1]
    assert "evil" not in found[1]


@pytest.mark.compiler
def test_a_hostile_model_runs() -> None:
    found: list[Any] = []
    x = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)
    i = np.arange(30).reshape(6, 5) % 12
    for word in ("v", HOSTILE[3]):
        found.append(compile_graph(import_model(model(word))).run([x, i])[0])
    np.testing.assert_array_equal(found[0], found[1])


def test_sizes_are_named_by_identifiers_or_not_at_all() -> None:
    graph = helper.make_graph(
        [helper.make_node("Exp", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n; evil();", "*/", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    assert "evil" not in "\n".join(code_of(build(import_model(proto), Target(32)).text))


# What the text calls variables of its own, and what the compiler's symbols are called.
OWN_NAMES = [("rows", "columns"), ("columns", "rows"), ("n1", "n0"), ("b0", "i0"), ("m", "p"),
             ("thread", "tasks"), ("first", "last"), ("i100", "i101")]  # fmt: skip


CONV = "stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1"


@pytest.mark.compiler
@pytest.mark.parametrize(("a", "b"), OWN_NAMES)
def test_sizes_may_have_the_names_of_variables(a: str, b: str) -> None:
    """Here, names of sizes that are multiples of others: the symbols stay in the text."""
    graph = parse_graph(
        f"""
graph g(%x: f32[2, 3, 4*{a}, 2*{b}], %u: f32[2*{a}, 5], %v: f32[5, 3*{b}]):
  const %w: f32[4, 3, 3, 3]
  %1: f32[2, 4, 4*{a}, 2*{b}] = conv(%x, %w, {CONV})
  %2: f32[2, 4, 4*{a}, 2*{b}] = relu(%1)
  %3: f32[2*{a}, 3*{b}] = matmul(%u, %v)
  %4: f32[2*{a}, 3*{b}] = tanh(%3)
  return %2 as y, %4 as z
""",
        {"w": RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)},
    )
    executable = compile_graph(graph)
    for m, n in ((4, 6), (1, 3)):
        shapes = ((2, 3, 4 * m, 2 * n), (2 * m, 5), (5, 3 * n))
        arrays = [RNG.normal(size=s).astype(np.float32) for s in shapes]
        for got, want in zip(executable.run(arrays), interpret(graph, arrays), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)

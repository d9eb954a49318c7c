from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import onnx

from dualgraph.cli.inspect import peak_bytes
from dualgraph_compiler.graph import parse_graph
from tests.cli.conftest import Invoke, fails_with_one_line
from tests.onnx.helpers import make_model


def test_summary(dualgraph: Invoke, scale: Path) -> None:
    result = dualgraph("inspect", scale)
    assert result.exit_code == 0
    rows = {line.split("  ")[0]: line for line in result.stdout.splitlines()}
    assert "x: f32[batch, 3]" in result.stdout
    assert "a: i64[]" in rows["input"]
    assert "y: f32[batch, 3]" in rows["output"]
    assert "3: Mul, Cast, Add" in rows["operators"]
    assert "3 nodes" in rows["graph"]
    assert "3 in 1 tensors, 12 B" in rows["parameters"]
    assert "with batch = 1" in rows["memory"]
    assert "= mul(%x, " in result.stdout


def test_a_model_in_steps(dualgraph: Invoke, tmp_path: Path) -> None:
    node = onnx.helper.make_node
    model = make_model(
        [
            node("SplitToSequence", ["x"], ["parts"]),
            node("SequenceAt", ["parts", "at"], ["part"]),
            node("Neg", ["part"], ["y"]),
        ],
        {"x": ["n", 3], "at": []},
        ["y"],
        dtypes={"at": onnx.TensorProto.INT64},
    )
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    result = dualgraph("inspect", path)
    assert result.exit_code == 0
    assert "x: tensor(float) ['n', 3]" in result.stdout
    assert "'part' (SequenceAt): on Python values" in result.stdout
    assert "graph of 1 nodes (Neg): made when it runs" in result.stdout
    fails_with_one_line(dualgraph("inspect", path, "--kernels"), "SequenceAt")


def test_optimized_graph_and_page(dualgraph: Invoke, scale: Path, tmp_path: Path) -> None:
    page = tmp_path / "scale.html"
    result = dualgraph("inspect", scale, "--optimized", "--no-graph", "--html", page)
    assert result.exit_code == 0
    assert "after optimisation" in result.stdout
    assert "mul(" not in result.stdout
    text = page.read_text()
    HTMLParser().feed(text)
    assert "<svg" in text


def test_kernels(dualgraph: Invoke, scale: Path) -> None:
    result = dualgraph("inspect", scale, "--no-graph", "--kernels")
    assert result.exit_code == 0
    kernels = result.stdout.partition("kernels\n")[2]
    assert "mul(%x" in kernels
    assert "cast(%a" in kernels


def test_names_from_the_file_cannot_steer_the_terminal(
    dualgraph: Invoke, scale: Path, tmp_path: Path
) -> None:
    model = onnx.load(scale)
    model.producer_name = "\x1b[2J[bold]x[/bold]"
    hostile = tmp_path / "hostile.onnx"
    onnx.save(model, hostile)
    result = dualgraph("inspect", hostile)
    assert result.exit_code == 0
    assert "\x1b[2J" not in result.stdout
    assert "?[2J[bold]x[/bold]" in result.stdout


def test_text_in_the_file_that_is_not_utf8(dualgraph: Invoke, scale: Path) -> None:
    model = onnx.load(scale)
    model.graph.node[0].doc_string = "model.py:123456"
    data = model.SerializeToString()
    scale.write_bytes(data.replace(b"model.py:123456", b"\xff" * 15))
    assert dualgraph("inspect", scale).exit_code == 0
    scale.write_bytes(data.replace(b"Cast", b"\xff" * 4))
    fails_with_one_line(dualgraph("inspect", scale), "scale.onnx", "operator")


def test_peak_memory_counts_what_is_alive_at_once() -> None:
    chain = parse_graph(
        """graph chain(%x: f32[batch, 10]):
          %1: f32[batch, 10] = exp(%x)
          %2: f32[batch, 10] = exp(%1)
          %3: f32[batch, 20] = concat(%2, %2, axis=1)
          return %3 as y"""
    )
    assert peak_bytes(chain) == 40 + 80  # the last step, with batch = 1


def test_bad_files(dualgraph: Invoke, tmp_path: Path) -> None:
    garbage, empty = tmp_path / "garbage.onnx", tmp_path / "empty.onnx"
    garbage.write_bytes(b"\xff" * 100)
    empty.write_bytes(b"")
    fails_with_one_line(dualgraph("inspect", garbage), "garbage.onnx", "not an ONNX model")
    fails_with_one_line(dualgraph("inspect", empty), "empty.onnx", "empty")
    fails_with_one_line(dualgraph("inspect", tmp_path), "folder")
    fails_with_one_line(dualgraph("inspect", tmp_path / "nowhere.onnx"), "nowhere.onnx")
    fails_with_one_line(dualgraph("inspect", tmp_path / "two\nlines"), "two lines")


def test_every_truncation_is_one_line_or_fine(
    dualgraph: Invoke, scale: Path, tmp_path: Path
) -> None:
    data = scale.read_bytes()
    cut = tmp_path / "cut.onnx"
    for size in range(0, len(data), 7):
        cut.write_bytes(data[:size])
        result = dualgraph("run", cut)
        if result.exit_code != 0:
            fails_with_one_line(result)


def test_a_page_that_cannot_be_written(dualgraph: Invoke, scale: Path, tmp_path: Path) -> None:
    fails_with_one_line(dualgraph("inspect", scale, "--html", tmp_path), "folder")
    fails_with_one_line(dualgraph("inspect", scale, "--html", tmp_path / "no" / "x.html"), "no")

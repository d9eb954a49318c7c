from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dualgraph.cli import main
from dualgraph_compiler.graph import parse_graph
from dualgraph_compiler.onnx import export_graph, save_model

Invoke = Callable[..., Result]


@pytest.fixture
def dualgraph(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs the command line in this process, at a fixed width."""
    monkeypatch.setenv("COLUMNS", "100")

    def invoke(*args: object) -> Result:
        return CliRunner().invoke(main, [str(a) for a in args], catch_exceptions=False)

    return invoke


@pytest.fixture
def scale(tmp_path: Path) -> Path:
    """A model: y = x * w + a, x f32[batch, 3], a i64[]."""
    graph = parse_graph(
        """graph scale(%x: f32[batch, 3], %a: i64[]):
          param %w: f32[3] = [1.0, 2.0, 3.0]
          %1: f32[batch, 3] = mul(%x, %w)
          %2: f32[] = cast(%a, dtype=f32)
          %3: f32[batch, 3] = add(%1, %2)
          return %3 as y"""
    )
    path = tmp_path / "scale.onnx"
    save_model(export_graph(graph), path)
    return path


def fails_with_one_line(result: Result, *words: str) -> None:
    """Status 2, nothing but one line on standard error, with these words in it."""
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr

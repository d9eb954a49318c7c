"""The whole demo, shortened; what it leaves behind; how it fails."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest

import dualgraph as dg
from dualgraph.cli.demo import deploy, graphs, steps
from dualgraph.cli.demo.train import Shifted, predict
from dualgraph.cli.report.charts import Axis, Line, digit, line_chart
from dualgraph_compiler.errors import DualGraphError
from dualgraph_models.datasets import digits_split
from dualgraph_models.digits_cnn import DigitsCNN
from tests.cli.conftest import Invoke, fails_with_one_line


class Run(NamedTuple):
    folder: Path
    text: str


def test_the_whole_demo(dualgraph: Invoke, tmp_path: Path) -> None:
    """One run, of two epochs, for everything that can be seen of it."""
    folder = tmp_path / "new" / "place"
    result = dualgraph("demo", "--epochs", 2, "--out", folder, "--seed", 3)
    assert (result.exit_code, result.stderr) == (0, "")
    run = Run(folder, result.stdout)
    it_tells_the_whole_story(run)
    it_leaves_three_files(run)
    the_onnx_file_is_the_model(run)
    the_weights_are_those_of_the_model(run)
    the_page_stands_alone(run)


def it_tells_the_whole_story(run: Run) -> None:
    for words in (
        "1,415 to train on, 382 held out",
        "Before: 12 nodes",
        "After: 9 nodes",
        "batch_norm(%1, features.1)  # digits_cnn.py:",
        "merge common subexpressions",
        "Pointwise grouping",
        "accepted by onnx.checker",
        "382 of 382",
        "eager",
        "traced",
        "3 batch norms folded into convolutions",
        "same predictions",
    ):
        assert words in run.text
    assert "onnxruntime" in run.text


def it_leaves_three_files(run: Run) -> None:
    names = ["digits.html", "digits.onnx", "digits.safetensors"]
    assert sorted(p.name for p in run.folder.iterdir()) == names


def the_onnx_file_is_the_model(run: Run) -> None:
    model = onnx.load(run.folder / "digits.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {n.op_type for n in model.graph.node} >= {"Conv", "BatchNormalization", "Relu"}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def the_weights_are_those_of_the_model(run: Run) -> None:
    import dualgraph_runtime as rt

    model = DigitsCNN()
    model.load_state_dict(dg.load(run.folder / "digits.safetensors"))
    model.eval()
    images = digits_split().test_images[:7]
    session = rt.InferenceSession(run.folder / "digits.onnx")
    (scores,) = session.run(None, {"x": images})
    np.testing.assert_allclose(scores, predict(model, images).numpy(), rtol=1e-4, atol=1e-4)


def the_page_stands_alone(run: Run) -> None:
    page = (run.folder / "digits.html").read_text(encoding="utf-8")
    check_html(page)
    for word in ("src=", "<script", "<link", "url(http", "@import"):
        assert word not in page
    assert page.count("<figure") >= 20
    assert "prefers-color-scheme: dark" in page
    assert page.count("<svg") - page.count('class="digit"') == 4  # two charts, two graphs


def check_html(page: str) -> None:
    """Every element that must be closed is, in the right order, and ids are unique."""
    open_tags: list[str] = []
    ids: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            ids.extend(v for k, v in attrs if k == "id" and v)
            if tag not in ("meta", "br"):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            ids.extend(v for k, v in attrs if k == "id" and v)

    checker = Checker()
    checker.feed(page)
    checker.close()
    assert open_tags == []
    assert len(ids) == len(set(ids))


def test_a_place_that_cannot_be(dualgraph: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    fails_with_one_line(dualgraph("demo", "--out", file), str(file))
    fails_with_one_line(dualgraph("demo", "--out", file / "below"), str(file))
    fails_with_one_line(dualgraph("demo", "--epochs", 0), "--epochs")


def test_a_failure_keeps_the_files_of_the_last_run(
    dualgraph: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("digits.onnx", "digits.safetensors", "digits.html"):
        (tmp_path / name).write_text("precious")

    def fails(*args: object, **options: object) -> None:
        raise DualGraphError("out of luck")

    monkeypatch.setattr(steps, "train", fails)
    result = dualgraph("demo", "--out", tmp_path)
    assert (result.exit_code, result.stderr) == (2, "error: out of luck\n")
    assert {p.read_text() for p in tmp_path.iterdir()} == {"precious"}


def test_disagreement_is_seen() -> None:
    eager = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    assert deploy.compare("same", eager + 1e-6, eager).is_good
    assert not deploy.compare("shifted", eager + 1, eager).is_good
    other = deploy.compare("swapped", eager[:, ::-1], eager)
    assert (other.same, other.images, other.largest_difference) == (0, 2, 1.0)


def test_a_standalone_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(DualGraphError, match="standalone process failed: .*no.onnx"):
        deploy.run_standalone(tmp_path / "no.onnx", np.zeros((1, 1, 8, 8), np.float32))


def test_the_standalone_process_cannot_import_dualgraph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "SHOWN", "import dualgraph")
    with pytest.raises(DualGraphError, match="dualgraph is blocked"):
        deploy.run_standalone(tmp_path / "any.onnx", np.zeros((1, 1, 8, 8), np.float32))


def test_tracing_leaves_the_model_as_it_was() -> None:
    model = DigitsCNN()
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    graphs.trace_training_step(model)
    graphs.trace_inference(model)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[key])
    assert all(p.grad is None for p in model.parameters())


def test_every_pass_has_something_to_do() -> None:
    model = DigitsCNN()
    records = [
        *graphs.trace_inference(model).report.passes,
        *graphs.trace_training_step(model).report.passes,
    ]
    removing = {r.name for r in records if r.after < r.before}
    assert removing >= {
        "fold batch norm",
        "fold constants",
        "merge common subexpressions",
        "remove dead code",
    }


def test_shifts_move_by_one_pixel_and_lose_no_label() -> None:
    image = np.zeros((1, 1, 8, 8), np.float32)
    image[0, 0, 4, 4] = 1
    data = Shifted(image, np.array([7]), seed=0)
    found = set()
    for _ in range(200):
        moved, label = data[0]
        assert (moved.shape, label) == ((1, 8, 8), 7)
        found.add(tuple(np.argwhere(moved[0])[0]))
    assert found == {(y, x) for y in (3, 4, 5) for x in (3, 4, 5)}


def test_axes_hold_their_values() -> None:
    axis = Axis.log([2.0, 0.01])
    assert axis.place(axis.low) == 0
    assert axis.place(axis.high) == pytest.approx(1)
    assert 0 < axis.place(0.01) < axis.place(0.1) < axis.place(2.0) < 1
    assert all(axis.low <= t <= axis.high for t in axis.ticks)
    assert len(axis.ticks) >= 2
    assert Axis.percent([0.3, 0.96, 0.98, 0.97]).low == 0.95
    assert Axis.percent([0.3]).low == 0.0
    assert Axis.percent([1.0]).ticks[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.25], [0.0, 1e-9, 3.0] * 20])
def test_charts_of_any_length(values: list[float]) -> None:
    chart = line_chart("Loss", [Line("loss", "test", values)], Axis.log(values))
    check_html(chart)
    assert chart.count("<circle") == len(values)
    assert "nan" not in chart


def test_a_digit_escapes_its_label() -> None:
    assert "&lt;b&gt;" in digit(np.eye(8), "<b>")

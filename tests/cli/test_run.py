from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli.conftest import Invoke, fails_with_one_line
from tests.onnx.helpers import make_model


def test_given_inputs(dualgraph: Invoke, scale: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 3), np.float32))
    np.save(tmp_path / "a.npy", np.int64(10))
    out = tmp_path / "out.npz"
    result = dualgraph(
        "run",
        scale,
        "-i",
        f"x={tmp_path / 'x.npy'}",
        "-i",
        f"a={tmp_path / 'a.npy'}",
        "--save",
        out,
    )
    assert result.exit_code == 0
    assert "y: float32[2, 3]" in result.stdout
    assert "[[11. 12. 13.]\n [11. 12. 13.]]" in result.stdout
    assert "random" not in result.stdout
    with np.load(out) as saved:
        np.testing.assert_array_equal(saved["y"], [[11, 12, 13]] * 2)


def test_random_inputs_follow_the_seed_and_the_sizes(dualgraph: Invoke, scale: Path) -> None:
    def table(*args: object) -> str:
        result = dualgraph("run", scale, *args)
        assert result.exit_code == 0
        return result.stdout.rpartition("\n\n")[0]  # without the time

    assert "y: float32[1, 3]" in table()
    assert "y: float32[5, 3]" in table("--dim", "batch=5")
    assert table() == table("--seed", 0)
    assert table() != table("--seed", 1)


def test_sizes_of_expressions_follow_those_of_names(dualgraph: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    node = onnx.helper.make_node("Exp", ["x"], ["y"])
    onnx.save(make_model([node], {"x": ["2*n + 1", "what; ever", None]}, ["y"]), path)
    assert "y: float32[7, 1, 1]" in dualgraph("run", path, "--dim", "n=3").output


def test_profile(dualgraph: Invoke, scale: Path) -> None:
    text = dualgraph("run", scale, "--repeat", 4, "--profile").stdout
    assert "4 runs, " in text
    assert "median us" in text
    assert "mul(" in text
    assert "calls and results" in text


def test_repeat(dualgraph: Invoke, scale: Path) -> None:
    assert "median of 4 runs" in dualgraph("run", scale, "--repeat", 4).stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-i", "z=x.npy"], ["--input z", "'x', 'a'"]),
        (["-i", "x"], ["NAME=FILE.npy", "'x'"]),
        (["-i", "x="], ["NAME=FILE.npy"]),
        (["-i", "x=nowhere.npy"], ["--input x", "nowhere.npy", "no such file"]),
        (["-i", "x=."], ["--input x", "no such file"]),
        (["-i", "x=x.npy", "-i", "x=x.npy"], ["twice"]),
        (["-i", "x=wide.npy"], ["'x'", "[batch, 3]", "[1, 4]"]),
        (["-i", "x=double.npy"], ["'x'", "float32", "float64"]),
        (["-i", "x=text.npy"], ["'x'", "float32", "<U1"]),
        (["-i", "x=objects.npy"], ["not a .npy file of plain values"]),
        (["-i", "x=truncated.npy"], ["truncated.npy", "not a .npy file"]),
        (["-i", "x=claims.npy"], ["claims.npy", "not a .npy file"]),
        (["-i", "x=garbled.npy"], ["garbled.npy", "not a .npy file"]),
        (["-i", "x=empty.npy"], ["empty.npy", "not a .npy file"]),
        (["-i", "x=words.npy"], ["words.npy", "not a .npy file"]),
        (["-i", "x=archive.npz"], ["archive.npz", "archive"]),
        (["-d", "batch=many"], ["--dim batch", "'many'"]),
        (["-d", "batch=-1"], ["--dim batch", "'-1'"]),
        (["-d", "height=3"], ["--dim height", "'batch'"]),
        (["-d", "batch=999999999999"], ["'x'", "GiB", "--input"]),
        (["--save", "nowhere/out.npz"], ["nowhere"]),
        (["--save", "."], ["folder"]),
        (["--repeat", "0"], ["--repeat"]),
        (["--seed", "-1"], ["--seed"]),
        (["--sed", "1"], ["--sed", "dualgraph run --help"]),
    ],
)
def test_bad_options(
    dualgraph: Invoke,
    scale: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bad_arrays()
    fails_with_one_line(dualgraph("run", scale, *args), *words)


def write_bad_arrays() -> None:
    np.save("x.npy", np.ones((1, 3), np.float32))
    np.save("wide.npy", np.ones((1, 4), np.float32))
    np.save("double.npy", np.ones((1, 3)))
    np.save("text.npy", np.array([["a", "b", "c"]]))
    np.save("objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez("archive.npz", x=np.ones(3))
    good = Path("x.npy").read_bytes()
    Path("truncated.npy").write_bytes(good[:-1])
    Path("claims.npy").write_bytes(good.replace(b"(1, 3), }", b"(1000000000000, 3), }"))
    Path("garbled.npy").write_bytes(good.replace(b"(1, 3), }", b"((((((((("))
    Path("empty.npy").write_bytes(b"")
    Path("words.npy").write_bytes(b"these are words")


def test_a_failed_save_keeps_the_old_file(
    dualgraph: Invoke, scale: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.npz"
    out.write_bytes(b"precious")

    def full_disk(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.lib.format.write_array", full_disk)
    result = dualgraph("run", scale, "--save", out)
    assert result.exit_code == 2
    assert result.stderr == f"error: cannot write {out}: No space left on device\n"
    assert out.read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.npz", "scale.onnx"]


def test_an_absent_gpu_is_an_error(dualgraph: Invoke, scale: Path) -> None:
    from dualgraph_runtime import Device

    if Device("cuda").is_available():
        pytest.skip("there is a GPU")
    fails_with_one_line(dualgraph("run", scale, "--cuda"), "cuda")

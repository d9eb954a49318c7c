"""``python -m dualgraph.torch``: programs that import torch, run by dualgraph."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import dualgraph as dg
from dualgraph.torch import installed
from dualgraph.torch.finder import Mirror, has
from dualgraph.torch.missing import explanation
from dualgraph_compiler.errors import DualGraphError

ROOT = Path(dg.__file__).parents[1]
FOLDERS = [str(ROOT), *(str(ROOT / name) for name in ("compiler", "runtime", "models"))]


def run(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*FOLDERS, os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "dualgraph.torch", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def test_a_script_sees_itself_as_python_would_run_it(tmp_path: Path) -> None:
    # A torch on the path, which nobody imports.
    write(tmp_path, "torch/__init__.py", "raise SystemExit('the other torch was imported')")
    write(tmp_path, "helper.py", "import torch\nONES = torch.ones(2)\n")
    script = write(
        tmp_path,
        "main.py",
        """
        import sys
        import torch
        from torch import nn, optim
        import torch.nn.functional as F
        from torch.utils.data import DataLoader
        from helper import ONES
        print(sys.argv[1:], sys.argv[0] == __file__, __name__, __spec__)
        print(isinstance(nn.Linear(1, 1).weight, torch.Tensor), F.relu(ONES - 1).tolist())
        print(torch.__version__.split("+")[1], torch.trace(torch.eye(3)).item())
        print(sys.modules["__main__"].torch is torch)
        """,
    )
    done = run(tmp_path, str(script), "--epochs", "-m")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "['--epochs', '-m'] True __main__ None",
        "True [0.0, 0.0]",
        "dualgraph 3.0",
        "True",
    ]


def test_modules_code_and_standard_input(tmp_path: Path) -> None:
    write(tmp_path, "pack/__init__.py", "")
    line = "import sys, torch; print(__package__, sys.argv[1:], torch.ones(1).item())"
    write(tmp_path, "pack/__main__.py", line)
    assert run(tmp_path, "-m", "pack", "a").stdout == "pack ['a'] 1.0\n"
    assert run(tmp_path, "-c", line, "-c").stdout == "None ['-c'] 1.0\n"
    assert run(tmp_path, "-", stdin=line).stdout == "None [] 1.0\n"


def test_what_cannot_be_run_is_said_in_a_line(tmp_path: Path) -> None:
    nowhere = run(tmp_path, "nowhere.py")
    assert nowhere.returncode == 2
    assert "can't open file" in nowhere.stderr
    assert "Traceback" not in nowhere.stderr
    assert "No module named nowhere" in run(tmp_path, "-m", "nowhere").stderr


def test_tracebacks_begin_in_the_script(tmp_path: Path) -> None:
    script = write(tmp_path, "main.py", "import torch\ntorch.ones(2).to_sparse()\n")
    done = run(tmp_path, "main.py")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[:2] == [
        "Traceback (most recent call last):",
        '  File "main.py", line 2, in <module>',
    ]
    assert "no attribute 'to_sparse'" in done.stderr
    assert "there are no sparse layouts" in lines[-1]
    script.write_text("import torch\ntorch.nn.Linear(1, 1).share_memory()\n")
    assert "there are no storage objects" in run(tmp_path, "main.py").stderr
    script.write_text("import torch\nif:\n")
    assert run(tmp_path, "main.py").stderr.startswith('  File "main.py", line 2')


WORKERS = """
import torch
from torch.utils.data import DataLoader, Dataset


class Numbers(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        import torch.nn.functional as F

        return F.relu(torch.tensor([float(i)])), torch.__version__


def note(number, path):
    import torch

    with open(path, "w") as file:
        file.write(f"process {number}: {torch.ones(2).sum().item()}")


if __name__ == "__main__":
    for how in ("fork", "spawn"):
        for x, version in DataLoader(
            Numbers(), batch_size=4, num_workers=1, multiprocessing_context=how
        ):
            print(how, x.flatten().tolist(), version[0].endswith("dualgraph"))
    torch.multiprocessing.spawn(note, args=("noted",), nprocs=1)
    print(open("noted").read())
    try:
        torch.multiprocessing.spawn(note, args=("nowhere/noted",), nprocs=1)
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[-1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is one of the two ways")
def test_worker_processes_know_torch_too(tmp_path: Path) -> None:
    write(tmp_path, "main.py", WORKERS)
    done = run(tmp_path, "main.py")
    assert done.stdout.splitlines()[:3] == [
        "fork [0.0, 1.0, 2.0, 3.0] True",
        "spawn [0.0, 1.0, 2.0, 3.0] True",
        "process 0: 2.0",
    ], done.stderr
    assert "ProcessRaisedException FileNotFoundError" in done.stdout


def test_names_that_are_missing(tmp_path: Path) -> None:
    script = """
    import importlib.util
    import torch, torch.nn.functional as F

    def tell(statement):
        try:
            exec(statement, globals())
        except (ImportError, AttributeError) as error:
            print(type(error).__name__, error)

    tell("F.grid_smaple")
    tell("from torch import sparse_coo_tensor")
    tell("import torch.fx")
    tell("from torch.nn import relu")
    tell("torch.nothing_like_it")
    print(hasattr(torch, "sparse_coo_tensor"), importlib.util.find_spec("torch.fx"))
    """
    lines = run(tmp_path, "-c", textwrap.dedent(script)).stdout.splitlines()
    assert lines[0] == (
        "AttributeError torch.nn.functional.grid_smaple is missing: PyTorch 2.13 has no such "
        "public name either. Near it: grid_sample."
    )
    assert lines[1] == (
        "ModuleNotFoundError torch.sparse_coo_tensor is missing: elements are always strided and "
        "dense: there are no sparse layouts."
    )
    assert lines[2].startswith("ModuleNotFoundError torch.fx is missing: graphs are made by")
    assert lines[3].endswith("There is torch.relu.")
    assert "nothing_like_it is missing" in lines[4]
    assert lines[5] == "False None"


def test_modules_share_what_is_assigned() -> None:
    import dualgraph.nn.functional as F

    if "torch" in sys.modules:
        with pytest.raises(DualGraphError, match="imported already"), installed():
            pass
        return
    with installed():
        import torch.nn.functional as mirror

        assert isinstance(mirror, Mirror)
        assert mirror.relu is F.relu
        import torch.nn.modules.activation as activation
        from torch.nn.modules.batchnorm import _BatchNorm
        from torch.nn.modules.utils import _pair

        assert activation.MultiheadAttention is dg.nn.MultiheadAttention
        assert isinstance(dg.nn.BatchNorm1d(2), _BatchNorm)
        assert (_pair(3), _pair([1, 2])) == ((3, 3), (1, 2))
        kept = F.relu
        try:
            mirror.relu = F.gelu
            assert F.relu is F.gelu
        finally:
            mirror.relu = kept
    assert "torch" not in sys.modules


def test_the_front_end_says_why_a_name_is_missing() -> None:
    with pytest.raises(AttributeError, match="no sparse layouts"):
        dg.sparse_coo_tensor  # noqa: B018
    with pytest.raises(AttributeError, match="Near it: grid_sample"):
        raise AttributeError(explanation("torch.nn.functional", "grid_sampel", ["grid_sample"]))
    assert has("torch", "nn")
    assert has("torch.Tensor", "sum")
    assert not has("torch", "cli")

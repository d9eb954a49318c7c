"""What editors, type checkers and `help` know: annotations, signatures, docstrings."""

from __future__ import annotations

import importlib
import inspect
import os
import pydoc
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dualgraph as dg
import dualgraph.nn.functional as F

MODULES = (
    "dualgraph",
    "dualgraph.autograd",
    "dualgraph.compiler",
    "dualgraph.cuda",
    "dualgraph.jit",
    "dualgraph.nn",
    "dualgraph.nn.functional",
    "dualgraph.nn.init",
    "dualgraph.nn.utils",
    "dualgraph.optim",
    "dualgraph.optim.lr_scheduler",
    "dualgraph.optim.swa_utils",
    "dualgraph.testing",
    "dualgraph.utils.data",
)


def public(module: str) -> Iterator[tuple[str, Any]]:
    """Public functions and classes of a module, by full name."""
    found = importlib.import_module(module)
    names = getattr(found, "__all__", None) or [n for n in dir(found) if not n.startswith("_")]
    for name in names:
        value = getattr(found, name)
        ours = (getattr(value, "__module__", None) or "").startswith("dualgraph")
        if callable(value) and ours and not inspect.ismodule(value):
            yield f"{module}.{name}", value


@pytest.mark.parametrize("module", MODULES)
def test_everything_is_documented_and_annotated(module: str) -> None:
    for name, value in public(module):
        assert inspect.getdoc(value), name
        if inspect.isclass(value):
            continue  # mypy checks their methods
        parameters = inspect.signature(value).parameters.values()
        bare = [p.name for p in parameters if p.annotation is p.empty]
        assert not bare, f"{name}: {bare}"
        assert inspect.signature(value).return_annotation is not inspect.Signature.empty, name


def test_every_method_of_tensor_is_documented() -> None:
    for name in dir(dg.Tensor):
        value = inspect.getattr_static(dg.Tensor, name)
        if inspect.isfunction(value) and not name.startswith("_"):
            assert value.__doc__, name
            first = next(iter(inspect.signature(value).parameters), None)
            assert first is not None, name


# Words in which a docstring says what the sizes of arguments and result are.
SIZES = re.compile(
    r"\[|[Ss]hape|element|dimension|\bdims?\b|\bsizes?\b|\baxes\b|vector|matri|lists? "
)


def test_functionals_tell_their_shapes() -> None:
    untold = [n for n, f in public("dualgraph.nn.functional") if not SIZES.search(f.__doc__)]
    assert not untold


def test_functions_of_tensors_tell_their_shapes() -> None:
    functions = {n: f for n in dg.__all__ if inspect.isfunction(f := getattr(dg, n))}
    of_tensors = {
        n: f for n, f in functions.items() if "Tensor" in str(f.__annotations__.get("return"))
    }
    assert len(of_tensors) > 300
    assert not [n for n, f in of_tensors.items() if not SIZES.search(f.__doc__)]


# What holds modules, and bases of others.
HOLDERS = {"Module", "ModuleDict", "ParameterDict", "RNNBase", "RNNCellBase", "Sequential"}


def test_layers_tell_their_shapes() -> None:
    untold = set()
    for name, layer in public("dualgraph.nn"):
        short = name.rpartition(".")[2]
        lazy_or_options = short.startswith("Lazy") or short.endswith("Options")
        if not lazy_or_options and not SIZES.search(inspect.getdoc(layer) or ""):
            untold.add(short)
    assert untold <= HOLDERS


def test_help_is_useful() -> None:
    text = pydoc.render_doc(F.conv2d, renderer=pydoc.plaintext)
    for word in ("[N, C, H, W]", "stride: ", "groups: ", "ShapeError", "-> 'Tensor'"):
        assert word in text, word
    text = pydoc.render_doc(dg.Tensor.add_, renderer=pydoc.plaintext)
    assert "alpha" in text
    assert "In-place version of `add`" in text


SAMPLE = """
from typing import assert_type

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import Tensor, nn, optim

x = dg.randn(2, 3)
for y in (
    x + 1, 2 * x, x @ x.T, -x, x / x, x**2, x == x, x < 1, x[0], x[:, None], x.sum(1), x.mean(),
    x.add_(1), x.sqrt_(), x.clamp_(0, 1), x.view(-1), x.reshape(3, 2), x.permute(1, 0), x.T,
    x.float().long(), x.to("cpu"), x.relu().exp().clamp(0, 1), x.softmax(-1), x.real,
    x.unsqueeze(0).expand(4, 2, 3).contiguous(), x.detach().clone().requires_grad_(), x.norm(),
    dg.matmul(x, x), dg.cat([x, x]), dg.stack([x]), dg.relu(x), dg.conv2d(x, x), dg.zeros_like(x),
    F.softmax(x, dim=1), F.conv2d(x, x, padding=1), F.cross_entropy(x, x), F.linear(x, x),
):
    assert_type(y, Tensor)
assert_type(x.split(1), tuple[Tensor, ...])
assert_type(x.dim(), int)
assert_type(x.requires_grad, bool)
x += 1
x.grad = None
model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
optimizer = optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
scheduler = optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10)
assert_type(scheduler.get_last_lr(), list[float])
with dg.no_grad():
    loss: Tensor = model(x).sum()
loss.backward()
"""
WRONG = {
    "x.nonexistent()": "has no attribute",
    "x.add_()": "Too few arguments",
    "x.sum(dims=1)": "Unexpected keyword argument",
    'F.conv2d(x, x, groups="two")': "incompatible type",
    "nn.Linear(3)": "Missing positional argument",
    "optim.SGD(rate=1)": "Unexpected keyword argument",
}


def test_mypy_knows_tensors_functions_and_modules(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(SAMPLE + "\n".join(WRONG) + "\n")
    root = Path(dg.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(program)],
        cwd=root,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=280,
    )
    start = SAMPLE.count("\n") + 1
    for number, (line, expected) in enumerate(WRONG.items()):
        said = re.findall(rf"program.py:{start + number}: error: (.*)", done.stdout)
        assert said, f"{line} is taken\n{done.stdout}"
        assert expected in said[0], line
    others = [
        s
        for s in done.stdout.splitlines()
        if (m := re.search(r":(\d+): error", s)) and int(m[1]) < start
    ]
    assert not others

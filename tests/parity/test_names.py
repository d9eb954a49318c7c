"""The list of PyTorch's names, the page made of it, and ``dualgraph parity``."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from dualgraph.cli import main
from dualgraph.torch.absent import REASONS, reason
from dualgraph.torch.coverage import coverage
from tests.parity import page


def test_the_page_is_what_its_command_writes() -> None:
    assert page.PAGE.read_text() == page.text(), "run python -m tests.parity.page"


def test_the_list_is_that_of_the_installed_pytorch() -> None:
    torch = pytest.importorskip("torch")
    if not torch.__version__.startswith("2.13."):
        pytest.skip("the list is PyTorch 2.13's")
    done = subprocess.run([sys.executable, "-m", "tests.parity.names", "--check"], check=False)
    assert done.returncode == 0


def test_totals_of_the_page() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("expecttest")
    from tests.parity import modules, ops, optimizers

    kinds = {"ops": ops, "modules": modules, "optimizers": optimizers}
    assert {kind: len(source.entries()) for kind, source in kinds.items()} == page.TOTALS


def test_every_reason_is_one_of_some_name() -> None:
    told = {why for c in coverage() for why in c.left_out.values()}
    unlisted = {"torch.utils.tensorboard": "SummaryWriter"}  # a package of its own
    told |= {reason(f"{module}.{name}") or "" for module, name in unlisted.items()}
    assert told == {why for why, _ in REASONS}


def test_parity_command() -> None:
    whole = CliRunner().invoke(main, ["parity"], catch_exceptions=False).output
    assert "torch.nn.functional" in whole
    part = CliRunner().invoke(main, ["parity", "torch.hub", "--left-out"], catch_exceptions=False)
    assert "torch.hub.load: downloading code" in part.output
    refused = CliRunner().invoke(main, ["parity", "torch.nowhere"], catch_exceptions=False)
    assert refused.exit_code == 2
    assert "torch.nowhere" in refused.output


@pytest.mark.parametrize(
    ("absent", "word"), [("torch", "dualgraph[parity]"), ("tests", "in a checkout")]
)
def test_measuring_needs_pytorch_and_a_checkout(
    absent: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dualgraph.cli import parity

    monkeypatch.setattr(
        parity.importlib.util, "find_spec", lambda name: None if name == absent else object()
    )
    refused = CliRunner().invoke(main, ["parity", "--measure"], catch_exceptions=False)
    assert refused.exit_code == 2
    assert word in refused.output

"""What agrees with PyTorch goes on agreeing: every entry that `differences.json` does not list.

``python -m tests.parity --write`` makes that file anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("expecttest")  # PyTorch's databases are made with it

# The databases and PyTorch's own samples warn of this and that.
pytestmark = pytest.mark.filterwarnings("ignore")

KNOWN = json.loads(Path(__file__).with_name("differences.json").read_text())
SAMPLES = 3  # of each dtype; the module's command runs all
PARTS = 24


@pytest.mark.parametrize("part", range(PARTS))
def test_ops(part: int) -> None:
    from tests.parity import ops

    _require("ops", ops, ops.entries()[part::PARTS])


@pytest.mark.parametrize("part", range(4))
def test_modules(part: int) -> None:
    from tests.parity import modules

    _require("modules", modules, modules.entries()[part::4])


def test_optimizers() -> None:
    from tests.parity import optimizers

    _require("optimizers", optimizers, optimizers.entries())


def _require(kind: str, source: Any, entries: list[Any]) -> None:
    outcomes = [source.run(e, SAMPLES) for e in entries if source.title(e) not in KNOWN[kind]]
    wrong = {o.name: o.missing or o.problems[:2] for o in outcomes if o.problems or o.missing}
    assert not wrong

"""Second derivatives and tangents that agree with PyTorch's go on agreeing.

``python -m tests.parity.derivatives --write`` makes the list of those that do not anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("expecttest")  # PyTorch's databases are made with it
pytestmark = pytest.mark.filterwarnings("ignore")

KNOWN = json.loads(Path(__file__).with_name("derivatives.json").read_text())
PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_second_derivatives_and_tangents(part: int) -> None:
    from tests.parity import derivatives

    chosen = [op for op in derivatives.differentiable() if derivatives.title(op) not in KNOWN]
    outcomes = [derivatives.run(op, 1) for op in chosen[part::PARTS]]
    wrong = {o.name: o.problems for o in outcomes if o.problems}
    assert not wrong

"""Capture cases: what compiled programs do is what they do eagerly, and what PyTorch does.

The programs are the tables in ``capture_cases``; ``capture_cases/harness.py`` says how to add one.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.tracing.capture_cases.harness import Case, check, check_against

TABLES = ["calling", "captured", "containers", "identity", "attributes", "parameters", "effects"]
TABLES += ["branches", "loops", "values", "shapes", "randomness", "autograd", "optimizers"]
TABLES += ["training", "inplace", "errors"]

CASES: dict[str, Case] = {
    f"{table}-{case.name}": case
    for table in TABLES
    for case in importlib.import_module(f"tests.tracing.capture_cases.{table}").cases
}


@pytest.mark.parametrize("name", CASES)
def test_compiled_is_eager(name: str) -> None:
    check(CASES[name])


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.torch is True])
def test_eager_is_torch(name: str, torch: Any) -> None:
    check_against(CASES[name], torch)

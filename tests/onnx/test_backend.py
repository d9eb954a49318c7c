"""ONNX's own test suite, run by ONNX's own runner.

Interpreted, as all tests are; ``DUALGRAPH_EXECUTION=native`` compiles every model first. The cases
for CUDA, which are those for the CPU once more, are left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.runner import Runner

from dualgraph_compiler.onnx.lift import operators
from dualgraph_compiler.onnx.stepwise.kinds import is_tensor_type
from dualgraph_compiler.onnx.values.reference import REFERENCE
from dualgraph_runtime.backend import DualGraphBackend
from tests.onnx.backend_cases import EXCLUDED
from tests.onnx.helpers import suite

KINDS = ("node", "real", "simple", "pytorch-converted", "pytorch-operator")


class Strict(DualGraphBackend):
    """A model that cannot run is no reason to skip its case."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        return True


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where the runner puts the inputs that it makes up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONNX_MODELS", str(tmp_path_factory.mktemp("models")))
        with np.errstate(all="ignore"):
            yield


def _tests() -> dict[str, type]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test import BackendTest

        runner = BackendTest(Strict, __name__)
    for name in EXCLUDED:
        runner.exclude(f"^{name}_cpu$")
    found: dict[str, type] = runner.test_cases
    for case in found.values():
        for name in [n for n in vars(case) if n.endswith("_cuda")]:
            delattr(case, name)
    return found


globals().update(_tests())


# Compiled, what rounds at every step does so less often, and passes.
FAILING = [
    pytest.param(name, marks=[pytest.mark.interpreted] if name.endswith("expanded") else [])
    for name in EXCLUDED
]


@pytest.mark.parametrize("name", FAILING)
def test_what_is_excluded_fails(name: str) -> None:
    (case,) = [c for kind in KINDS for c in suite(kind) if c.name == name]
    with pytest.raises((AssertionError, TypeError)):
        run_often(case)


def run_often(case: TestCase) -> None:
    """Run a case as ONNX's runner does, so often that draws do not agree by chance."""
    backend = DualGraphBackend.prepare(model_of(case))
    ((inputs, expected),) = case.data_sets or []
    for _ in range(8):
        found = backend.run(inputs)
        Runner.assert_similar_outputs(expected, found, rtol=case.rtol, atol=case.atol)


def is_numeric(model: onnx.ModelProto) -> bool:
    """Whether a model takes and gives tensors of numbers only."""
    return all(is_tensor_type(i.type) for i in (*model.graph.input, *model.graph.output))


def model_of(case: TestCase) -> onnx.ModelProto:
    if case.model is not None:
        return case.model
    root = Path(onnx.__file__).parents[1]
    path = Path(case.model_dir, "model.onnx") if case.model_dir else root / str(case.url)
    return onnx.load(path)


def test_shares(record_property: Callable[[str, object], None]) -> None:
    """Nearly all passes, and what computes on numbers does so without the reference."""
    every = [case for kind in KINDS for case in suite(kind)]
    names = {case.name for case in every}
    assert not EXCLUDED.keys() - names
    models = {case.name: model_of(case) for case in every}
    numeric = [name for name, model in models.items() if is_numeric(model)]
    referred = {n for n, m in models.items() if not REFERENCE.isdisjoint(operators(m))}
    own = [name for name in numeric if name not in referred and name not in EXCLUDED]
    passed = len(every) - len(EXCLUDED)
    share = len(own) / len(numeric)
    record_property(
        "figures",
        f"ONNX {onnx.__version__}'s suite: {passed} of {len(every)} cases pass "
        f"({passed / len(every):.1%}), {len(EXCLUDED)} are excluded, {len(referred)} take "
        f"onnx.reference; of {len(numeric)} numeric cases {len(own)} pass without it ({share:.1%})",
    )
    assert share >= 0.9

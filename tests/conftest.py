"""Fixtures and settings shared by every test."""

from __future__ import annotations

import functools
import importlib.util
import os
import random
import sys

import hypothesis
import numpy as np
import pytest

# The same examples on every run; HYPOTHESIS_PROFILE=explore looks for new ones.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


# Graphs are interpreted unless a test says otherwise: building thousands of them would take hours,
# and results would depend on when a build is done. Tests of native code ask for it.
os.environ.setdefault("DUALGRAPH_EXECUTION", "interpreter")


@functools.cache
def cuda_is_available() -> bool:
    if importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    return bool(cupy.is_available())


def compiler_is_available() -> bool:
    from dualgraph_runtime.native import find_compiler  # reads settings made above

    return find_compiler() is not None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") is not None and not cuda_is_available():
        pytest.skip("needs a CUDA GPU and CuPy")
    if item.get_closest_marker("compiler") is not None and not compiler_is_available():
        pytest.skip("needs a C compiler")
    native = os.environ["DUALGRAPH_EXECUTION"] != "interpreter"
    if native and item.get_closest_marker("interpreted") is not None:
        pytest.skip("eager code may run natively, too")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests measured: ``record_property("figures", ...)``, in whichever process."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figures":
                terminalreporter.write_line(str(value))


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Start every test from the same random state, in whatever libraries it has imported."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global generator is what needs seeding
    for name in ("dualgraph", "torch"):
        if (module := sys.modules.get(name)) is not None:
            module.manual_seed(0)

"""Tests of the GPU paths: on a real GPU where there is one, else on the stand-in for CuPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dualgraph_compiler.kernels.postponed import pending
from tests.conftest import cuda_is_available
from tests.fake_cupy import installed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where there is a GPU, ``pytest -m cuda`` selects what runs on it."""
    if cuda_is_available():
        for item in items:
            if "cupy" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.cuda)


@pytest.fixture
def cupy() -> Iterator[Any]:
    """The array module of ``Device("cuda")``."""
    pending.clear()
    if cuda_is_available():
        import cupy

        yield cupy
    else:
        with installed() as stand_in:
            yield stand_in

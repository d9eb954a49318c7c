"""Every op's samples on the device: values, and gradients, against those of NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.graph import Interpreter
from tests import test_ops as machinery
from tests.op_samples import OpSamples, Sample
from tests.test_ops import as_tuple, check_result, each_op, naming


def to_host(x: Any) -> Any:
    return x.get() if hasattr(x, "get") else x


def on_device(cupy: Any, arrays: Sequence[np.ndarray]) -> list[Any]:
    return [cupy.asarray(x) for x in arrays]


def same_type(x: Any, y: Any) -> bool:
    return bool(x.dtype == y.dtype and x.shape == y.shape)


def equal(x: Any, y: Any) -> bool:
    return np.array_equal(to_host(x), to_host(y))


@each_op
def test_values(cupy: Any, record: OpSamples) -> None:
    for i, sample in enumerate(record.samples):
        with naming(sample):
            inputs = on_device(cupy, sample.inputs)
            before = [to_host(x).tobytes() for x in inputs]
            got = as_tuple(sample.op.eager(cupy, *inputs))
            assert [to_host(x).tobytes() for x in inputs] == before, "an operand was changed"
            assert all(isinstance(y, cupy.ndarray) for y in got), "a result left the device"
            want = as_tuple(sample.op.eager(np, *sample.inputs))
            assert all(map(same_type, got, want)), "NumPy gives other dtypes or shapes"
            check_result(record, i, [to_host(y) for y in got], slack=10)


@each_op
def test_interpreter(cupy: Any, record: OpSamples) -> None:
    for i, sample in enumerate(record.samples[:2]):
        with naming(sample):
            got = Interpreter(machinery.build(sample), cupy).run(on_device(cupy, sample.inputs))
            assert all(isinstance(y, cupy.ndarray) for y in got)
            check_result(record, i, [to_host(y) for y in got], slack=10)


@each_op
def test_gradients(cupy: Any, record: OpSamples) -> None:
    if not record.op.differentiable:
        pytest.skip("not differentiable")
    for sample in record.samples:
        with naming(sample):
            check_gradients(cupy, record, sample)


def check_gradients(cupy: Any, record: OpSamples, sample: Sample) -> None:
    y = sample.op.eager(np, *sample.inputs)
    if not any(map(machinery.is_differentiable, as_tuple(y))):
        return
    g = machinery.output_grads(y, lambda v: machinery.noise(v, 1))
    want = machinery.vjp(sample.op, g, y, sample.inputs)

    def upload(x: Any) -> Any:
        return None if x is None else cupy.asarray(x)

    inputs = on_device(cupy, sample.inputs)
    there = sample.op.eager(cupy, *inputs)
    if record.check is not None and not all(map(equal, as_tuple(there), as_tuple(y))):
        return  # the order of the results is left open, and so is that of the gradients
    grads = tuple(map(upload, g)) if isinstance(g, tuple) else upload(g)
    for a, b in zip(machinery.vjp(sample.op, grads, there, inputs), want, strict=True):
        assert (a is None) == (b is None)
        if a is None:
            continue
        assert isinstance(a, cupy.ndarray), "a gradient left the device"
        assert same_type(a, b)
        machinery.compare(to_host(a), np.asarray(b), sample.tol, slack=100)

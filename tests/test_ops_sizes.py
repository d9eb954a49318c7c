"""Every op's samples with symbolic sizes, run at sizes other than the sample's.

What `infer` promises for symbolic sizes must be what it says for the numbers, and what comes out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from dualgraph_compiler.dims import Dim, evaluate
from dualgraph_compiler.dtypes import dtype_of
from dualgraph_compiler.errors import DualGraphError, ShapeError
from dualgraph_compiler.graph import interpret
from dualgraph_compiler.types import TensorType, type_of

from .op_samples import OpSamples, Sample
from .test_ops import RECORDS, as_tuple, build, naming

WITH_OPERANDS = {k: r for k, r in RECORDS.items() if any(s.inputs for s in r.samples)}


def sizes_to_try(sample: Sample) -> Iterator[dict[str, int]]:
    """Values of the symbols: all larger, doubled, all 1, all 0, and each alone at 0 and larger."""
    found = sorted({d for x in sample.inputs for d in x.shape if d != 1})
    own = {f"n{d}": d for d in found}
    for change in (lambda d: d + 1, lambda d: 2 * d, lambda d: 1, lambda d: 0):
        yield {name: change(d) for name, d in own.items()}
    for name, d in own.items():
        yield own | {name: 0}
        yield own | {name: d + 2}


def operand(x: np.ndarray, t: TensorType, sizes: dict[str, int]) -> np.ndarray:
    """The sample's elements, repeated or left out as the shape needs."""
    shape = [evaluate(d, sizes) for d in t.shape]
    return np.resize(x, shape).astype(x.dtype) if 0 not in shape else np.zeros(shape, x.dtype)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of means of nothing
@pytest.mark.parametrize("record", WITH_OPERANDS.values(), ids=list(WITH_OPERANDS))
def test_symbolic_sizes_hold_at_other_sizes(record: OpSamples) -> None:
    for sample in record.samples:
        types = [
            TensorType(dtype_of(x), tuple(d if d == 1 else Dim(f"n{d}") for d in x.shape))
            for x in sample.inputs
        ]
        with naming(sample):
            try:
                graph = build(sample, types)
            except ShapeError:
                continue  # its attributes are sizes of this sample
            for sizes in sizes_to_try(sample):
                inputs = [operand(x, t, sizes) for x, t in zip(sample.inputs, types, strict=True)]
                try:
                    expected = as_tuple(sample.op.infer(*map(type_of, inputs)))
                    sample.op.eager(np, *inputs)
                except (DualGraphError, ArithmeticError, IndexError):
                    continue  # not sizes (or numbers, at these sizes) for this op
                got = interpret(graph, inputs)
                promised = [
                    TensorType(v.dtype, tuple(evaluate(d, sizes) for d in v.shape))
                    for v in graph.outputs
                ]
                assert promised == list(expected), sizes
                assert [type_of(y) for y in got] == promised, sizes

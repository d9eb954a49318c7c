"""Every op on batches against the op on one element after the other, over the ops' own samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph._dispatch import apply, make
from dualgraph.transforms.batching import batch, by_formula, how, slices
from dualgraph_compiler.errors import DualGraphError
from dualgraph_compiler.ops import REGISTRY, Kind
from dualgraph_compiler.ops.base import Op

from ..op_samples import TOLERANCE, Sample, all_samples

RECORDS = all_samples()
SIZE = 3

each_op = pytest.mark.parametrize("record", RECORDS.values(), ids=list(RECORDS))


def as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, tuple | list) else (x,)


def choices(count: int) -> Iterator[tuple[bool, ...]]:
    """Each operand alone as a batch, and all of them."""
    if count > 1:
        for i in range(min(count, 4)):
            yield tuple(i == k for k in range(count))
    yield (True,) * count


def varied(sample: Sample, flags: Sequence[bool]) -> list[np.ndarray]:
    """The operands, with the chosen ones as a batch whose elements differ where they may."""
    turned = [np.ascontiguousarray(x.ravel()[::-1]).reshape(x.shape) for x in sample.inputs]
    try:
        mixed = [t if own else x for x, t, own in zip(sample.inputs, turned, flags, strict=True)]
        want = as_tuple(sample.op.eager(np, *sample.inputs))
        got = as_tuple(sample.op.eager(np, *mixed))
        fits = [np.shape(a) for a in want] == [np.shape(b) for b in got]
    except (DualGraphError, ValueError, IndexError):
        fits = False
    middle = turned if fits else sample.inputs
    return [
        np.stack([x, m, x]) if own else x
        for x, m, own in zip(sample.inputs, middle, flags, strict=True)
    ]


def tensors(arrays: Sequence[np.ndarray]) -> list[dg.Tensor]:
    return [make(np.array(x)) for x in arrays]


@each_op
def test_batches_are_their_elements(record: Any) -> None:
    kind = record.op
    if how(kind) == "refused" or not kind.is_pure or kind.kind in (Kind.CREATION, Kind.CONTROL):
        pytest.skip("has no result on batches")
    if kind.name.startswith("random_"):
        pytest.skip("draws: see test_vmap")
    most = 2 if kind.name.endswith("_update") else 10  # optimizers' formulas are long and alike
    for sample in [s for s in record.samples if s.inputs][:most]:
        for flags in choices(len(sample.inputs)):
            with np.errstate(all="ignore"):
                arrays = varied(sample, flags)
                want = as_tuple(slices(sample.op, SIZE, tensors(arrays), flags))
                got = as_tuple(batch(sample.op, SIZE, tensors(arrays), flags))
            compare(sample, flags, got, want)


def compare(sample: Sample, flags: Any, got: Sequence[Any], want: Sequence[Any]) -> None:
    assert len(got) == len(want), sample
    for a, b in zip(got, want, strict=True):
        a, b = a._data, b._data
        assert (a.dtype, a.shape) == (b.dtype, b.shape), (str(sample), flags)
        tol = max(TOLERANCE.get(a.dtype, 0), sample.tol or 0)
        if a.dtype.kind in "fcV":
            a, b = (x.astype(np.complex128 if x.dtype.kind == "c" else float) for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=4 * tol, atol=4 * tol, err_msg=f"{sample} {flags}")


def test_which_ops_run_element_by_element() -> None:
    """The list is part of what is promised: an op that joins it is slow under vmap."""
    found = {name for name, kind in REGISTRY.items() if how(kind) == "slices"}
    found -= {n for n in found if REGISTRY[n].kind in (Kind.CREATION, Kind.CONTROL)}
    found -= {n for n in found if n.startswith("random_")}
    assert found == SLICED


SLICED = {
    "as_strided",
    "beginning",
    "conv_integer",
    "ctc_loss",
    "ctc_loss_grad",
    "masked_gather",
    "masked_scatter",
    "matmul_integer",
    "max_roi_pool",
    "non_max_suppression",
    "num_elements",
    "range",
    "reverse_sequence",
    "roi_align",
    "roi_align_grad",
    "roi_align_max",
    "sequence_mask",
    "tree_ensemble",
    "vector_norm",
}


def test_a_formula_serves_where_there_is_no_rule() -> None:
    rows = np.random.default_rng(0).normal(size=(SIZE, 4, 5))
    kind: Any = REGISTRY["softmax"]
    (x,) = tensors([rows])
    got = by_formula(kind(1), SIZE, [x], [True])
    np.testing.assert_allclose(got._data, apply(kind(2), x)._data, rtol=1e-12)


def test_results_of_unknown_size_are_refused() -> None:
    masked: type[Op] = REGISTRY["masked_select"]
    assert how(masked) == "refused"
    with pytest.raises(RuntimeError, match="depends on the data"):
        dg.vmap(lambda x: x[x > 0])(dg.randn(3, 4))

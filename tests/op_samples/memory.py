"""Views by strides, against memory written out."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.ops.strided import AsStrided

from . import BOOL, COMPLEX, FLOATS, INTS, OpSamples, Refused, Sample, rand, strided, t


def _by_hand(op: Any, x: Any) -> Any:
    """Every element of x put where it lies, then those wanted picked, one by one."""
    memory = {}
    for at in np.ndindex(x.shape):
        memory[sum(i * s for i, s in zip(at, op.source))] = x[at]
    out = np.empty(op.shape, x.dtype)
    for at in np.ndindex(op.shape):
        out[at] = memory[op.offset + sum(i * s for i, s in zip(at, op.strides))]
    return out


def f64(*shape: int) -> np.ndarray[Any, Any]:
    return rand(*shape, dtype=np.float64)


WINDOWS = AsStrided((4, 3), (1, 1), 0, (1,))
CORNER = AsStrided((2, 2), (1, 3), 4, (3, 1))

SAMPLES = [
    OpSamples(
        AsStrided,
        _by_hand,
        [
            Sample(WINDOWS, (f64(6),), "overlapping windows", grad=True),
            Sample(CORNER, (f64(3, 3),), "transposed, from the middle on", grad=True),
            Sample(AsStrided((3, 2), (1, 3), 0, (1, 3)), (f64(2, 3).T,), "of a view", grad=True),
            Sample(AsStrided((2, 3), (3, 1), 0, (1, 3)), (f64(3, 2),), "lies otherwise", grad=True),
            Sample(AsStrided((2,), (2,), 0, (2,)), (strided(rand(4)),), "every other"),
            Sample(AsStrided((2, 3), (0, 1), 0, (1,)), (f64(3),), "repeated", grad=True),
            Sample(AsStrided((), (), 2, (1,)), (f64(3),), "one element", grad=True),
            Sample(AsStrided((), (), 0, ()), (f64(),), "0-d", grad=True),
            Sample(AsStrided((0, 2), (2, 1), 0, (1,)), (f64(3),), "nothing", grad=True),
            *(
                Sample(AsStrided((2, 2), (2, 1), 1, (1,)), (rand(5, dtype=d),))
                for d in (BOOL, *INTS, *FLOATS, *COMPLEX)
            ),
        ],
        [
            Refused(AsStrided((2,), (1, 1), 0, (1,)), (t("f32[4]"),), match="as many sizes"),
            Refused(AsStrided((3,), (2,), 0, (1,)), (t("f32[4]"),), match="beyond"),
            Refused(AsStrided((2,), (1,), -1, (1,)), (t("f32[4]"),), match="beyond"),
            Refused(AsStrided((2,), (1,), 0, (1,)), (t("f32[n]"),), match="known sizes"),
        ],
    ),
]

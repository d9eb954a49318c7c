"""Barriers: the operand itself."""

from __future__ import annotations

import numpy as np

from dualgraph_compiler.ops.barrier import Barrier

from . import OpSamples, Sample, rand

SAMPLES = [
    OpSamples(
        Barrier,
        lambda op, x, *after: x,
        [
            Sample(Barrier(), (rand(2, 3, dtype=np.float64),), grad=True),
            Sample(Barrier(), (rand(2), rand(3)), "after another"),
            Sample(Barrier(), (rand(),), "0-d"),
            Sample(Barrier(), (rand(0, 2),), "empty"),
            Sample(Barrier(), (np.array([np.nan, -0.0], np.float32),), "NaN"),
        ],
        no_grad=(1,),
    )
]

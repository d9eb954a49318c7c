"""Calls that cannot be captured run eagerly, and say so once, or raise where that is asked for."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph.tracing import CaptureFailure, EagerFallbackWarning

NEEDS_DATA = [
    ("x.sum().tolist()", lambda x: x * x.sum().tolist()),
    ("x.tolist()", lambda x: x.tolist()),
    ("x.numpy()", lambda x: x.numpy() * 2),
    ("np.asarray(x)", lambda x: x * np.asarray(x)),
    ("[10, 20, 30][x[0].long()]", lambda x: [10, 20, 30][x[0].long()]),
]


@pytest.mark.parametrize(("expression", "f"), NEEDS_DATA, ids=[e for e, _ in NEEDS_DATA])
def test_what_needs_data_runs_eagerly_with_one_warning(expression, f) -> None:
    fast = dg.compile(f)
    for i, x in enumerate([dg.tensor([1.0, 2.0]), dg.tensor([0.0, 5.0])]):
        if i == 0:
            with pytest.warns(EagerFallbackWarning) as caught:
                got = fast(x)
            assert len(caught) == 1
            text = str(caught[0].message)
            assert f"{__file__}:{f.__code__.co_firstlineno}: `{expression}`" in text
        else:
            got = fast(x)  # warnings are errors here
        assert repr(got) == repr(f(x))
    assert fast.graphs == []
    with pytest.raises(CaptureFailure, match="needs the data of a tensor"):
        dg.compile(f, fullgraph=True)(x)
    with pytest.raises(CaptureFailure, match="needs the data of a tensor"):
        dg.trace(f, x)


def test_a_failure_that_the_function_catches_counts() -> None:
    def f(x):
        try:
            scale = x.sum().tolist()
        except RuntimeError:
            scale = 0.0
        return x * scale

    fast = dg.compile(f)
    with pytest.warns(EagerFallbackWarning, match=r"x\.sum\(\)\.tolist\(\)"):
        assert fast(dg.tensor([1.0, 2.0])).tolist() == [3.0, 6.0]
    with pytest.raises(CaptureFailure, match=r"x\.sum\(\)\.tolist\(\)"):
        dg.trace(f, dg.ones(2))

    def replaced(x):
        try:
            return x * x.sum().tolist()
        except RuntimeError:
            raise ValueError("mine") from None

    with pytest.warns(EagerFallbackWarning, match=r"x\.sum\(\)\.tolist\(\)"):
        assert dg.compile(replaced)(dg.ones(2)).tolist() == [2.0, 2.0]


def test_other_kinds_of_call_are_still_captured() -> None:
    class Model(nn.Module):
        def forward(self, x):
            return x * x.sum().tolist() if self.training else x * 2

    fast = dg.compile(Model())
    with pytest.warns(EagerFallbackWarning):
        assert fast(dg.ones(2)).tolist() == [2, 2]
    fast.eval()
    assert fast(dg.ones(2)).tolist() == [2, 2]
    assert len(fast.graphs) == 1
    fast.train()
    assert fast(dg.tensor([1.0, 2.0])).tolist() == [3, 6]


def test_each_line_warns_once_for_a_function() -> None:
    fast = dg.compile(lambda x: x * x.sum().tolist())
    with pytest.warns(EagerFallbackWarning):
        fast(dg.ones(2))
    assert fast(dg.ones(3)).tolist() == [3, 3, 3]  # warnings are errors here


def test_errors_of_the_function_itself_are_not_failures_to_capture() -> None:
    def f(x):
        raise KeyError("mine")

    with warnings.catch_warnings(), pytest.raises(KeyError, match="mine"):
        dg.compile(f)(dg.ones(2))


def test_numbers_drawn_while_tracing_are_drawn_again() -> None:
    def f(x):
        return x * random.random() + np.random.rand(), x.tolist()  # noqa: NPY002

    fast = dg.compile(f)
    found = []
    for call in (f, fast):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        if call is fast:
            with pytest.warns(EagerFallbackWarning):
                first = call(dg.ones(2))
        else:
            first = call(dg.ones(2))
        found.append(repr((first, call(dg.ones(2)))))
    assert found[0] == found[1]

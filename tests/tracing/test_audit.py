"""dg.audit: what a graph would hold fixed although it varies."""

import functools

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn


def found(report):
    return [(f.kind, f.where.line if f.where is not None else None) for f in report.findings]


def line(function, n):
    return function.__code__.co_firstlineno + n


def test_nothing_is_frozen_in_a_layer_over_any_batch():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten())
    mean = model[1].running_mean.clone()
    report = dg.audit(model, dg.randn(2, 1, 6, 6))
    assert not report
    assert "nothing is frozen" in str(report)
    assert dg.equal(model[1].running_mean, mean)


def test_numbers_drawn_outside_the_graph_differ_from_call_to_call():
    generator = np.random.default_rng(0)

    def noisy(x):
        noise = dg.tensor(generator.standard_normal(3).astype(np.float32))
        return x + noise

    report = dg.audit(noisy, dg.ones(2, 3))
    assert [f.kind for f in report.findings] == ["capture"]
    assert "a Generator, changes as it is used" in str(report)


def test_a_python_counter_changes_the_path():
    calls = functools.partial(next, iter(range(100)))  # out of sight of a trace

    def alternating(x):
        if calls() % 2:
            return x.exp()
        return x.log()

    report = dg.audit(alternating, dg.ones(3))
    assert found(report)[0] == ("call", line(alternating, 2))
    assert "exp in one graph is log in another" in str(report)


def test_a_python_number_is_part_of_the_graph():
    def power(x, k):
        return x * k

    report = dg.audit(power, (dg.ones(2), 2.0))
    assert found(report) == [("number", line(power, 1))]
    assert "k = 2.0 is part of the graph" in str(report)
    assert not dg.audit(power, (dg.ones(2), dg.tensor(2.0)))


def test_a_branch_on_a_size_fixes_the_size():
    def short(x):
        y = x + 1
        if x.shape[0] > 3:
            return y
        return y * 2

    report = dg.audit(short, dg.ones(3, 2))
    assert found(report) == [("size", line(short, 2))]
    assert "dimension 0 of x cannot vary" in str(report)


def test_sizes_that_eager_code_fixes_are_not_reported():
    weight = dg.randn(4, 3)
    assert not dg.audit(lambda x, y: x @ weight + y, (dg.ones(2, 4), dg.ones(2, 3)))


def test_reading_a_tensor_cannot_be_captured():
    def scaled(x):
        return x * x.sum().tolist()

    report = dg.audit(scaled, dg.ones(3))
    assert [f.kind for f in report.findings] == ["capture"]
    assert "x.sum().tolist()" in str(report)


def test_examples_are_compared_with_each_other():
    numbers = iter(range(1, 1000))

    def looked_up(x):
        return x * float(next(numbers))

    assert dg.audit(looked_up, dg.ones(2), dg.zeros(2))


def test_an_example_is_needed():
    with pytest.raises(TypeError, match="at least one example"):
        dg.audit(lambda x: x)

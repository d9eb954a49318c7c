"""Graphs written out: placeholders, gradients, sessions."""

from __future__ import annotations

import numpy as np
import pytest

import dualgraph as dg
from dualgraph_compiler.errors import FeedError, TraceError


def classic():
    with dg.Graph() as g:
        x = dg.placeholder((3, 4), dg.float32, name="x")
        y = dg.placeholder((3, 4), dg.float32, name="y")
        z = dg.placeholder((3, 4), dg.float32, name="z")
        c = (x * y + z).sum()
        grads = dg.gradients(c, [x, y, z])
    return g, x, y, z, c, grads


def test_the_classic_and_its_gradients() -> None:
    g, x, _, z, c, grads = classic()
    rng = np.random.default_rng(0)
    a, b, d = (rng.random((3, 4), np.float32) for _ in range(3))
    with dg.Session(g) as s:
        value, (gx, gy, gz) = s.run([c, grads], feed_dict={x: a, "y": b, z: dg.tensor(d)})
    np.testing.assert_allclose(value, (a * b + d).sum(), rtol=1e-6)
    np.testing.assert_array_equal(gx, b)
    np.testing.assert_array_equal(gy, a)
    np.testing.assert_array_equal(gz, np.ones((3, 4)))


def test_only_what_the_fetches_need_must_be_fed() -> None:
    with dg.Graph() as g:
        x = dg.placeholder((2,), name="x")
        y = dg.placeholder((2,), name="y")
        a, b = x + 1, y + 1
    s = dg.Session(g)
    np.testing.assert_array_equal(s.run(a, {x: [1.0, 2.0]}), [2, 3])
    with pytest.raises(FeedError, match=r"'y' \(f32\[2\]\)"):
        s.run([a, b], {x: [1.0, 2.0]})


def test_open_sizes() -> None:
    with dg.Graph() as g:
        x = dg.placeholder((None, 2), name="x")
        y = dg.placeholder((None, 2), name="y")
        out = (x + y).sum(0)
    s = dg.Session(g)
    ones = np.ones((5, 2), np.float32)
    np.testing.assert_array_equal(s.run(out, {x: ones, y: ones}), [10, 10])
    with pytest.raises(FeedError, match="batch|5"):
        s.run(out, {x: ones, y: ones[:3]})


def test_wrong_feeds_say_what_was_expected() -> None:
    g, x, _, _, c, _ = classic()
    s = dg.Session(g)
    good = np.ones((3, 4), np.float32)
    with pytest.raises(FeedError, match="'w'.*'x', 'y', 'z'"):
        s.run(c, {"w": good})
    with pytest.raises(FeedError, match=r"'x'.*expected dtype float32, got float64"):
        s.run(c, {x: good.astype(np.float64), "y": good, "z": good})
    with pytest.raises(FeedError, match=r"'x'.*expected size 4.*\[3, 5\]"):
        s.run(c, {x: np.ones((3, 5), np.float32), "y": good, "z": good})
    with pytest.raises(FeedError, match="cannot fetch"):
        s.run("nothing", {})


def test_outside_tensors_are_read_at_each_run() -> None:
    w = dg.tensor([1.0, 2.0], requires_grad=True)
    with dg.Graph() as g:
        x = dg.placeholder((2,), name="x")
        loss = (w * x).sum()
        (gw,) = dg.gradients(loss, [w])
    s = dg.Session(g)
    x_value = np.float32([3, 4])
    np.testing.assert_array_equal(s.run([loss, gw], {x: x_value})[0], 11)
    with dg.no_grad():
        w.mul_(2)
    value, gradient = s.run([loss, gw], {x: x_value})
    assert value == 22
    np.testing.assert_array_equal(gradient, x_value)


def test_second_derivatives() -> None:
    with dg.Graph() as g:
        x = dg.placeholder((), name="x")
        y = x * x * x
        (first,) = dg.gradients(y, x)
        (second,) = dg.gradients(first, x)
    assert dg.Session(g).run([first, second], {x: 2.0}) == [12.0, 12.0]


def test_operations_outside_the_block_still_append() -> None:
    with dg.Graph() as g:
        x = dg.placeholder((2,), name="x")
    y = x * 3
    np.testing.assert_array_equal(dg.Session(g).run(y, {x: [1.0, 2.0]}), [3, 6])


def test_independent_outputs_have_no_gradient() -> None:
    with dg.Graph():
        x = dg.placeholder((2,), name="x")
        y = dg.placeholder((2,), name="y")
        assert dg.gradients((x * 2).sum(), [y]) == [None]


def test_placeholder_needs_a_graph_and_a_new_name() -> None:
    with pytest.raises(TraceError, match="inside `with"):
        dg.placeholder((2,))
    with dg.Graph():
        dg.placeholder((2,), name="x")
        with pytest.raises(TraceError, match="already"):
            dg.placeholder((2,), name="x")


def test_the_graph_prints() -> None:
    g, *_ = classic()
    assert "mul(%x, %y)" in str(g)
    assert "test_define_and_run.py" in str(g)

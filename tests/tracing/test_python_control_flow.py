"""Python's own control flow, decided by traced tensors: captured, and what eager code gives."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph.tracing import CaptureFailure, EagerFallbackWarning, tree
from tests.tracing.random_functions import Functions

ONES = [[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [0.5, -0.25, 0.125]]


def arrays(result: Any) -> list[Any]:
    return [x.detach().numpy() if isinstance(x, dg.Tensor) else x for _, x in tree.flatten(result)]


def require_same(got: Any, wanted: Any) -> None:
    assert tree.structure(got) == tree.structure(wanted)
    for a, b in zip(arrays(got), arrays(wanted), strict=True):
        assert type(a) is type(b)
        if isinstance(a, str):
            assert a == b
            continue
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def ops(graph: Any) -> set[str]:
    """The names of the ops of a graph, those in its bodies included."""
    found = set()
    for node in graph.nodes:
        found.add(node.op.name)
        for body in getattr(node.op, "graphs", ()):
            found |= ops(body)
    return found


def check(f: Callable[..., Any], *op: str, inputs: Sequence[Any] = ONES) -> Any:
    """Compiled calls give what eager ones do, all with one graph that contains `op`."""
    fast = dg.compile(f, fullgraph=True)
    for x in inputs:
        a, b = dg.tensor(x), dg.tensor(x)
        require_same(fast(b), f(a))
        assert b.tolist() == a.tolist()
    assert len(fast.graphs) == 1
    assert ops(fast.graphs[0]) >= set(op)
    return fast


# -- branches -------------------------------------------------------------------------------------


def branches(x):
    if x.sum() > 0:
        y = x * 2
        extra = y + 1
        y = extra - 1
    elif x.max() > 0:
        y = x - 1
    else:
        y = -x
    return y + 1


def one_arm(x):
    if x.sum() > 0:
        x = x * 2
    return x


def guard_clauses(x):
    if x.sum() > 3:
        return x * 2, "a"
    z = x - 1
    if z.sum() < -5:
        return z, "a"
    return z * 3, "a"


def nested_returns(x):
    if x.sum() > 0:
        if x.max() > 1:
            return x
        y = x * 2
    else:
        y = x * 3
    return y + 1


def operators(x):
    y = x * 2 if (x.sum() > 0 and not x.max() > 5) or x.min() < -2 else x - 1
    z = x if -1 < x.sum() < 10 else -x
    return y, z, 3.0 if x.sum() in (6.0, 7.0) else 4.0


def numbers(x):
    scale, n = 0.5, 1
    if x.sum() > 0:
        scale, n = 2.0, 2
    return x * scale, scale * 2, n + 1, n > 1, bool(x.sum() > 0)


def in_place(x):
    h = x * 1
    view = h[:2]
    if x.sum() > 0:
        h += 1
        x -= 1
    return h, view


def structures(x):
    out = {"a": x}
    if x.sum() > 0:
        out = {"a": x + 1}
        pair = [x, (x, 2)]
    else:
        pair = [x * 2, (x * 3, 2)]
    return out, pair


def with_blocks(x):
    try:
        with dg.no_grad():
            if x.sum() > 3:
                return x * 7
        y = x + 2
    finally:
        x = x + 1
    return y + x


def own_objects(x):
    if x.sum() > 0:
        parts = []
        for i in range(3):
            parts.append(x * i)
        table = {"k": x}
        table["k"] += 1
        x = sum(parts) + table["k"]
    return x


def returns_differ_in_nothing(x):
    if x.sum() > 0:
        return None
    return None


def closures(x):
    count = 0

    def scaled(t, by=2, *, plus=1):
        nonlocal count
        count += 1
        if t.sum() > 0:
            return t * by + plus
        return t - plus

    first = scaled(x)
    return scaled(first, 3, plus=2), count


def local_functions(x):
    pick = lambda t: t if t.sum() > 0 else -t  # noqa: E731
    return [pick(t) for t in (x, x - 5)], list(map(pick, (x,)))


def deleted(x):
    y = x + 1
    if (total := x.sum()) > 0:
        del y
        y = x * total
    return y


BRANCHES = [
    branches, one_arm, guard_clauses, nested_returns, operators, numbers, in_place, structures,
    own_objects, closures, local_functions, deleted,
]  # fmt: skip


@pytest.mark.parametrize("f", BRANCHES)
def test_branches(f) -> None:
    check(f, "if")


def test_with_and_try_around_branches() -> None:
    check(with_blocks, "if")

    def loop(x):
        for i in range(2):
            with dg.enable_grad():
                if x.sum() > 4 * (i + 1):
                    continue
                if x.sum() < -5:
                    break
            x = x + 1
        return x

    check(loop, "if")


def test_nothing_is_returned_either_way() -> None:
    assert dg.compile(returns_differ_in_nothing, fullgraph=True)(dg.ones(2)) is None


class Base(nn.Module):
    def forward(self, x):
        return x * 10 if x.sum() > 0 else x


class Gate(Base):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 3), Base())
        self.register_buffer("count", dg.zeros(()))

    def forward(self, x):
        if self.__helper(x):
            self.count += 1
        if self.count > 1:
            return super().forward(x) + 1
        return self.inner(x)

    @dg.no_grad()
    def __helper(self, x):
        if x.max() > 2:
            return x.sum() > 0
        return x.sum() > 1


def test_modules_state_and_super() -> None:
    a, b = Gate().requires_grad_(False), Gate().requires_grad_(False)
    b.load_state_dict(a.state_dict())
    fast = dg.compile(b, fullgraph=True)
    for x in [*ONES, *ONES]:
        t = dg.tensor(x)
        require_same(fast(t), a(t))
        assert a.count.item() == b.count.item()
    assert a.count.item() == 2
    assert len(fast.graphs) == 1


# -- loops ----------------------------------------------------------------------------------------


def doubling(x):
    steps = 0
    while x.abs().sum() < 20:
        x = x * 2
        steps += 1
    return x, steps


def collatz(x):
    n = int(x.abs().sum() * 4) + 3
    length = 0
    while n != 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        length += 1
    return length


def forever(x):
    while True:
        x = x + 1
        if x.sum() > 20:
            return x * 100
        if x.min() > 4:
            break
    return x


def breaking(x):
    total = 0.0
    for i, r in enumerate(x):
        if r > 2:
            break
        if r < -1:
            continue
        total = total + r * i
    else:
        total = total + 100
    return total


def while_else(x):
    k = 0
    while k < x.abs().sum():
        k += 1
        if k > 4:
            break
    else:
        return x, k
    return x * k, k


def counted(x):
    total = dg.zeros(())
    for i in range(2, int(x.abs().sum()) + 3, 2):
        total = total + i * x[0]
    return total


def searching(x):
    for i in range(int(x.abs().sum()) + 1):
        if x[i % 3] > 1:
            return i
    return -1


def in_place_loop(x):
    h = x * 1
    seen = h
    while h.sum() < 10:
        h += 2
    return h, seen


def filling(x):
    out = dg.full((3, 6), -1.0)
    column = out[:, 1]
    t = 0
    while t < 6 and x.sum() < 20:
        out[:, t] = x
        x = x.abs() * 2
        t += 1
    return out, column, t


def nested_loops(x):
    total = x * 0
    while total.sum() < 30:
        inner = 0
        while inner < 3:
            if total.sum() > 15:
                break
            total = total + x.abs() + 1
            inner += 1
        total = total + 1
    return total


@pytest.mark.parametrize(
    ("f", "op"),
    [
        (doubling, "loop"),
        (collatz, "loop"),
        (forever, "loop"),
        (breaking, "if"),
        (while_else, "loop"),
        (counted, "loop"),
        (searching, "loop"),
        (in_place_loop, "loop"),
        (nested_loops, "loop"),
        (filling, "loop"),
    ],
)
def test_loops(f, op) -> None:
    check(f, op)


def over_rows(x):
    total = x[0] * 0
    for i, row in enumerate(x):
        if row.sum() > 4:
            break
        if row.sum() > 0:
            total = total + row * i
    return total


def over_sizes(x):
    total = x[0] * 0
    for i in range(1, x.shape[0]):
        total = total * 0.5 + x[i] * i
    return total


@pytest.mark.parametrize("f", [over_rows, over_sizes])
def test_loops_over_dynamic_sizes(f) -> None:
    fast = dg.compile(f, fullgraph=True, dynamic_shapes={"x": {0: "n"}})
    for n in (4, 2, 7):
        x = dg.randn(n, 3)
        require_same(fast(x), f(x))
    assert len(fast.graphs) == 1
    assert "scan" in ops(fast.graphs[0])


# -- errors ---------------------------------------------------------------------------------------


def checked(x):
    assert x.sum() < 50, "too big"
    if x.max() > 30:
        raise ValueError("an outlier")
    return x + 1


def test_errors_are_raised_by_the_calls_that_meet_them() -> None:
    counter = dg.zeros(())

    def f(x):
        counter.add_(1)
        return checked(x)

    fast = dg.compile(f, fullgraph=True)
    assert fast(dg.ones(3)).tolist() == [2, 2, 2]
    with pytest.raises(AssertionError, match="too big"):
        fast(dg.full((3,), 20.0))
    with pytest.raises(ValueError, match="an outlier"):
        fast(dg.tensor([31.0, 0.0, 0.0]))
    assert fast(dg.zeros(3)).tolist() == [1, 1, 1]
    assert counter.item() == 2  # calls that fail write nothing
    assert len(fast.graphs) == 1
    with pytest.raises(CaptureFailure, match=r"AssertionError \(too big\)"):
        dg.trace(checked, dg.ones(3))


# -- gradients, ONNX, reports ----------------------------------------------------------------------


def smooth(x):
    y = x.sin()
    for i in range(3):
        if y.sum() > i * 0.5:
            y = y * x
        else:
            with dg.no_grad():
                c = y.sum()
            y = y + c * x.detach() + x
    return (y * y).sum() if y.max() < 5 else y.sum()


def test_gradients_are_the_eager_ones() -> None:
    fast = dg.compile(smooth, fullgraph=True)
    for values in ONES:
        grads = []
        for call in (smooth, fast):
            x = dg.tensor(values, requires_grad=True)
            call(x).backward()
            grads.append(x.grad.numpy())
        np.testing.assert_allclose(grads[1], grads[0], rtol=1e-5, atol=1e-6)
    assert len(fast.graphs) == 1


def test_a_loop_that_would_be_differentiated_runs_eagerly() -> None:
    fast = dg.compile(lambda x: doubling(x)[0])
    x = dg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    with pytest.warns(EagerFallbackWarning, match=r"`x\.abs\(\)\.sum\(\) < 20`"):
        fast(x).sum().backward()
    assert x.grad.tolist() == [4, 4, 4]
    with dg.no_grad():
        assert fast(x).tolist() == [4, 8, 12]
    assert len(fast.graphs) == 1

    def step(x):
        doubling(x)[0].sum().backward()

    x.grad = None
    with pytest.warns(EagerFallbackWarning, match="as many steps as data decide"):
        dg.compile(step)(x)
    assert x.grad.tolist() == [4, 4, 4]


def test_training_steps_with_branches() -> None:
    def build():
        dg.manual_seed(1)
        model = Base()
        model.fc = nn.Linear(3, 1)
        return model, dg.optim.SGD(model.fc.parameters(), lr=0.1, momentum=0.9)

    def step(model, opt, x):
        loss = model(model.fc(x)).square().mean()
        if loss > 1:
            loss = loss.sqrt()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    eager, traced = build(), build()
    fast = dg.compile(lambda x: step(*traced, x), fullgraph=True)
    for _ in range(4):
        x = dg.randn(5, 3)
        require_same(fast(x), step(*eager, x))
    for p, q in zip(eager[0].parameters(), traced[0].parameters(), strict=True):
        np.testing.assert_allclose(q.detach().numpy(), p.detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize("f", [branches, guard_clauses, forever, breaking, nested_loops])
def test_onnx_runtime_takes_both_ways(f) -> None:
    ort = pytest.importorskip("onnxruntime")
    model = dg.onnx.export(f, (dg.ones(3),))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for x in ONES:
        wanted = [a for a in arrays(f(dg.tensor(x))) if not isinstance(a, str)]
        got = session.run(None, {"x": np.array(x, np.float32)})
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_branches_and_nodes_name_the_line() -> None:
    from dualgraph.tracing.trace import trace_call

    traced = trace_call(branches, (dg.ones(3),), {})
    line = branches.__code__.co_firstlineno + 1
    assert [(b.expression, b.where.line) for b in traced.capture.branches] == [
        ("x.sum() > 0", line),
        ("x.max() > 0", line + 4),
    ]
    node = next(n for n in traced.graph.nodes if n.op.name == "if")
    assert (node.loc.line, node.loc.function) == (line, "branches")
    assert next(n.loc.line for n in node.op.then_branch.nodes) == line + 1


# -- random functions ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_random_functions(seed, tmp_path) -> None:
    path = tmp_path / f"random_{seed}.py"
    path.write_text(Functions(seed).module())
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fast = dg.compile(module.f, fullgraph=True)
    rng = np.random.default_rng(seed)
    for scale in (0.5, 1, 3, 10):
        data = [(rng.standard_normal((3, 3)) * scale).astype(np.float32) for _ in range(2)]
        require_same(fast(*map(dg.tensor, data)), module.f(*map(dg.tensor, data)))
    assert len(fast.graphs) == 1

"""Activation checkpointing, eagerly and compiled: the same numbers in less memory."""

from __future__ import annotations

import contextlib
import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph.autograd import Function
from dualgraph.utils.checkpoint import checkpoint, checkpoint_sequential
from dualgraph_compiler.compile import optimize
from dualgraph_compiler.errors import AutogradError, CheckpointError
from dualgraph_compiler.graph import verify
from dualgraph_compiler.graph.liveness import nbytes, peak_bytes


def strictly(function: Any) -> Any:
    """Compiled so that every bit of the eager result is kept."""
    return dg.compile(function, numerics="strict")


BOTH = pytest.mark.parametrize("wrap", [lambda f: f, strictly], ids=["eager", "compiled"])


def plain(function: Any, *args: Any, use_reentrant: Any = None, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def blocks(count: int = 3, width: int = 8) -> nn.ModuleList:
    dg.manual_seed(0)
    return nn.ModuleList(
        nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.GELU(), nn.Dropout(0.3))
        for _ in range(count)
    )


def train(wrap: Any, apply: Any, *, inside: bool, steps: int = 3) -> Any:
    """Losses, gradients and the generator's state of some steps."""
    model = blocks()

    def loss_of(x: Any) -> Any:
        for block in model:
            x = apply(block, x, use_reentrant=False)
        return x.square().sum()

    def step(x: Any) -> Any:
        loss = loss_of(x)
        if inside:
            loss.backward()
        return loss

    fast, losses = wrap(step), []
    for _ in range(steps):
        loss = fast(dg.randn(5, 8))
        if not inside:
            loss.backward()
        losses.append(loss.item())
    grads = [p.grad.tolist() for p in model.parameters()]
    return losses, grads, dg.get_rng_state().tolist(), model


@BOTH
@pytest.mark.interpreted
@pytest.mark.parametrize("inside", [False, True])
def test_training_is_the_same_to_the_last_bit(wrap: Any, inside: bool) -> None:
    *expected, _ = train(lambda f: f, plain, inside=inside)
    *found, model = train(wrap, checkpoint, inside=inside)
    assert found == expected
    # As in PyTorch, what a module counts is counted in the second run as well.
    assert [b[1].num_batches_tracked.item() for b in model] == [6, 6, 6]


def test_numbers_are_those_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.checkpoint import checkpoint as theirs

    ours = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))
    other = torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Tanh(), torch.nn.Linear(6, 2)
    )
    state = {k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()}
    other.load_state_dict(state)
    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    for _ in range(2):
        checkpoint(ours, dg.tensor(x), use_reentrant=False).square().sum().backward()
        theirs(other, torch.tensor(x), use_reentrant=False).square().sum().backward()
    for p, q in zip(ours.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-4, atol=1e-5)
    for b, c in zip(ours.buffers(), other.buffers(), strict=True):
        np.testing.assert_allclose(b.numpy(), c.numpy(), rtol=1e-5)


@BOTH
def test_arguments_of_every_kind(wrap: Any) -> None:
    w = dg.full((2,), 3.0, requires_grad=True)

    def block(x, scale, *, pair, flag=False):
        assert flag
        return {"sum": x * scale * w + pair[0] * pair[1], "none": None}

    @wrap
    def f(x, y):
        return checkpoint(block, x, 2.0, pair=(x, y), flag=True, use_reentrant=False)["sum"]

    x, y = dg.ones(2, requires_grad=True), dg.full((2,), 5.0)
    f(x, y).sum().backward()
    assert x.grad.tolist() == [11, 11]
    assert w.grad.tolist() == [2, 2]


@BOTH
def test_nested_regions(wrap: Any) -> None:
    runs = {"outer": 0, "inner": 0}

    def inner(x):
        if wrap is not strictly:  # which would run eagerly what counts
            runs["inner"] += 1
        return F.dropout(x.tanh() * x, 0.5)

    def outer(x):
        if wrap is not strictly:
            runs["outer"] += 1
        return checkpoint(inner, checkpoint(inner, x).exp()).sin()

    def f(x):
        return checkpoint(outer, x).sum()

    outcomes = []
    for call, apply in ((wrap(f), True), (lambda x: outer(x).sum(), False)):
        dg.manual_seed(1)
        x = dg.linspace(0, 1, 6).requires_grad_()
        if apply:
            call(x).backward()
        else:
            with contextlib.ExitStack():
                F.dropout(F.dropout(x.tanh() * x, 0.5).exp().tanh(), 0.0)
                dg.manual_seed(1)
                a = F.dropout(x.tanh() * x, 0.5).exp()
                F.dropout(a.tanh() * a, 0.5).sin().sum().backward()
        outcomes.append(x.grad.tolist())
    assert outcomes[0] == outcomes[1]
    if wrap is strictly:
        return
    assert runs["outer"] == 2
    assert runs["inner"] == 6  # each twice at first; again for the outer; then for itself


@BOTH
def test_higher_derivatives(wrap: Any) -> None:
    def block(x):
        return (x.tanh() * x).exp() * F.dropout(x, 0.5)

    def slopes(call: Any) -> Any:
        dg.manual_seed(2)
        x = dg.linspace(-1, 1, 5, dtype=dg.float64).requires_grad_()
        found, g = [], call(x)
        for _ in range(3):
            (g,) = dg.autograd.grad(g.sum(), x, create_graph=True)
            found.append(g.tolist())
        return found

    expected = slopes(block)
    fast = wrap(lambda x: checkpoint(block, x, use_reentrant=False))
    for a, b in zip(slopes(fast), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


@BOTH
def test_partial_gradients_and_a_second_backward(wrap: Any) -> None:
    w = dg.full((3,), 2.0, requires_grad=True)
    f = wrap(lambda x: checkpoint(lambda x: (x * w).exp().sum(), x))
    x = dg.ones(3, requires_grad=True)
    y = f(x)
    (g,) = dg.autograd.grad(y, x, retain_graph=True)
    assert w.grad is None
    assert x.grad is None
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), g.numpy())
    assert w.grad is not None
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


@BOTH
def test_hooks_and_custom_functions_inside(wrap: Any) -> None:
    class Double(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * x

    def block(x):
        y = x.sin()
        y.register_hook(lambda g: g * 10)
        return Double.apply(y) * x

    outcomes = []
    for call in (block, wrap(lambda x: checkpoint(block, x))):
        x = dg.tensor([0.2, 0.7], requires_grad=True)
        call(x).sum().backward()
        outcomes.append(x.grad.tolist())
    assert outcomes[0] == outcomes[1]


@BOTH
def test_in_place_operations_inside(wrap: Any) -> None:
    def block(x):
        y = x * 2
        y.mul_(x).add_(1)
        y[0] = x[1] * 2
        return y * y

    outcomes = []
    for call in (block, wrap(lambda x: checkpoint(block, x))):
        x = dg.tensor([0.2, 0.7], requires_grad=True)
        call(x).sum().backward()
        outcomes.append(x.grad.tolist())
    assert outcomes[0] == outcomes[1]


def test_a_gradient_taken_inside_of_a_region() -> None:
    def block(x):
        y = (x**3).sum()
        (g,) = dg.autograd.grad(y, x, create_graph=True)
        return g * x

    x = dg.full((2,), 2.0, requires_grad=True)
    checkpoint(block, x).sum().backward()
    assert x.grad.tolist() == [9 * 4] * 2


@BOTH
def test_nothing_happens_without_a_tape(wrap: Any) -> None:
    runs = []
    f = wrap(lambda x: checkpoint(lambda x: runs.append(1) or x * 2, x))
    with dg.no_grad():
        assert not f(dg.ones(2, requires_grad=True)).requires_grad
    assert len(runs) == 1


def test_contexts_random_state_and_options() -> None:
    log: list[str] = []

    @contextlib.contextmanager
    def noted(what: str) -> Any:
        log.append(what)
        yield

    x = dg.ones(64, requires_grad=True)
    y = checkpoint(
        lambda x: F.dropout(x, 0.5) * x,
        x,
        use_reentrant=False,
        context_fn=lambda: (noted("first"), noted("again")),
        determinism_check="none",
    )
    dg.manual_seed(5)
    state = dg.get_rng_state().tolist()
    y.sum().backward()
    assert log == ["first", "again"]
    assert x.grad.tolist() == (2 * y).tolist()
    assert dg.get_rng_state().tolist() == state

    x.grad = None
    y = checkpoint(lambda x: F.dropout(x, 0.5) * x, x, preserve_rng_state=False)
    y.sum().backward()
    assert x.grad.tolist() != (2 * y).tolist()
    assert dg.get_rng_state().tolist() != state
    with pytest.raises(ValueError, match="Unexpected keyword arguments: flag"):
        checkpoint(lambda x, flag: x, x, use_reentrant=True, flag=1)
    with pytest.raises(ValueError, match="determinism_check"):
        checkpoint(lambda x: x, x, determinism_check="maybe")


def test_a_function_that_does_other_things_is_noticed() -> None:
    runs: list[int] = []

    def growing(x):
        runs.append(1)
        for _ in runs:
            x = x.exp()
        return x

    y = checkpoint(growing, dg.ones(2, requires_grad=True))
    with pytest.raises(CheckpointError, match="different number of operations.*2 instead of 1"):
        y.sum().backward()
    runs.clear()

    def turning(x):
        runs.append(1)
        return (x if len(runs) == 1 else x[:1]).exp()

    y = checkpoint(turning, dg.ones(2, requires_grad=True)).sum()
    with pytest.raises(CheckpointError):
        y.backward()


@BOTH
def test_overwritten_operands_are_noticed(wrap: Any) -> None:
    w = dg.ones(2, requires_grad=True)
    f = wrap(lambda x: checkpoint(lambda x: (x * w).exp(), x).sum())
    for change in (lambda x: w.detach().add_(1), lambda x: x.detach().add_(1)):
        x = dg.ones(2, requires_grad=True)
        y = f(x)
        change(x)
        with pytest.raises(AutogradError, match="modified by an inplace operation"):
            y.backward()


def test_a_failing_function_leaves_no_trace() -> None:
    def fails(x):
        x.exp()
        raise KeyError("mine")

    with pytest.raises(KeyError):
        checkpoint(fails, dg.ones(2, requires_grad=True))
    x = dg.ones(2, requires_grad=True)
    y = x.exp()
    assert type(y.grad_fn).__name__ == "Node"


def test_sequential() -> None:
    model = nn.Sequential(*(m for _ in range(5) for m in (nn.Linear(4, 4), nn.Tanh())))
    x = dg.randn(3, 4)
    model(x).sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    for segments in (1, 3, 10):
        model.zero_grad()
        y = checkpoint_sequential(model, segments, x, use_reentrant=False)
        y.sum().backward()
        for p, g in zip(model.parameters(), expected, strict=True):
            np.testing.assert_array_equal(p.grad.numpy(), g.numpy())
    with pytest.raises(ValueError, match="segments"):
        checkpoint_sequential(model, 11, x)


# -- memory --------------------------------------------------------------------------------------


def deep(apply: Any, count: int = 16) -> Any:
    """Several layers in each block, of which only the block's input is kept."""
    model = [
        nn.Sequential(*(m for _ in range(3) for m in (nn.Linear(8, 8), nn.Tanh())))
        for _ in range(count)
    ]

    def loss_of(x: Any) -> Any:
        for block in model:
            x = apply(block, x, use_reentrant=False)
        return x.sum()

    loss_of.parameters = [p for b in model for p in b.parameters()]
    return loss_of


def held(f: Any) -> int:
    """Bytes that are alive between the forward and the backward."""
    x = dg.ones(4096, 8)
    f(x).backward()  # gradients exist from here on
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    y = f(x)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    y.backward()
    return kept


@pytest.mark.interpreted
def test_eager_code_keeps_less() -> None:
    activation = 4096 * 8 * 4
    full, less = held(deep(plain)), held(deep(checkpoint))
    assert full > 47 * activation  # every result of tanh
    assert less < 18 * activation


def test_a_compiled_call_keeps_less() -> None:
    kept = []
    for apply in (plain, checkpoint):
        fast = dg.compile(deep(apply))
        fast(dg.ones(512, 8)).backward()
        (entry,) = fast._entries
        plan = entry.taped.plan()
        verify(plan.forward.graph)
        verify(plan.backward.program.graph)
        kept.append(sum(nbytes(plan.forward.graph.outputs[i].type) for i in plan.kept))
    activation = 512 * 8 * 4
    assert kept[0] > 16 * 2 * activation
    assert kept[1] <= 16 * activation


def test_the_graph_of_a_whole_step_needs_less() -> None:
    peaks = []
    for apply in (plain, checkpoint):
        loss_of = deep(apply)
        opt = optim.SGD(loss_of.parameters, lr=0.1)

        def step(x: Any, loss_of: Any = loss_of, opt: Any = opt) -> Any:
            loss = loss_of(x)
            loss.backward()
            opt.step()
            opt.zero_grad()
            return loss

        fast = dg.compile(step)
        fast(dg.ones(512, 8))
        (graph,) = fast.graphs
        small = optimize(graph, numerics="strict", verify=True)
        tanh = sum(node.op.name == "tanh" for node in small.nodes)
        assert tanh == (48 if apply is plain else 96)  # nothing was merged
        peaks.append(peak_bytes(small))
    assert peaks[1] < 0.5 * peaks[0]


def test_ending_the_second_run_early() -> None:
    from dualgraph.utils.checkpoint import set_checkpoint_early_stop

    reached: list[str] = []

    def function(x: Any) -> Any:
        y = x.exp()
        reached.append("end")
        return y

    for early, count in ((False, 2), (True, 1)):
        reached.clear()
        x = dg.ones(3, requires_grad=True)
        with set_checkpoint_early_stop(early):
            checkpoint(function, x, use_reentrant=False).sum().backward()
        assert len(reached) == count
        np.testing.assert_allclose(x.grad, np.exp(np.ones(3)), rtol=1e-6)

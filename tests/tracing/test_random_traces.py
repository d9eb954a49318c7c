"""Random programs, traced, optimised, written as text and as ONNX, and compiled with gradients.

The programs are those of ``tests/frontend/random_programs.py``, without what depends on data; what
the eager call does is the reference.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dualgraph as dg
import dualgraph_runtime as rt
from dualgraph_compiler import parse_graph
from dualgraph_compiler.compile import optimize
from dualgraph_compiler.errors import DualGraphError
from dualgraph_compiler.graph import interpret, to_text, verify
from dualgraph_compiler.onnx import export_graph
from tests.frontend.random_programs import Writer
from tests.onnx.helpers import run_onnxruntime

# What eager code may do and a trace refuses, always with an error.
REFUSED = (
    "it was expanded",  # writing to part of an expanded tensor, one element at a time
    "written to a detached tensor",
)


@dataclass
class Program:
    """A function of tensors, its source, and the data and gradient flags of its arguments."""

    function: Callable[..., Any]
    source: str
    data: list[tuple[Any, bool]]

    def arguments(self, non_leaves: bool = False) -> tuple[list[Any], list[Any]]:
        """Fresh leaves, and the arguments: the leaves or results of operations on them."""
        leaves = [dg.from_numpy(a.copy()).requires_grad_(flag) for a, flag in self.data]
        return leaves, [t * 1 if non_leaves and t.requires_grad else t for t in leaves]


def write(rng: Random, *, autograd: bool) -> Program | None:
    """A random program, or None where its numbers grow too large to compare."""
    writer = Writer(rng, dg, autograd=autograd, data_dependent=False)
    for line in writer.inputs():
        exec(line, writer.space)
    names = list(writer.tensors())
    data = [(t.detach().numpy().copy(), t.requires_grad) for t in writer.tensors().values()]
    body = []
    for _ in range(rng.randint(2, 9)):
        line = writer.line()
        if line is None or "retain_grad" in line or "requires_grad_" in line:
            continue
        try:
            exec(line, writer.space)
        except (RuntimeError, IndexError):
            continue
        body.append(line)
    arrays = [t.detach().numpy() for t in writer.tensors().values()]
    if not all(np.isfinite(a).all() and np.abs(a).max(initial=0) < 1e3 for a in arrays):
        return None
    results = [k for k in writer.tensors() if k.startswith("t")][-4:]
    if not results:
        return None
    lines = [f"def program({', '.join(names)}):", *(f"    {x}" for x in body)]
    source = "\n".join([*lines, f"    return {', '.join(results)},"])
    space: dict[str, Any] = {"lib": dg}
    exec(source, space)
    return Program(space["program"], source, data)


def close(a: Any, b: Any, tolerance: float = 1e-5) -> bool:
    return (a.dtype, a.shape) == (b.dtype, b.shape) and np.allclose(
        a, b, rtol=tolerance, atol=tolerance, equal_nan=True
    )


def check_refusal(error: DualGraphError, program: Program) -> None:
    assert any(m in str(error) for m in REFUSED), f"{program.source}\n{error}"


EXAMPLES = settings(max_examples=120, suppress_health_check=list(HealthCheck))


@EXAMPLES
@given(st.randoms(use_true_random=False))
def test_graphs_compute_what_the_program_does(rng: Random) -> None:
    program = write(rng, autograd=False)
    if program is None:
        return
    expected = [t.numpy() for t in program.function(*program.arguments()[1])]
    try:
        graph = dg.trace(program.function, *program.arguments()[1])
    except DualGraphError as error:
        check_refusal(error, program)
        return
    verify(graph)
    got = interpret(graph, [a.copy() for a, _ in program.data])
    for a, b in zip(got, expected, strict=True):
        # Not always to the last bit: an array's layout decides in which order NumPy adds.
        assert close(np.asarray(a), b, 1e-6), program.source
    text = to_text(graph, full=True)
    assert to_text(parse_graph(text), full=True) == text

    small = optimize(graph, verify=True)
    for a, b in zip(interpret(small, [a.copy() for a, _ in program.data]), expected, strict=True):
        assert close(np.asarray(a), b), f"{program.source}\n{graph}\n{small}"
    strict = optimize(graph, numerics="strict", verify=True)
    for a, b in zip(interpret(strict, [a.copy() for a, _ in program.data]), got, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=program.source)


@settings(EXAMPLES, max_examples=40)
@given(st.randoms(use_true_random=False))
def test_onnx_files_compute_what_the_program_does(rng: Random) -> None:
    import onnx

    program = write(rng, autograd=False)
    if program is None:
        return
    expected = [t.numpy() for t in program.function(*program.arguments()[1])]
    try:
        graph = dg.trace(program.function, *program.arguments()[1])
    except DualGraphError:
        return  # see above
    model = export_graph(optimize(graph, numerics="strict"))
    onnx.checker.check_model(model, full_check=True)
    arrays = {v.name: a.copy() for v, (a, _) in zip(graph.inputs, program.data, strict=True)}
    feeds = {v.name: arrays[v.name] for v in model.graph.input}
    session = rt.InferenceSession(model.SerializeToString())
    for a, b in zip(session.run(None, feeds), expected, strict=True):
        assert close(np.asarray(a), b, 1e-4), program.source
    try:
        theirs = run_onnxruntime(model, feeds)
    except Exception as error:
        if "NOT_IMPLEMENTED" not in str(error):  # it lacks some operators for float64
            raise
        return
    for a, b in zip(theirs, expected, strict=True):
        assert close(np.asarray(a), b, 1e-4), program.source


def outcome(function: Any, program: Program, non_leaves: bool) -> Any:
    """Everything that can be seen of a call and the backward pass after it."""
    leaves, arguments = program.arguments(non_leaves)
    results = function(*arguments)
    loss = sum([(t * t).sum() for t in results if t.requires_grad], dg.zeros(()))
    error = None
    if loss.requires_grad:
        try:
            loss.backward()
        except RuntimeError as raised:
            error = str(raised)
    return (
        [t.detach().numpy().copy() for t in [*results, *arguments]],
        [t.requires_grad for t in [*results, *arguments]],
        [np.zeros_like(t.detach()) if t.grad is None else t.grad.numpy() for t in leaves],
        error,
    )


@settings(EXAMPLES, max_examples=150)
@given(st.randoms(use_true_random=False), st.booleans())
def test_compiled_programs_do_what_the_eager_call_does(rng: Random, non_leaves: bool) -> None:
    program = write(rng, autograd=True)
    if program is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            values, flags, gradients, error = outcome(program.function, program, non_leaves)
        except RuntimeError:
            return  # a write to a leaf, say
        fast = dg.compile(program.function)
        for _ in range(2):
            try:
                found = outcome(fast, program, non_leaves)
            except DualGraphError as refused:
                check_refusal(refused, program)
                return
            for a, b in zip(found[0], values, strict=True):
                assert close(a, b), program.source
            assert found[1] == flags, program.source
            if found[3] is not None:
                assert error is not None, f"{program.source}\n{found[3]}"
            elif error is None:
                # Where eager code finds a saved value overwritten, compiled code has its own copy.
                for a, b in zip(found[2], gradients, strict=True):
                    assert close(a, b, 1e-4), program.source


def test_a_reshape_that_copies_is_no_view() -> None:
    def f(x: Any) -> Any:
        y = x.clone()
        y.T.reshape(-1).mul_(0.0)  # a copy: y keeps its values
        y.reshape(-1)[0] = 5.0
        return y

    x = dg.arange(6.0).reshape(2, 3)
    expected = f(x)
    assert dg.compile(f)(x).tolist() == expected.tolist() == [[5, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("read_first", [False, True])
def test_detached_tensors_share_their_storage_in_a_trace(read_first: bool) -> None:
    def f(x: Any) -> Any:
        y = x * 1
        d = y.detach()
        before = d * 1 if read_first else None
        y.add_(1)
        d.mul_(3)
        return y, d, before

    x = dg.tensor([1.0, 2.0])
    for a, b in zip(dg.compile(f)(x)[:2], f(x)[:2], strict=True):
        assert a.tolist() == b.tolist() == [6.0, 9.0]

"""Random programs of views, in-place writes and autograd, run beside PyTorch line by line.

After every line all tensors must agree, so that a write through one alias is seen through every
other; where PyTorch raises, we raise. Known differences, each of which ends a program:

- PyTorch refuses writes to what `split`, `chunk`, `unbind` give, and operands that overlap the
  target in part; here they do what they say.
- PyTorch lets some operations write to expanded tensors; here that is always refused.
- A saved value overwritten in place is an error for both. Here some operations save less, or keep a
  copy, and then give the right gradient where PyTorch raises: it is compared with the gradient
  of the same program in which everything saved was copied.
- A view made before its base is asked for gradients stays off the tape.
- Where the gradient is zero because a tensor was overwritten entirely, it may be None here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dualgraph as dg
from dualgraph import _dispatch
from tests.frontend.random_programs import Writer

torch = pytest.importorskip("torch")

ONLY_PYTORCH_REFUSES = (
    "function that returns multiple views",
    "some elements of the input tensor and the written-to tensor refer to a single memory",
    "more than one element of the written-to tensor",
)
STALE = "modified by an inplace operation"


class Ended(Exception):
    """The program has come to one of the known differences, or to numbers too large to compare."""


class Pair:
    """One program under both libraries."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.writer = Writer(rng, torch)
        self.theirs = self.writer.space
        self.ours: dict[str, Any] = {"lib": dg}
        self.lines: list[str] = []

    def fail(self, what: str) -> None:
        pytest.fail("\n".join([what, "", *self.lines]))

    def run(self, line: str) -> None:
        """Run a line under both, which must both succeed or both raise."""
        self.lines.append(line)
        expected, got = attempt(line, self.theirs), attempt(line, self.ours)
        if expected is not None and got is None:
            if any(m in str(expected) for m in ONLY_PYTORCH_REFUSES):
                raise Ended
            if "view of a leaf" in str(expected) and any("_(False)" in x for x in self.lines):
                raise Ended
            if STALE in str(expected):
                self.compare_with_copies()
                raise Ended
            self.fail(f"only PyTorch raises: {expected}")
        if got is not None and expected is None:
            if STALE in str(got) or "it was expanded" in str(got):
                raise Ended
            cut = any(s in x for x in self.lines for s in ("chunk", "split", "unbind"))
            if "view of a leaf" in str(got) and cut:
                raise Ended
            self.fail(f"only dualgraph raises: {got!r}")
        if got is not None and not isinstance(got, RuntimeError | IndexError):
            self.fail(f"of another kind than PyTorch's {expected!r}: {got!r}")
        if got is not None and STALE in str(got):
            raise Ended

    def tensors(self) -> Iterator[tuple[str, Any, Any]]:
        for name, t in self.theirs.items():
            if isinstance(t, torch.Tensor):
                yield name, t, self.ours[name]

    def compare(self) -> None:
        """Values, dtypes, shapes and flags of all tensors."""
        for name, t, d in self.tensors():
            self.same(f"value of {name}", t, d)
            try:
                leaf = t.is_leaf
            except RuntimeError as error:  # a view out of `split` whose base was written
                raise Ended from error
            if t.requires_grad and t._base is not None and not d.requires_grad:
                raise Ended
            if (t.requires_grad, leaf) != (d.requires_grad, d.is_leaf):
                self.fail(f"flags of {name}: {t.requires_grad, leaf}, {d.requires_grad, d.is_leaf}")

    def same(self, what: str, t: Any, d: Any) -> None:
        a, b = t.detach().numpy(force=True), d.detach().numpy()
        if a.dtype != b.dtype or a.shape != b.shape:
            self.fail(f"{what}: {a.dtype} {a.shape}, {b.dtype} {b.shape}")
        if not np.isfinite(a).all() or np.abs(a).max(initial=0) > 1e3:
            raise Ended
        single = any("float32" in x for x in self.lines)
        tolerance = (1e-3 if single else 1e-8) * max(1, np.abs(a).max(initial=0))
        if not np.allclose(a, b, rtol=0, atol=tolerance):
            self.fail(f"{what}:\n{a}\n{b}")

    def compare_gradients(self) -> None:
        for name, t, d in self.tensors():
            if not (t.is_leaf or t.retains_grad):
                continue
            if t.grad is None or d.grad is None:
                if any(g is not None and bool((g != 0).any()) for g in (t.grad, d.grad)):
                    self.fail(f"gradient of {name}: {t.grad}, {d.grad}")
            else:
                self.same(f"gradient of {name}", t.grad, d.grad)

    def compare_with_copies(self) -> None:
        """Our gradients beside those of a run in which all that the tape saves is copied."""
        again: dict[str, Any] = {"lib": dg}
        with copies_saved():
            for line in self.lines:
                attempt(line, again)
        for name, t, d in self.tensors():
            if t.is_leaf and d.grad is not None:
                np.testing.assert_allclose(d.grad.numpy(), again[name].grad.numpy(), rtol=1e-6)


def attempt(line: str, space: dict[str, Any]) -> Exception | None:
    try:
        exec(line, space)
    except Exception as error:
        return error
    return None


@contextmanager
def copies_saved() -> Iterator[None]:
    original = _dispatch.record

    def copying(op: Any, edges: Any, arrays: Any, output: Any, cells: Any, cell: Any) -> Any:
        several = type(output) is tuple
        kept = tuple(y.copy() for y in output) if several else output.copy()
        fresh = None if cell is None else [0]
        return original(op, edges, [a.copy() for a in arrays], kept, [[0] for _ in cells], fresh)

    _dispatch.record = copying
    try:
        yield
    finally:
        _dispatch.record = original


def backward(pair: Pair) -> list[str]:
    """Lines that differentiate ``loss``: once, twice, or the gradients in turn."""
    mode = pair.rng.choice(["once", "once", "twice", "second"])
    if mode == "once":
        return ["loss.backward()"]
    if mode == "twice":
        return ["loss.backward(retain_graph=True)", "loss.backward()"]
    found = [n for n, t, _ in pair.tensors() if n != "loss" and t.requires_grad and t.is_leaf]
    if not found:  # by nothing at all nobody differentiates
        return ["loss.backward()"]
    leaves = ", ".join(found)
    return [
        f"gs = lib.autograd.grad(loss, [{leaves}], create_graph=True, allow_unused=True)",
        "gs = [g for g in gs if g is not None and g.requires_grad]",
        "more = sum([(g * g).sum() for g in gs], lib.zeros(()))",
        "if more.requires_grad: more.backward()",
    ]


@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_programs_agree_with_pytorch(rng: Random) -> None:
    pair = Pair(rng)
    writer = pair.writer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both warn, not always of the same
        try:
            for line in writer.inputs():
                pair.run(line)
            for _ in range(rng.randint(3, 11)):
                line = writer.line()
                if line is not None:
                    pair.run(line)
                    pair.compare()
            for line in writer.loss():
                pair.run(line)
            if "loss" not in pair.theirs:
                return
            for _ in range(rng.choice([0, 0, 1, 2])):
                late = writer.in_place()
                if late is not None:
                    pair.run(late)
                    pair.compare()
            for line in backward(pair):
                pair.run(line)
            pair.compare_gradients()
        except Ended:
            pass

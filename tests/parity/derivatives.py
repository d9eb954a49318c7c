"""Second derivatives and tangents of PyTorch's database of operators, here and there.

    python -m tests.parity.derivatives [--only NAME] [--write]

For every entry that PyTorch differentiates twice: the gradients of its gradients, and its tangents
in forward mode, on its smallest samples. What differs is kept in ``derivatives.json``.
"""

from __future__ import annotations

import json
import types
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

import dualgraph as dg

from .compare import close, from_numpy, numpy, tensors
from .ops import DROPPING, PLACES, UNSPECIFIED, Outcome, _short, alarm, entries, title
from .translate import Missing, array, counterpart, translate

KNOWN = Path(__file__).with_name("derivatives.json")
SECONDS = 30
SAMPLES = 2
INDIRECT: set[str] = set()  # entries whose tangents cannot be told from their second gradients


def differentiable() -> list[Any]:
    """The entries that PyTorch differentiates twice."""
    chosen = []
    for op in entries():
        drawn = op.name in UNSPECIFIED or op.name in DROPPING or op.name in PLACES
        wide = torch.float64 in op.supported_backward_dtypes("cpu")
        if op.supports_gradgrad and op.supports_autograd and wide and not drawn:
            chosen.append(op)
    return chosen


def run(op: Any, count: int = SAMPLES) -> Outcome:
    """The smallest samples of an entry."""
    outcome = Outcome(title(op))
    try:
        ours = counterpart(op.op, op.name)
    except Missing as missing:
        outcome.missing = str(missing)
        return outcome
    with warnings.catch_warnings(), alarm(SECONDS, outcome):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        samples = list(op.sample_inputs("cpu", torch.float64, requires_grad=True))
        taken = sorted(samples, key=_size)[:count]
        for sample in taken:
            try:
                outcome.samples += _run_sample(op, ours, sample)
            except Missing as missing:
                outcome.missing = str(missing)
                return outcome
            except TimeoutError:
                raise
            except Exception as error:  # whatever it is, it is what PyTorch does not do
                outcome.samples += 1
                text = str(error).strip().split("\n")[0]
                outcome.problems.append(f"({_short(sample)}): {type(error).__name__}: {text}")
    return outcome


def _size(sample: Any) -> int:
    found = tensors((sample.input, sample.args, sample.kwargs), torch.Tensor)
    return sum(t.numel() if t.numel() else 10**6 for t in found)


def _run_sample(op: Any, ours: Any, sample: Any) -> int:
    seen: dict[int, Any] = {}
    given = (sample.input, *sample.args)
    arguments, keywords = translate(given, seen), translate(sample.kwargs, seen)
    leaves = [t for t in tensors((given, sample.kwargs), torch.Tensor) if t.requires_grad]
    leaves = [t for t in leaves if t.is_leaf]
    own = [seen[id(t)] for t in leaves]
    if not leaves or any(not t.is_leaf for t in own):
        return 0
    finish = sample.output_process_fn_grad
    with_process = isinstance(finish, types.FunctionType)
    try:
        expected = op.op(*given, **sample.kwargs)
        expected = finish(expected) if with_process else expected
        theirs = second(expected, leaves, torch, from_numpy)
    except Exception:  # PyTorch has none for this sample
        return 0

    def call(arguments: Any, keywords: Any) -> Any:
        found = ours(*arguments, **keywords)
        return counterpart(finish)(found) if with_process else found

    mine = second(call(arguments, keywords), own, dg, dg.from_numpy)
    if mine and len(mine) != len(theirs):  # other outputs, without elements, have a gradient, too
        mine, theirs = mine[: len(own)], theirs[: len(own)]
    elif mine and op.supports_forward_ad and op.name not in INDIRECT:
        at = [i for i, y in enumerate(tensors(expected, torch.Tensor)) if y.requires_grad]
        duals = dict(seen)
        with dg.autograd.forward_ad.dual_level():
            for i, (t, x) in enumerate(zip(leaves, own, strict=True)):
                v = _weight(dg.from_numpy, x, 100 + i)
                duals[id(t)] = dg.autograd.forward_ad.make_dual(x.detach(), v)
            result = call(translate(given, duals), translate(sample.kwargs, duals))
            outputs = list(tensors(result, dg.Tensor))
            pushed = [dg.autograd.forward_ad.unpack_dual(outputs[i]).tangent for i in at]
        for i, (a, b) in enumerate(zip(pushed, theirs[len(leaves) :], strict=True)):
            _close(a, b, f"tangent {i}")
    count = max(len(mine), len(theirs))
    pairs = zip(_padded(mine, count), _padded(theirs, count), strict=True)
    for i, (a, b) in enumerate(pairs):
        _close(a, b, f"second gradient {i}")
    return 1


def _padded(found: list[Any], count: int) -> list[Any]:
    """None for each gradient, where there is none at all."""
    return found or [None] * count


def _close(ours: Any, theirs: Any, what: str) -> None:
    if ours is None and theirs is None:
        return
    a = 0 if ours is None else numpy(ours.detach())
    b = 0 if theirs is None else array(theirs.detach().clone())
    shape = np.shape(b) if ours is None else np.shape(a)
    close(np.broadcast_to(a, shape), np.broadcast_to(b, shape), 1e-6, what)


def second(result: Any, leaves: list[Any], framework: Any, make: Any) -> list[Any]:
    """The gradients of the weighted gradients of a result, by the leaves and by the weights."""
    outputs = [y for y in tensors(result, framework.Tensor) if y.requires_grad]
    if not outputs:
        return []
    weights = [_weight(make, y, i).requires_grad_() for i, y in enumerate(outputs)]
    first = framework.autograd.grad(outputs, leaves, weights, create_graph=True, allow_unused=True)
    numbered = [(i, g) for i, g in enumerate(first) if g is not None and g.requires_grad]
    if not numbered:
        return []
    taped = [g for _, g in numbered]
    again = [_weight(make, g, 100 + i) for i, g in numbered]
    by = [*leaves, *weights]
    return list(framework.autograd.grad(taped, by, again, allow_unused=True))


def _weight(make: Any, like: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=tuple(like.shape))
    if like.is_complex():
        values = values + 1j * rng.normal(size=tuple(like.shape))
    kind = {"float64": "f8", "complex128": "c16", "float32": "f4", "complex64": "c8"}
    return make(np.asarray(values, kind[str(like.dtype).split(".")[-1]]))


@click.command(help=__doc__)
@click.option("--only", multiple=True, help="Entries of this name alone.")
@click.option("--write", is_flag=True, help="Keep what differs in derivatives.json.")
def main(only: tuple[str, ...], write: bool) -> None:
    outcomes = []
    for op in differentiable():
        if not only or op.name in only or title(op) in only:
            outcome = run(op)
            outcomes.append(outcome)
            if outcome.problems:
                click.echo(f"{outcome.name}: {outcome.why}")
    compared = [o for o in outcomes if o.samples or o.missing]
    good = [o for o in compared if o.agrees]
    missing = [o for o in compared if o.missing]
    click.echo(f"{len(good)} of {len(compared)} agree, {len(missing)} are missing")
    if write:
        known = {o.name: o.why for o in outcomes if o.problems}
        KNOWN.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

"""Every entry of PyTorch's database of modules: `module_db`."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.testing._internal.common_modules import module_db

import dualgraph as dg

from .compare import Different, from_numpy, gradients, same, same_gradients, tensors
from .ops import SECONDS, Outcome, alarm
from .translate import Missing, lookup, translate

# What they return is drawn at random where they train.
RANDOM = {"FractionalMaxPool2d", "FractionalMaxPool3d"}
DTYPE = torch.float64


def entries() -> list[Any]:
    return list(module_db)


def title(info: Any) -> str:
    return str(info.name.removeprefix("nn."))


def run(info: Any, limit: int | None = None) -> Outcome:
    """A module with each set of arguments, training and not: state, results, gradients, repr."""
    outcome = Outcome(title(info))
    try:
        ours = lookup(dg, info.name)
    except Missing as missing:
        outcome.missing = str(missing)
        return outcome
    with warnings.catch_warnings(), alarm(SECONDS, outcome):
        warnings.simplefilter("ignore")
        for training in (True, False):
            torch.manual_seed(0)
            samples = info.module_inputs_func(
                info, device="cpu", dtype=DTYPE, requires_grad=True, training=training
            )
            for i, sample in enumerate(samples[:limit]):
                if sample.forward_input is None:
                    continue
                name = f"{'train' if training else 'eval'} sample {i} {sample.desc}"
                outcome.samples += 1
                try:
                    _run_sample(info, ours, sample, training)
                except TimeoutError:
                    raise
                except Exception as error:
                    text = str(error).strip().split("\n")[0]
                    kind = "" if isinstance(error, Different) else f"{type(error).__name__}: "
                    outcome.problems.append(f"{name}: {kind}{text}")
    return outcome


def _run_sample(info: Any, ours: Any, sample: Any, training: bool) -> None:
    args, kwargs = sample.constructor_input.args, dict(sample.constructor_input.kwargs)
    theirs_module = info.module_cls(*args, **kwargs).to(DTYPE).train(training)
    module = ours(*translate(args), **translate(kwargs)).to(dg.float64).train(training)
    given, named = sample.forward_input.args, sample.forward_input.kwargs
    seen: dict[int, Any] = {}
    own_given, own_named = translate(given, seen), translate(named, seen)
    lazy = any(isinstance(p, torch.nn.UninitializedParameter) for p in theirs_module.parameters())
    if lazy:
        with torch.no_grad():
            theirs_module(*given, **named)
        with dg.no_grad():
            module(*own_given, **own_named)
    state = theirs_module.state_dict()
    if list(module.state_dict()) != list(state):
        raise Different(f"state: {list(module.state_dict())}, not {list(state)}")
    module.load_state_dict({k: translate(v) for k, v in state.items()})
    if repr(module) != repr(theirs_module):
        raise Different(f"repr: {module!r}, not {theirs_module!r}")
    expected, found = theirs_module(*given, **named), module(*own_given, **own_named)
    values = not (training and (_draws(theirs_module) or title(info) in RANDOM))
    same(found, expected, "result", values=values)
    if not values:
        return
    leaves = [t for t in tensors((given, named), torch.Tensor) if t.requires_grad]
    theirs_all = [*leaves, *theirs_module.parameters()]
    own_all = [seen[id(t)] for t in leaves] + list(module.parameters())
    theirs = gradients(expected, theirs_all, torch, from_numpy) if theirs_all else []
    same_gradients(
        gradients(found, own_all, dg, dg.from_numpy) if theirs else [], theirs, "gradient"
    )
    same(dict(module.state_dict()), dict(theirs_module.state_dict()), "state afterwards")


def _draws(module: torch.nn.Module) -> bool:
    """Whether dropout anywhere in a module that trains makes its results random."""
    for m in module.modules():
        p = (
            getattr(m, "p", None)
            if isinstance(m, torch.nn.modules.dropout._DropoutNd)
            else getattr(m, "dropout", 0.0)
        )
        if (isinstance(p, float) and p > 0) or isinstance(m, torch.nn.RReLU):
            return True
    return False

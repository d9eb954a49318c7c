"""Runs a PyTorch program in this process, by PyTorch or by dualgraph, both from the same weights
and with the same random draws, and notes what it learned."""

from __future__ import annotations

import contextlib
import importlib
import io
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from dualgraph.torch import installed


@contextlib.contextmanager
def dualgraph_as_torch() -> Iterator[Any]:
    """Within, `import torch` gives dualgraph, even where PyTorch has been imported."""
    hidden = {k: v for k, v in sys.modules.items() if k == "torch" or k.startswith("torch.")}
    for name in hidden:
        del sys.modules[name]
    try:
        with installed():
            yield importlib.import_module("torch")
    finally:
        sys.modules.update(hidden)


@dataclass
class Run:
    """What a program did.

    Attributes:
        losses: every tensor that `backward` was called on, in order.
        weights: what the parameters were, in order, wherever a model or an optimizer was made.
        printed: what it wrote to standard output.
    """

    losses: list[float] = field(default_factory=list)
    weights: list[np.ndarray[Any, Any]] = field(default_factory=list)
    printed: str = ""


def run(name: str, arguments: Sequence[str], torch: Any, like: Run | None = None) -> Run:
    """Run ``dualgraph_models.examples.name`` with `torch`, from the weights of the run `like`."""
    found = Run()
    printed = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)  # what PyTorch advises
        patch.setattr(sys, "argv", [name, *arguments])
        patch_random(patch, torch)
        patch_training(patch, torch, found, like)
        runpy.run_module(f"dualgraph_models.examples.{name}", run_name="__main__")
    found.printed = printed.getvalue()
    return found


def patch_training(
    patch: pytest.MonkeyPatch, torch: Any, found: Run, like: Run | None
) -> list[Any]:
    """Note losses and weights in `found`; take the weights of `like`. Returns all parameters."""
    backward, to, optimizer = torch.Tensor.backward, torch.nn.Module.to, torch.optim.Optimizer

    def noted_backward(self: Any, *args: Any, **kwargs: Any) -> None:
        found.losses.append(self.item())
        backward(self, *args, **kwargs)

    def hand_over(parameters: Any) -> None:
        for p in parameters:
            if like is not None:
                with torch.no_grad():
                    p.copy_(torch.from_numpy(like.weights[len(found.weights)]))
            found.weights.append(np.array(p.detach().numpy()))

    def noted_to(self: Any, *args: Any, **kwargs: Any) -> Any:
        moved = to(self, *args, **kwargs)
        hand_over(moved.parameters())
        return moved

    made = optimizer.__init__

    def noted_optimizer(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        hand_over(p for group in self.param_groups for p in group["params"])

    patch.setattr(torch.Tensor, "backward", noted_backward)
    patch.setattr(torch.nn.Module, "to", noted_to)
    patch.setattr(optimizer, "__init__", noted_optimizer)


def patch_random(patch: pytest.MonkeyPatch, torch: Any) -> None:
    """Let whatever a program draws come from NumPy.

    Integers and the order of samples have generators of their own: data loaders draw seeds.
    """
    rng, order, integers = (np.random.default_rng(seed) for seed in range(3))

    def shape_of(size: Sequence[Any]) -> tuple[int, ...]:
        return tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else tuple(size)

    def tensor(array: Any, dtype: Any, device: Any) -> Any:
        return torch.tensor(array, dtype=dtype or torch.float32, device=device)

    def drawn(draw: Callable[[tuple[int, ...]], Any]) -> Callable[..., Any]:
        return lambda *size, dtype=None, device=None, **_: tensor(
            draw(shape_of(size)), dtype, device
        )

    def drawn_like(draw: Callable[[tuple[int, ...]], Any]) -> Callable[..., Any]:
        return lambda x, **_: tensor(draw(tuple(x.shape)), x.dtype, x.device)

    def randint(*args: Any, dtype: Any = None, device: Any = None, **_: Any) -> Any:
        low, high, size = args if len(args) == 3 else (0, *args)
        return tensor(integers.integers(low, high, size), dtype or torch.int64, device)

    def multinomial(weights: Any, num_samples: int, replacement: bool = False, **_: Any) -> Any:
        sums = weights.detach().double().cumsum(-1).numpy()
        assert replacement or num_samples == 1
        points = rng.random((*sums.shape[:-1], num_samples)) * sums[..., -1:]
        return torch.tensor((points[..., None] > sums[..., None, :]).sum(-1))

    def dropout(self: Any, x: Any) -> Any:
        if not self.training or self.p == 0:
            return x
        kept = rng.random(tuple(x.shape)) >= self.p
        return x * tensor(kept / (1 - self.p), x.dtype, x.device)

    def shuffled(self: Any) -> Iterator[int]:
        return iter(order.permutation(len(self.data_source)).tolist())

    def random_split(dataset: Any, lengths: Sequence[int], generator: Any = None) -> list[Any]:
        places = order.permutation(sum(lengths)).tolist()
        ends = np.cumsum(lengths)
        return [
            torch.utils.data.Subset(dataset, places[end - length : end])
            for end, length in zip(ends, lengths, strict=True)
        ]

    patch.setattr(torch.utils.data, "random_split", random_split)
    patch.setattr(torch, "randn", drawn(rng.standard_normal))
    patch.setattr(torch, "rand", drawn(rng.random))
    patch.setattr(torch, "randn_like", drawn_like(rng.standard_normal))
    patch.setattr(torch, "rand_like", drawn_like(rng.random))
    patch.setattr(torch, "randint", randint)
    patch.setattr(torch, "multinomial", multinomial)
    patch.setattr(torch.nn.Dropout, "forward", dropout)
    patch.setattr(torch.utils.data.RandomSampler, "__iter__", shuffled)

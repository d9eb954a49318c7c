"""Activation checkpointing, as ``torch.utils.checkpoint``: memory for time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from dualgraph_compiler.errors import ArgumentError, CheckpointError

from ..autograd.grad_mode import local
from ..autograd.recompute import Region, is_first_run

__all__ = [
    "CheckpointError",
    "checkpoint",
    "checkpoint_sequential",
    "noop_context_fn",
    "set_checkpoint_early_stop",
]

Contexts = tuple[AbstractContextManager[Any], AbstractContextManager[Any]]


def noop_context_fn() -> Contexts:
    """Two contexts that do nothing: the default of `context_fn`."""
    return nullcontext(), nullcontext()


class _Settings:
    """See `set_checkpoint_early_stop`."""

    early_stop = False


@contextmanager
def set_checkpoint_early_stop(enable: bool) -> Iterator[None]:
    """Whether regions inside end their second run with the last operation of the first."""
    before, _Settings.early_stop = _Settings.early_stop, enable
    try:
        yield
    finally:
        _Settings.early_stop = before


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], Contexts] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """``function(*args, **kwargs)``, of which nothing but the arguments is kept for the backward.

    The backward runs the function again. What it writes besides its result is then written twice,
    such as running statistics of batch norm. In a compiled function the operations are in the graph
    twice, and no pass merges them.

    Args:
        use_reentrant: both of PyTorch's variants are the same here, without the limits of the
            reentrant one (which takes no keyword arguments, there and here).
        context_fn: gives the contexts to enter around the first run and around the second.
        determinism_check: "default" compares operations, shapes and dtypes of the two runs; "none"
            compares how many operations there are.
        debug: accepted.
        early_stop: accepted; the second run goes to the end, so that a function that does more than
            at first is noticed, unless :func:`set_checkpoint_early_stop` says otherwise.
        preserve_rng_state: draw the same random numbers in both runs.

    Raises:
        CheckpointError: in the backward, if the second run differs from the first.
        AutogradError: in the backward, if an argument was overwritten since.

    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
    """
    if kwargs and use_reentrant:
        raise ArgumentError(f"Unexpected keyword arguments: {','.join(kwargs)}")
    if determinism_check not in ("default", "none"):
        raise ArgumentError(
            f"determinism_check should be one of 'default' and 'none', got {determinism_check!r}"
        )
    if not local.grad or is_first_run():
        return function(*args, **kwargs)
    region = Region(
        function,
        args,
        kwargs,
        preserve_rng_state=preserve_rng_state,
        contexts=context_fn(),
        checked=determinism_check == "default",
        early_stop=_Settings.early_stop,
    )
    return region.first()


def checkpoint_sequential(
    functions: Any,
    segments: int,
    input: Any,
    use_reentrant: bool | None = None,
    *,
    preserve_rng_state: bool = True,
) -> Any:
    """Run `functions`, a Sequential or a list, one on the other's result, in checkpointed segments.

    There are `segments` of them, of equal length up to the last, which is not checkpointed since
    its backward comes first.
    """
    steps = list(functions.children()) if hasattr(functions, "children") else list(functions)
    if not 0 < segments <= max(len(steps), 1):
        raise ArgumentError(f"expected 1 to {len(steps)} segments, got {segments}")
    size = len(steps) // segments
    last = size * (segments - 1)
    for start in range(0, last, size):
        input = checkpoint(
            partial(_run, steps[start : start + size]),
            input,
            use_reentrant=use_reentrant,
            preserve_rng_state=preserve_rng_state,
        )
    return _run(steps[last:], input)


def _run(steps: Sequence[Callable[[Any], Any]], input: Any) -> Any:
    for step in steps:
        input = step(input)
    return input

"""c = sum(x*y + z) on 3x4 and its three gradients: what a call costs."""

from __future__ import annotations

from typing import Any

import dualgraph as dg

from .. import peers
from ..contenders import EAGER, INTERPRETED, NATIVE, normal
from ..harness import Row, Work

_TITLE = "c = sum(x*y + z) on 3x4 with its gradients"


def compiled(threads: int) -> Row:
    """Compiled calls, ours and the peers'."""
    return Row(f"{_TITLE}, compiled", _work(threads), claim=NATIVE, target=15.0)


def eager(threads: int) -> Row:
    """Eager code, ours and PyTorch's."""
    work = _work(threads)
    kept = {name: work[name] for name in (EAGER, "torch eager") if name in work}
    return Row(f"{_TITLE}, eager", kept, claim=EAGER, target=3.0)


def _work(threads: int) -> dict[str, Work]:
    arrays = [normal(3, 4) for _ in range(3)]
    x, y, z = (dg.tensor(a, requires_grad=True) for a in arrays)

    def eagerly() -> None:
        x.grad = y.grad = z.grad = None
        (x * y + z).sum().backward()

    def with_gradients(x: Any, y: Any, z: Any) -> Any:
        c = (x * y + z).sum()
        return c, *dg.autograd.grad(c, [x, y, z])

    interpreted = dg.compile(with_gradients, execution="interpreter")
    native = dg.compile(with_gradients, execution="native")
    work: dict[str, Work] = {
        EAGER: eagerly,
        INTERPRETED: lambda: interpreted(x, y, z),
        NATIVE: lambda: native(x, y, z),
    }
    torch = peers.torch(threads)
    if torch is not None:
        work["torch eager"] = _torch(torch, arrays)
    jax = peers.jax(threads)
    if jax is not None:
        f = jax.jit(jax.value_and_grad(lambda x, y, z: (x * y + z).sum(), argnums=(0, 1, 2)))
        on_device = [jax.device_put(a) for a in arrays]
        work["jax.jit"] = lambda: jax.block_until_ready(f(*on_device))
    return work


def _torch(torch: Any, arrays: list[Any]) -> Work:
    x, y, z = (torch.tensor(a, requires_grad=True) for a in arrays)

    def run() -> None:
        x.grad = y.grad = z.grad = None
        (x * y + z).sum().backward()

    return run

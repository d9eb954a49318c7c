"""What a compiled call costs before its graph runs: microseconds from the call to the interpreter.

``python -m benchmarks.call_overhead``: the smallest call, an MLP, ResNet-18, and a whole training
step with Adam; each beside the time of the whole call, interpreted and native.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph.tracing.program import Program
from dualgraph_models.resnet import resnet18
from dualgraph_runtime.options import Execution


class Reached(Exception):
    """The program is about to run."""


def before_the_program(call: Callable[[], Any], repeat: int = 2000) -> float:
    """The best of ten: microseconds from a call to where its program would run."""

    def stop(*args: Any, **kwargs: Any) -> Any:
        raise Reached

    run, best = Program.run_apart, float("inf")
    Program.run_apart = stop
    try:
        for _ in range(10):
            start = time.perf_counter()
            for _ in range(repeat // 10):
                with contextlib.suppress(Reached):
                    call()
            best = min(best, (time.perf_counter() - start) / (repeat // 10))
    finally:
        Program.run_apart = run
    return best * 1e6


def whole(call: Callable[[], Any], count: int = 20) -> float:
    """The best of ten blocks of calls: microseconds of one."""
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(count):
            call()
        best = min(best, time.perf_counter() - start)
    return best / count * 1e6


def cases(execution: Execution) -> dict[str, Callable[[], Any]]:
    """Calls to measure, which run so."""
    add = dg.compile(lambda x, y: x + y, execution=execution)
    a, b = dg.ones(3, 4), dg.ones(3, 4)
    mlp = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).eval()
    small, x = dg.compile(mlp, execution=execution), dg.randn(8, 64)
    resnet = dg.compile(resnet18().eval(), execution=execution)
    image = dg.randn(1, 3, 32, 32)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    opt = optim.Adam(model.parameters())
    y = dg.randint(0, 10, (8,))

    @dg.compile(execution=execution)
    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    def quiet(f: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        def call() -> Any:
            with dg.no_grad():
                return f(*args)

        return call

    return {
        "x + y, 3x4": lambda: add(a, b),
        "MLP, no_grad": quiet(small, x),
        "ResNet-18, no_grad": quiet(resnet, image),
        "training step, Adam": lambda: step(x, y),
    }


def main() -> None:
    """Print a table."""
    print(f"{'':24}{'before the graph':>18}{'interpreted':>14}{'native':>14}")
    native = cases("native")
    for name, call in cases("interpreter").items():
        for _ in range(4):
            call()
            native[name]()
        times = [before_the_program(call), whole(call), whole(native[name])]
        print(f"{name:24}{times[0]:15.1f} us{times[1]:11.1f} us{times[2]:11.1f} us")


if __name__ == "__main__":
    main()

"""How the time of the compiler's passes grows with the graph.

    python -m benchmarks.compile_scaling

Two families of graphs, of 100, 1,000 and 10,000 nodes: a training-step-like mixture, half of which
the passes remove, and a residual network with batch norm to fold. Prints milliseconds per pass, and
the growth from one size to the next (10 is linear).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from dualgraph_compiler import Dim, Graph, TensorType
from dualgraph_compiler.compile import optimize_with_report
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.graph import verify
from dualgraph_compiler.graph.networkx import to_networkx
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.activation import Relu
from dualgraph_compiler.ops.batch_norm import BatchNorm
from dualgraph_compiler.ops.conv import Conv
from dualgraph_compiler.ops.linalg import Linear
from dualgraph_compiler.ops.pointwise import Neg
from dualgraph_compiler.passes.group_pointwise import group_pointwise

SIZES = (100, 1_000, 10_000)


def mixture(nodes: int) -> Graph:
    """Linear layers and pointwise work; much of it is redundant."""
    graph = Graph("mixture")
    x = graph.add_input(TensorType(float32, (Dim("batch"), 8)), "x")
    rng = np.random.default_rng(0)
    while len(graph) < nodes:
        weight = graph.add_param(rng.normal(size=(8, 8)).astype(np.float32), f"w{len(graph)}")
        h = Linear()(x, weight)
        twice = (h * 1 + 0) + (h * 1 + 0)
        gate = f.exp(Neg()(Neg()(twice))) * f.expand(graph.constant(np.float32(0.5)), h.shape)
        x = f.reshape(f.reshape(gate, (8, x.shape[0])), h.shape) + h - (x - x * 1)
    graph.set_outputs([x])
    return graph


def residual(nodes: int) -> Graph:
    """Blocks of convolution, batch norm, ReLU and a shortcut."""
    graph = Graph("residual")
    x = graph.add_input(TensorType(float32, (Dim("batch"), 4, 8, 8)), "x")
    rng = np.random.default_rng(0)
    conv = Conv((1, 1), ((1, 1), (1, 1)), (1, 1))
    while len(graph) < nodes:
        weight = graph.add_param(rng.normal(size=(4, 4, 3, 3)).astype(np.float32), f"w{len(graph)}")
        statistics = [
            graph.add_param(np.full(4, v, np.float32), f"{name}{len(graph)}")
            for name, v in (("weight", 1.5), ("bias", 0.5), ("mean", 0.25), ("var", 2.0))
        ]
        x = Relu()(BatchNorm()(conv(x, weight), *statistics) + x)
    graph.set_outputs([x])
    return graph


def timed(run: Callable[[], object]) -> float:
    """Milliseconds of one run, the best of three."""
    best = float("inf")
    for _ in range(3):
        gc.collect()
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    return best * 1e3


def measure(build: Callable[[int], Graph], nodes: int) -> dict[str, float]:
    """Milliseconds by step for one graph."""
    graph = build(nodes)
    out, report = optimize_with_report(graph, freeze=True)
    rows = {"build": timed(lambda: build(nodes)), "copy": timed(graph.copy)}
    for record in report.passes:
        rows[record.name] = rows.get(record.name, 0.0) + record.seconds * 1e3
    rows["group pointwise"] = timed(lambda: group_pointwise(out))
    rows["optimize, in all"] = timed(lambda: optimize_with_report(graph, freeze=True))
    rows["verify"] = timed(lambda: verify(graph))
    rows["print"] = timed(lambda: str(graph))
    rows["to_networkx"] = timed(lambda: to_networkx(graph))
    return rows


def main() -> None:
    """Print one table per family of graphs."""
    for build in (mixture, residual):
        columns = [measure(build, nodes) for nodes in SIZES]
        head = "".join(f"{n:>11,}" for n in SIZES)
        print(f"\n{build.__name__:<28}{head}   growth\n{'-' * 71}")
        for name in columns[0]:
            values = [c[name] for c in columns]
            growth = " ".join(f"{b / a:4.1f}x" for a, b in pairwise(values))
            print(f"{name:<28}{''.join(f'{v:9.2f}ms' for v in values)}   {growth}")


if __name__ == "__main__":
    main()

"""How the time of the compiler's passes grows with the graph.

    python -m benchmarks.compile_scaling

Families of graphs, of 100, 1,000 and 10,000 nodes: a mixture, half of which the passes remove; a
residual network with batch norm to fold; whole training steps (forward, backward, update) as traced
from Python; and images, sequences and windows of symbolic sizes. Prints milliseconds of processor
time per step of the compiler, and the growth from one size to the next (10 is linear); `--save`
keeps them in a JSON file.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from dualgraph.tracing.trace import trace_call
from dualgraph_compiler import Dim, Graph, TensorType
from dualgraph_compiler.compile import optimize_with_report, pipeline
from dualgraph_compiler.dims import minimum
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.graph import verify
from dualgraph_compiler.graph.networkx import to_networkx
from dualgraph_compiler.graph.page import render
from dualgraph_compiler.graph.steps import steps_of
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.activation import Relu
from dualgraph_compiler.ops.batch_norm import BatchNorm
from dualgraph_compiler.ops.conv import Conv
from dualgraph_compiler.ops.linalg import Linear
from dualgraph_compiler.ops.pointwise import Neg
from dualgraph_compiler.ops.rearrange import Concat
from dualgraph_compiler.ops.slicing import Slice
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


def training(nodes: int) -> Graph:
    """A training step of a deep perceptron, traced: forward, backward, and an optimizer's step."""
    import dualgraph as dg
    from dualgraph import nn, optim

    dg.manual_seed(0)
    layers = max(nodes // 11, 1)
    model = nn.Sequential(*(m for _ in range(layers) for m in (nn.Linear(4, 4), nn.Tanh())))
    optimizer = optim.SGD(model.parameters(), lr=0.01)

    def step(x: dg.Tensor) -> dg.Tensor:
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return trace_call(step, (dg.ones(3, 4),), {}, dynamic_shapes={"x": {0: "batch"}}).graph


def symbolic(nodes: int) -> Graph:
    """Convolutions, pooling, padding, slices, merging and splitting: every size is symbolic."""
    graph = Graph("symbolic")
    n, h, w = Dim("n"), Dim("h", min=8), Dim("w", min=8)
    image = graph.add_input(TensorType(float32, (n, 2, h, w)), "image")
    weight = graph.add_param(np.ones((2, 2, 3, 3), np.float32), "weight")
    half = Conv((2, 2), ((1, 1), (1, 1)), (1, 1))
    x = image
    while len(graph) < nodes:
        y = Relu()(half(x, weight))
        rows, columns = y.shape[2:]
        tokens = f.permute(f.reshape(y, (n, 2, rows * columns)), (0, 2, 1))
        merged = f.reshape(tokens, (n * rows * columns, 2))
        back = f.permute(f.reshape(merged, (n, rows, columns, 2)), (0, 3, 1, 2))
        whole = (n, 2, rows, columns)
        below = Slice((0, 0, minimum(1, rows), 0), whole, (1, 1, 1, 1))(back)
        joined = Concat(2)(below, back)
        x = Slice((0, 0, joined.shape[2] - rows, 0), joined.shape, (1, 1, 1, 1))(joined)
        x = f.reshape(x, whole)
        if rows == (h + 7) // 8:
            x = image * f.sum(x, (0, 1, 2, 3), False)
    graph.set_outputs([x])
    return graph


def timed(run: Callable[[], object]) -> float:
    """Milliseconds of processor time of one run, the best of three."""
    best = float("inf")
    for _ in range(3):
        gc.collect()
        started = time.process_time()
        run()
        best = min(best, time.process_time() - started)
    return best * 1e3


def measure(build: Callable[[int], Graph], nodes: int) -> dict[str, float]:
    """Milliseconds by step for one graph."""
    graph = build(nodes)
    freeze = build is not training  # which writes to its params
    out, _ = optimize_with_report(graph, freeze=freeze)
    rows = {"build": timed(lambda: build(nodes)), "copy": timed(graph.copy)}
    work = graph.copy()
    if freeze:
        work.freeze()
    for p in pipeline():
        started = time.process_time()
        p.run(work)
        rows[p.name] = rows.get(p.name, 0.0) + (time.process_time() - started) * 1e3
    rows["group pointwise"] = timed(lambda: group_pointwise(out))
    rows["optimize, in all"] = timed(lambda: optimize_with_report(graph, freeze=freeze))
    rows["verify"] = timed(lambda: verify(graph))
    rows["print"] = timed(lambda: str(graph))
    rows["to_networkx"] = timed(lambda: to_networkx(graph))
    rows["show"] = timed(lambda: render(steps_of(graph), graph.name))
    return rows


def main() -> None:
    """Print one table per family of graphs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", metavar="FILE.json")
    options = parser.parse_args()
    saved = {}
    for build in (mixture, residual, training, symbolic):
        columns = [measure(build, nodes) for nodes in SIZES]
        saved[build.__name__] = {str(n): c for n, c in zip(SIZES, columns, strict=True)}
        head = "".join(f"{n:>11,}" for n in SIZES)
        print(f"\n{build.__name__:<28}{head}   growth\n{'-' * 71}")
        for name in columns[0]:
            values = [c[name] for c in columns]
            growth = " ".join(f"{b / a:4.1f}x" for a, b in pairwise(values))
            print(f"{name:<28}{''.join(f'{v:9.2f}ms' for v in values)}   {growth}")
    if options.save:
        rounded = {
            family: {n: {k: round(ms, 3) for k, ms in c.items()} for n, c in sizes.items()}
            for family, sizes in saved.items()
        }
        Path(options.save).write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What symbolic sizes cost: one native build for all sizes beside a build for each.

``python -m benchmarks.dynamic_sizes``: microseconds of a call, both in alternating blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn
from dualgraph_models import encoder, resnet

BLOCKS = 15
BLOCK_SECONDS = 0.03


def cases() -> Iterator[tuple[str, Any, Any, list[Any]]]:
    """A name, a function, its symbolic sizes, and inputs of several sizes."""
    mlp = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()).eval()
    yield "MLP 784-512-512", mlp, {0: "batch"}, [dg.randn(n, 784) for n in (1, 64)]
    net = resnet.ResNet(num_classes=10, width=16).eval()
    yield (
        "ResNet-18, width 16, 32 x 32",
        net,
        {0: "batch"},
        [dg.randn(n, 3, 32, 32) for n in (1, 8)],
    )
    block = encoder.Encoder(layers=1).eval()
    length = dg.Dim("length", max=512)
    yield "encoder, 1 layer", block, {1: length}, [dg.randint(0, 1000, (1, n)) for n in (17, 128)]
    rows = lambda x: F.layer_norm(F.gelu(x), x.shape[-1:])  # noqa: E731
    yield "GELU and layer norm", rows, {0: "rows"}, [dg.randn(n, 768) for n in (16, 128)]


def seconds(works: list[Callable[[], Any]]) -> list[float]:
    """The best block of each, in turn."""
    best = [float("inf")] * len(works)
    counts = []
    for work in works:
        work()
        start = time.perf_counter()
        work()
        counts.append(max(1, int(BLOCK_SECONDS / (time.perf_counter() - start))))
    for _ in range(BLOCKS):
        for i, work in enumerate(works):
            start = time.perf_counter()
            for _ in range(counts[i]):
                work()
            best[i] = min(best[i], (time.perf_counter() - start) / counts[i])
    return best


def main() -> None:
    """Print a table."""
    print(f"{'':34}{'specialised':>12}{'symbolic':>12}{'ratio':>8}")
    with dg.no_grad():
        for name, f, sizes, inputs in cases():
            symbolic = dg.compile(f, execution="native", dynamic_shapes=(sizes,))
            for x in inputs:
                special = dg.compile(f, execution="native", dynamic=False)
                one, all_ = seconds([partial(special, x), partial(symbolic, x)])
                shape = "x".join(map(str, x.shape))
                print(f"{name + ', ' + shape:34}{one * 1e6:9.1f} us{all_ * 1e6:9.1f} us"
                      f"{all_ / one:8.2f}")  # fmt: skip
            assert len(symbolic.graphs) == 1


if __name__ == "__main__":
    main()

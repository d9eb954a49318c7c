"""Nested arguments and results, iterators, arrays, objects."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from .harness import Cases, data, filled

cases = Cases()


class Pair(NamedTuple):
    """Two things."""

    first: Any
    second: Any = None


@dataclasses.dataclass
class Batch:
    """A batch of samples."""

    x: Any
    y: Any = None
    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A batch that cannot be changed, with a field that is no argument."""

    x: Any
    n: int = 2
    doubled: int = dataclasses.field(init=False, default=4)


@cases()
def nested_arguments_and_results(dg, compile):
    @compile
    def f(tree):
        x, (y, k) = tree["a"]
        return {"sum": [x + y, (x * k,)], "none": None, 3: {"deep": [[y]]}}

    x, y = data(dg, 2), data(dg, 2, low=3)
    yield f({"a": [x, (y, 2)]})
    yield f({"a": [y, (x, 5)]})
    yield f({"a": (x, [y, 2])})


@cases()
def named_tuples(dg, compile):
    f = compile(lambda p: Pair(p.first * 2, p.second if p.second is None else p.second + 1))
    yield f(Pair(data(dg, 2), data(dg, 3)))
    yield f(Pair(data(dg, 2)))


@cases()
def dataclasses_in_and_out(dg, compile):
    @compile
    def f(batch):
        return Batch(batch.x * batch.scale, y=batch.y)

    yield f(Batch(data(dg, 2)))
    yield f(Batch(data(dg, 2), data(dg, 3), 4.0))
    yield f(Batch(data(dg, 2), scale=2.0))


@cases()
def dict_keys_in_another_order(dg, compile):
    @compile
    def f(named):
        total = 0
        for i, x in enumerate(named.values()):
            total = total + x * i
        return total, list(named)

    yield f({"a": data(dg, 2), "b": data(dg, 2, low=4)})
    yield f({"b": data(dg, 2, low=4), "a": data(dg, 2)})


@cases()
def lists_that_change_between_calls(dg, compile):
    f = compile(lambda xs, ks: sum(xs) * sum(ks))
    xs, ks = [data(dg, 2)], [1]
    yield f(xs, ks)
    xs.append(data(dg, 2, low=3))
    yield f(xs, ks)
    ks[0] = 4
    yield f(xs, ks)
    ks.append(5)
    yield f(xs, ks)


@cases()
def very_deep_nesting(dg, compile):
    f = compile(lambda tree: tree)
    tree = [data(dg, 2)]
    for _ in range(150):
        tree = [tree]
    found = f(tree)
    depth = 0
    while isinstance(found, list):
        found, depth = found[0], depth + 1
    yield depth, found


@cases()
def generators_as_arguments(dg, compile):
    f = compile(lambda xs: sum(x * x for x in xs))
    for n in (2, 3, 2):
        yield f(data(dg, 2) + i for i in range(n))


@cases()
def zip_map_enumerate_and_reversed(dg, compile):
    @compile
    def f(xs, ys):
        total = 0
        for i, (x, y) in enumerate(zip(xs, reversed(ys), strict=True)):
            total = total + i * x * y
        return total, [x + 1 for x in map(dg.tanh, xs)]

    yield f([data(dg, 2), data(dg, 2, low=2)], [data(dg, 2, low=4), data(dg, 2)])


@cases(mixed="the list is an argument once")
def a_shape_as_an_argument(dg, compile):
    f = compile(lambda x, shape: x.reshape(shape))
    x = data(dg, 2, 3)
    yield f(x, (3, 2)), f(x, [6]), f(x, dg.zeros(6, 1).shape)


@cases()
def modules_and_optimizers_as_arguments(dg, compile):
    @compile
    def step(model, opt, x):
        loss = model(x).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.detach()

    one, two = (filled(dg, dg.nn.Linear(3, 2)) for _ in range(2))
    opts = [dg.optim.SGD(m.parameters(), lr=0.1 * (i + 1)) for i, m in enumerate((one, two))]
    for model, opt in ((one, opts[0]), (two, opts[1]), (one, opts[0])):
        yield step(model, opt, data(dg, 4, 3)), model

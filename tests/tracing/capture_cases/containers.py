"""Nested arguments and results, iterators, arrays, objects."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, NamedTuple

import numpy as np

from .harness import Cases, data, error_of, filled

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
def frozen_dataclasses(dg, compile):
    f = compile(lambda b: Frozen(b.x * b.n * b.doubled, b.n + 1))
    yield f(Frozen(data(dg, 2)))
    yield f(Frozen(data(dg, 2), 3))


@cases()
def dicts_of_other_kinds(dg, compile):
    @compile
    def f(named):
        out = type(named)() if type(named) is not collections.defaultdict else {}
        for key, x in named.items():
            out[key] = x * 2
        return out

    x = data(dg, 2)
    yield f(collections.OrderedDict(b=x, a=x + 1))
    yield f({"b": x, "a": x + 1})
    yield f(collections.defaultdict(list, {"a": x}))
    yield f({})


@cases(may_warn=True)
def results_of_other_kinds(dg, compile):
    @compile
    def f(x):
        found = collections.defaultdict(list)
        found["a"].append(x + 1)
        queue = collections.deque([x * 2])
        return found, queue, frozenset(["a"]), range(3), x.shape, x.dtype

    out = f(data(dg, 2, 3))
    yield out[0], list(out[1]), sorted(out[2]), list(out[3]), tuple(out[4]), str(out[5])[-7:]
    out[0]["b"].append(1)
    out = f(data(dg, 2, 3))
    yield out[0], list(out[1])


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
def dict_keys_that_are_equal_but_of_other_types(dg, compile):
    f = compile(lambda named: [x * k for k, x in named.items()])
    for key in (1, 1.0, True):
        yield f({key: dg.tensor([2, 3])})


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


@cases(may_warn=True)
def an_argument_list_that_the_function_changes(dg, compile):
    @compile
    def f(x, out):
        out.append(x * 2)
        return len(out)

    out = []
    yield f(data(dg, 2), out), out
    yield f(data(dg, 2), out), out
    yield f(data(dg, 2, low=5), out), out


@cases(may_warn=True)
def an_argument_dict_that_the_function_changes(dg, compile):
    @compile
    def f(named):
        named["y"] = named["x"] + 1
        return named.pop("z", None)

    for _ in range(2):
        named = {"x": data(dg, 2), "z": 3}
        yield f(named), named


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


@cases(may_warn=True)
def iterators_are_used_up(dg, compile):
    @compile
    def f(xs):
        return next(xs) * 2

    xs = iter([data(dg, 2), data(dg, 2, low=3), data(dg, 2, low=7)])
    yield f(xs)
    yield f(xs)
    yield f(xs)
    yield error_of(lambda: f(xs))


@cases(may_warn=True)
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


@cases()
def sets_and_ranges_as_arguments(dg, compile):
    @compile
    def f(x, sizes, flags):
        for k in sizes:
            x = x + k
        return x * 2 if "double" in flags else x

    yield f(data(dg, 2), range(3), {"double"})
    yield f(data(dg, 2), range(4), frozenset())
    yield f(data(dg, 2), range(3), {"single"})


@cases(mixed="the list is an argument once")
def a_shape_as_an_argument(dg, compile):
    f = compile(lambda x, shape: x.reshape(shape))
    x = data(dg, 2, 3)
    yield f(x, (3, 2)), f(x, [6]), f(x, dg.zeros(6, 1).shape)


@cases(may_warn=True)
def numpy_arrays_as_arguments(dg, compile):
    f = compile(lambda x, a: x * dg.tensor(a))
    a = np.array([1.0, 2.0], np.float32)
    yield f(data(dg, 2), a)
    a[0] = 7
    yield f(data(dg, 2), a)
    yield f(data(dg, 2), np.float32(3.0))
    yield f(data(dg, 2), np.int64(3))


@cases()
def captured_numpy_arrays_change(dg, compile):
    a = np.array([1.0, 2.0], np.float32)

    @compile
    def f(x):
        return x * dg.tensor(a)

    yield f(data(dg, 2))
    a[0] = 7
    yield f(data(dg, 2))


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

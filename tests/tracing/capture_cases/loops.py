"""Python loops over tensors and on their values; the constructs of the library."""

from __future__ import annotations

from .harness import Cases, data

cases = Cases()

# -- loops -----------------------------------------------------------------------------------------


@cases()
def for_over_the_rows_of_a_tensor(dg, compile):
    @compile
    def f(x):
        total = dg.zeros(3)
        for row in x:
            total = total * 2 + row
        return total

    yield f(data(dg, 4, 3))
    yield f(data(dg, 0, 3))
    yield f(data(dg, 2, 3))


@cases()
def comprehensions_and_unpacking_over_rows(dg, compile):
    @compile
    def f(x):
        a, b, *rest = x
        return [row * 2 for row in x], a + b, rest, {i: r.sum() for i, r in enumerate(x)}

    yield f(data(dg, 3, 2))
    yield f(data(dg, 4, 2))


# -- the constructs of the library -----------------------------------------------------------------


@cases(graphs=1, torch="spelled otherwise there")
def cond(dg, compile):
    f = compile(lambda x: dg.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, (x,)))
    for low in (-9.0, 9.0):
        yield f(data(dg, 3, low=low))


@cases(graphs=1, torch="spelled otherwise there")
def while_loop(dg, compile):
    @compile
    def f(x):
        return dg.while_loop(lambda i, x: x.sum() < 50, lambda i, x: (i + 1, x * 2 + 1), (0, x))

    for low in (0.0, 30.0):
        yield f(data(dg, 3, low=low))


@cases(graphs=1, torch="spelled otherwise there")
def scan_with_gradients(dg, compile):
    w = data(dg, 3, low=0.5, high=1.5, grad=True)

    @compile
    def f(x):
        last, states = dg.scan(lambda h, x: (h * w + x, h.tanh()), dg.zeros(3), x)
        return last.sum() + states.sum()

    for low in (-1.0, 1.0):
        x = data(dg, 4, 3, low=low, grad=True)
        f(x).backward()
        yield x, w

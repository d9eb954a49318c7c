"""Python loops over tensors and on their values; the constructs of the library."""

from __future__ import annotations

from .harness import Cases, data

cases = Cases()

# -- loops -----------------------------------------------------------------------------------------


@cases(graphs=1)
def while_on_a_tensor(dg, compile):
    @compile
    def f(x):
        while x.sum() < 100:
            x = x * 2 + 1
        return x

    for low in (0.0, 30.0, 200.0):
        yield f(data(dg, 3, low=low))


@cases(graphs=1)
def while_with_a_counter(dg, compile):
    @compile
    def f(x):
        steps = dg.tensor(0)
        while x.norm() > 1:
            x = x / 2
            steps = steps + 1
        return x, steps

    for low in (0.0, 30.0):
        yield f(data(dg, 3, low=low))


@cases()
def while_with_a_python_counter(dg, compile):
    @compile
    def f(x):
        steps = 0
        while x.norm() > 1:
            x = x / 2
            steps += 1
        return x, steps

    for low in (0.0, 30.0, 2.0):
        yield f(data(dg, 3, low=low))


@cases()
def while_with_break_and_continue(dg, compile):
    @compile
    def f(x):
        i = dg.tensor(0)
        total = dg.zeros(())
        while i < 10:
            i = i + 1
            if x[i % 3] < 0:
                continue
            total = total + x[i % 3]
            if total > 5:
                break
        return total, i

    for low in (-1.0, 1.0, 3.0):
        yield f(data(dg, 3, low=low))


@cases()
def while_with_else(dg, compile):
    @compile
    def f(x):
        while x.sum() > 1:
            x = x / 2
            if x.max() < 0.1:
                break
        else:
            x = x + 100
        return x

    for low in (-9.0, 4.0, 40.0):
        yield f(data(dg, 3, low=low))


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


@cases(graphs=1)
def for_over_a_range_of_a_tensor(dg, compile):
    @compile
    def f(x, n):
        for i in range(n):
            x = x * 2 + i
        return x

    for n in (0, 1, 5):
        yield f(data(dg, 3), dg.tensor(n))


@cases()
def for_with_break_on_a_value(dg, compile):
    @compile
    def f(x):
        total = dg.zeros(())
        for i in range(6):
            total = total + x[i]
            if total > 4:
                break
        return total, i

    for low in (-1.0, 1.0, 5.0):
        yield f(data(dg, 6, low=low))


@cases()
def for_with_continue_and_else(dg, compile):
    @compile
    def f(x):
        total = dg.zeros(())
        for row in x:
            if row.sum() < 0:
                continue
            total = total + row.sum()
            if total > 20:
                break
        else:
            total = total - 100
        return total

    for low in (-3.0, 1.0, 9.0):
        yield f(data(dg, 4, 2, low=low))


@cases()
def return_inside_a_loop(dg, compile):
    @compile
    def f(x):
        for i in range(5):
            x = x * 2
            if x.sum() > 20:
                return x, i
        return x - 1, -1

    for low in (-1.0, 1.0, 9.0):
        yield f(data(dg, 3, low=low))


@cases(graphs=1)
def a_loop_in_a_branch_and_a_branch_in_a_loop(dg, compile):
    @compile
    def f(x):
        if x.sum() > 0:
            while x.sum() < 50:
                if x[0] > 3:
                    x = x * 2
                else:
                    x = x + 2
        return x

    for low in (-9.0, 1.0, 5.0):
        yield f(data(dg, 3, low=low))


@cases(may_warn=True)
def gradients_through_while(dg, compile):
    w = data(dg, 3, low=1.5, high=2, grad=True)

    @compile
    def f(x):
        while x.sum() < 50:
            x = x * w + 1
        return x.sum()

    for low in (0.0, 9.0):
        x = data(dg, 3, low=low, grad=True)
        f(x).backward()
        yield x, w


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

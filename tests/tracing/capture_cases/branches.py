"""Python branches on the values of tensors."""

from __future__ import annotations

from .harness import Cases, data, error_of

cases = Cases()


@cases(graphs=1)
def if_else(dg, compile):
    @compile
    def f(x):
        if x.sum() > 0:
            y = x * 2
        else:
            y = x - 1
        return y

    for low in (-1.0, 3.0, -9.0):
        yield f(data(dg, 3, low=low))


@cases(graphs=1)
def if_without_else(dg, compile):
    @compile
    def f(x):
        y = x + 1
        if y.mean() > 1:
            y = y / 2
        return y

    for low in (-1.0, 3.0):
        yield f(data(dg, 3, low=low))


@cases(graphs=1)
def elif_chains(dg, compile):
    @compile
    def f(x):
        s = x.sum()
        if s > 10:
            out = x * 10
        elif s > 3:
            out = x * 3
        elif s < -3:
            out = -x
        else:
            out = x * 0
        return out

    for low in (-9.0, -1.0, 1.0, 3.0, 9.0):
        yield f(data(dg, 3, low=low))


@cases(graphs=1)
def early_returns(dg, compile):
    @compile
    def f(x):
        if x.sum() > 5:
            return x * 2
        y = x + 1
        if y.sum() < 0:
            return y
        return y * 3

    for low in (-9.0, 1.0, 9.0):
        yield f(data(dg, 3, low=low))


@cases(graphs=1)
def nested_branches(dg, compile):
    @compile
    def f(x, y):
        if x.sum() > 0:
            if y.sum() > 0:
                z = x + y
            else:
                z = x - y
        else:
            z = x * y
            if y.sum() > 0:
                z = z + 1
        return z

    for low in (-9.0, 9.0):
        for other in (-9.0, 9.0):
            yield f(data(dg, 3, low=low), data(dg, 3, low=other))


@cases(graphs=1)
def a_conditional_expression(dg, compile):
    f = compile(lambda x: x * 2 if x.sum() > 0 else -x)
    for low in (-9.0, 9.0):
        yield f(data(dg, 3, low=low))


@cases(graphs=1)
def and_or_not(dg, compile):
    @compile
    def f(x, y):
        if (x.sum() > 0 and y.sum() > 0) or not (x.min() > -5):
            return x + y
        return x - y

    for low in (-9.0, -1.5, 9.0):
        for other in (-9.0, 9.0):
            yield f(data(dg, 3, low=low), data(dg, 3, low=other))


@cases(may_warn=True)
def and_or_give_their_operands(dg, compile):
    @compile
    def f(x, y):
        return (x.sum() or y.sum()) + 1, (x.sum() and y.sum()) * 2

    for low in (0.0, 2.0):
        yield f(dg.full((2,), low), data(dg, 3))


@cases(graphs=1)
def chained_comparisons(dg, compile):
    @compile
    def f(x):
        if 0 < x.sum() < 5:
            return x * 2
        return x

    for low in (-9.0, 0.0, 9.0):
        yield f(data(dg, 3, low=low))


@cases(graphs=1)
def branches_that_change_several_variables(dg, compile):
    @compile
    def f(x):
        a, b, n = x, x * 2, 1
        if x.sum() > 0:
            a, b = b, a
            c = a + b
        else:
            c = a - b
            b = b + n
        return a, b, c

    for low in (-9.0, 9.0):
        yield f(data(dg, 3, low=low))


@cases()
def branches_that_change_python_numbers(dg, compile):
    @compile
    def f(x):
        k = 1
        if x.sum() > 0:
            k = k + 2
        return x * k

    for low in (-9.0, 9.0):
        yield f(data(dg, 3, low=low))


@cases(may_warn=True)
def branches_with_other_shapes(dg, compile):
    @compile
    def f(x):
        if x.sum() > 0:
            return x[:2]
        return x

    for low in (-9.0, 9.0, -9.0):
        yield f(data(dg, 3, low=low))


@cases(may_warn=True)
def branches_with_other_dtypes(dg, compile):
    @compile
    def f(x):
        if x.sum() > 0:
            return x.long()
        return x

    for low in (-9.0, 9.0):
        yield f(data(dg, 3, low=low))


@cases(may_warn=True)
def branches_that_give_none_or_strings(dg, compile):
    @compile
    def f(x):
        if x.sum() > 0:
            return None, "positive"
        return x, "negative"

    for low in (-9.0, 9.0, -9.0):
        yield f(data(dg, 3, low=low))


@cases()
def branches_that_write_in_place(dg, compile):
    @compile
    def f(x):
        y = x * 1
        if y.sum() > 0:
            y.add_(1)
        else:
            y[0] = 7
        return y

    for low in (-9.0, 9.0):
        yield f(data(dg, 3, low=low))


@cases()
def branches_that_write_to_arguments_and_state(dg, compile):
    count = dg.zeros(2)

    @compile
    def f(x):
        if x.sum() > 0:
            x.mul_(2)
            count[0] += 1
        else:
            count[1] += 1
        return count * 1

    for low in (-9.0, 9.0, 8.0):
        x = data(dg, 3, low=low)
        yield f(x), x, count


@cases(may_warn=True)
def branches_that_append_to_lists(dg, compile):
    @compile
    def f(x):
        out = [x]
        if x.sum() > 0:
            out.append(x * 2)
        return out

    for low in (-9.0, 9.0, -8.0):
        yield f(data(dg, 3, low=low))


@cases(may_warn=True)
def branches_that_raise(dg, compile):
    @compile
    def f(x):
        if x.min() < -5:
            raise ValueError("too small")
        return x * 2

    for low in (-1.0, -9.0, -1.0):
        x = data(dg, 3, low=low)
        yield error_of(lambda x=x: f(x)), x


@cases(graphs=1)
def gradients_through_branches(dg, compile):
    w = data(dg, 3, low=2, grad=True)

    @compile
    def f(x):
        if x.sum() > 0:
            y = x * w
        else:
            y = (x * w).tanh()
        return y.sum()

    for low in (-2.0, 2.0):
        x = data(dg, 3, low=low, grad=True)
        f(x).backward()
        yield x, w


@cases()
def a_branch_in_a_called_function(dg, compile):
    def clip(x, limit):
        if x.abs().max() > limit:
            x = x / x.abs().max() * limit
        return x

    f = compile(lambda x: clip(x, 2) + clip(x * 3, 1))
    for low in (-9.0, 0.1):
        yield f(data(dg, 3, low=low))


@cases(graphs=1)
def a_branch_that_detaches(dg, compile):
    w = data(dg, 3, low=2, grad=True)

    @compile
    def f(x):
        if x.sum() > 0:
            y, z = (x * w).detach(), w * 2
        else:
            y, z = x - 1, w * 3
        return y, z, y + 1

    for low in (-9.0, 2.0):
        yield f(data(dg, 3, low=low))

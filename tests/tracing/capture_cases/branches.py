"""Python branches on the values of tensors."""

from __future__ import annotations

from .harness import Cases, data, error_of

cases = Cases()


@cases(may_warn=True)
def and_or_give_their_operands(dg, compile):
    @compile
    def f(x, y):
        return (x.sum() or y.sum()) + 1, (x.sum() and y.sum()) * 2

    for low in (0.0, 2.0):
        yield f(dg.full((2,), low), data(dg, 3))


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

"""Values of tensors read by Python, and shapes that depend on them."""

from __future__ import annotations

import math

from .harness import Cases, data, error_of

cases = Cases()

# -- values read by Python -------------------------------------------------------------------------


@cases(graphs=1)
def item_and_float(dg, compile):
    f = compile(lambda x: x * x.sum().item() + float(x.max()))
    for low in (-3.0, 2.0):
        yield f(data(dg, 3, low=low))


@cases(warns="int|index|bool|item", may_warn=True)
def int_index_and_bool(dg, compile):
    @compile
    def f(x, n):
        part = x[: int(n)]
        return part, x[n], [1, 2, 3][n], bool(n > 1), x.reshape(n + 1, -1) if n == 2 else x

    for n in (1, 2, 1):
        yield f(data(dg, 6), dg.tensor(n))


@cases(warns="numpy|tolist")
def numpy_and_tolist(dg, compile):
    @compile
    def f(x):
        a = x.detach().numpy() * 2
        return dg.tensor(a), x.tolist(), sum(x.tolist())

    for low in (-3.0, 2.0):
        yield f(data(dg, 3, low=low))


@cases(may_warn=True)
def text_of_a_tensor(dg, compile):
    @compile
    def f(x):
        return f"{x.sum().item():.2f}", x * 2, f"{x.sum():.1f}"

    for low in (-3.0, 2.0):
        yield f(data(dg, 3, low=low))


@cases(torch="warns of converting a tensor", may_warn=True)
def functions_of_math(dg, compile):
    @compile
    def f(x):
        return x * math.sqrt(x.square().sum()), x + math.exp(x[0].item())

    caught = None
    for low in (-3.0, 2.0):
        yield f(data(dg, 3, low=low)), caught


@cases(may_warn=True)
def membership(dg, compile):
    @compile
    def f(x):
        return x * 2 if 2 in x else x

    yield f(dg.tensor([1, 2, 3]))
    yield f(dg.tensor([4, 5, 6]))


@cases(may_warn=True)
def assertions_on_tensors(dg, compile):
    @compile
    def f(x):
        assert x.sum() > 0, "must be positive"
        return x * 2

    yield f(data(dg, 3, low=2))
    yield error_of(lambda: f(data(dg, 3, low=-9)))
    yield f(data(dg, 3, low=3))


@cases(may_warn=True)
def sorting_and_extremes_by_python(dg, compile):
    @compile
    def f(x, y):
        return max(x.sum(), y.sum()), min(x[0], y[0], x[1]), sorted([x[0], y[0], x[1]])

    for low in (-3.0, 2.0):
        yield f(data(dg, 3, low=low), data(dg, 3))


@cases(may_warn=True)
def try_and_except_that_swallow_everything(dg, compile):
    @compile
    def f(x):
        try:
            if x.sum() > 0:
                return x * 2
        except Exception:
            return x * 0
        return x - 1

    for low in (-9.0, 9.0):
        yield f(data(dg, 3, low=low))


@cases(may_warn=True)
def try_and_except_around_a_value(dg, compile):
    @compile
    def f(x):
        try:
            k = x.sum().item()
        except Exception:
            k = 0.0
        return x * k

    for low in (-9.0, 9.0):
        yield f(data(dg, 3, low=low))


@cases()
def errors_that_are_handled(dg, compile):
    @compile
    def f(x, named):
        try:
            y = x + named["bias"]
        except KeyError:
            y = x * 2
        finally:
            z = x - 1
        try:
            y = y @ dg.ones(7, 7)
        except RuntimeError:
            y = y + 100
        return y, z

    yield f(data(dg, 3), {})
    yield f(data(dg, 3), {"bias": data(dg, 3)})


# -- shapes that depend on values ------------------------------------------------------------------


@cases(may_warn=True)
def selection_by_a_mask(dg, compile):
    f = compile(lambda x: x[x > 0] * 2)
    for low in (-3.0, 2.0, -1.0):
        yield f(data(dg, 5, low=low))


@cases(may_warn=True)
def nonzero_unique_and_masked_select(dg, compile):
    @compile
    def f(x):
        return x.nonzero(), dg.unique(x), dg.masked_select(x, x > 1), dg.where(x > 1)[0]

    yield f(dg.tensor([0, 2, 2, 5]))
    yield f(dg.tensor([0, 0, 1, 5]))


@cases(may_warn=True)
def the_length_of_a_selection(dg, compile):
    @compile
    def f(x):
        found = x[x > 0]
        return found.sum() / max(len(found), 1), found.shape[0], found.numel()

    for low in (-3.0, 2.0, -9.0):
        yield f(data(dg, 5, low=low, high=1))


@cases(may_warn=True)
def assignment_by_a_mask(dg, compile):
    @compile
    def f(x):
        y = x.clone()
        y[y < 0] = 0
        y[x > 1] *= 2
        return y

    for low in (-3.0, 2.0):
        yield f(data(dg, 5, low=low))


@cases(may_warn=True)
def repeat_interleave_and_one_hot_by_values(dg, compile):
    @compile
    def f(x, n):
        return x.repeat_interleave(n), dg.nn.functional.one_hot(n), dg.bincount(n)

    yield f(data(dg, 3), dg.tensor([1, 0, 2]))
    yield f(data(dg, 3), dg.tensor([3, 1, 1]))


@cases(may_warn=True)
def sizes_made_of_values(dg, compile):
    @compile
    def f(n):
        return dg.zeros(int(n)), dg.arange(n.item()), dg.ones(n.item(), 2).sum()

    for n in (2, 4, 0):
        yield f(dg.tensor(n))

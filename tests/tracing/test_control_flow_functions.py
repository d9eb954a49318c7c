"""Kinds of functions whose control flow is captured: decorated, partial, methods, lambdas, ..."""

from __future__ import annotations

import functools

import pytest

import dualgraph as dg


def passed_on(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return f(*args, **kwargs)

    return wrapper


@passed_on
def decorated(x, *, k=2):
    if x.sum() > 0:
        return x * k
    return x - k


def recursive(x, n):
    if n == 0:
        return x
    if x.sum() > 3:
        return recursive(x - 1, n - 1)
    return recursive(x + 1, n - 1)


class Callable:
    scale = 3

    @staticmethod
    def folded(x):
        return x if x.sum() > 0 else -x

    @classmethod
    def scaled(cls, x):
        return x * cls.scale if x.sum() > 0 else -x

    @property
    def two(self):
        return 2

    def __call__(self, x):
        return self.folded(x) + self.scaled(x) * self.two


def assigned_in_the_test(x):
    n = 0
    while (y := x.sum()) < 10:
        x = x + y.abs() + 1
        n += 1
    return x, n, y


def tried(x):
    try:
        if x.sum() > 0:
            z = x + 1
        else:
            z = x - 1
    except ValueError:
        z = None
    else:
        z = z * 2
    return z


def matched(x, mode="a"):
    match mode:
        case "a":
            if x.sum() > 0:
                return x
            x = x * 3
        case _:
            return None
    return x + 1


def comprehensions(x):
    rows = [r * 2 if r > 1 else r for r in x]
    return rows, {i: (v if v > 0 else -v) for i, v in enumerate(x)}


@dg.no_grad()
def off_the_tape(x):
    return x * 2 if x.sum() > 0 else x


def built_in_functions(x):
    low = min(float(x[0]), 1.5)
    return max(x[0], x[1]), low, any([x[0] > 1, x[1] > 1]), all([x.sum() > 0])


def defaults(x, f=lambda t: t if t.max() > 1 else t * 5):
    return f(x)


@pytest.mark.parametrize(
    "f",
    [
        decorated,
        functools.partial(decorated, k=5),
        functools.partial(recursive, n=3),
        Callable(),
        Callable.folded,
        Callable.scaled,
        assigned_in_the_test,
        tried,
        matched,
        comprehensions,
        off_the_tape,
        built_in_functions,
        defaults,
    ],
    ids=lambda f: getattr(f, "__name__", type(f).__name__),
)
def test_functions(f) -> None:
    fast = dg.compile(f, fullgraph=True)
    for values in ([1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [0.5, -0.25, 0.125]):
        assert repr(fast(dg.tensor(values))) == repr(f(dg.tensor(values)))
    assert len(fast.graphs) == 1

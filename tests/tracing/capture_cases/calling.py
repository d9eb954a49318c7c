"""How functions are called: Python values, signatures, methods, objects."""

from __future__ import annotations

import enum
import functools

from .harness import Cases, data, error_of

cases = Cases()

# -- Python values as arguments --------------------------------------------------------------------


@cases()
def python_numbers_change_between_calls(dg, compile):
    f = compile(lambda x, k: x * k + (k + 1))
    x = data(dg, 3)
    for k in (2, 3, 2, -7, 0, 10**6):
        yield f(x, k)
    for k in (0.5, 1.5, -2.0):
        yield f(x, k)


@cases()
def numbers_that_are_equal_but_of_other_types(dg, compile):
    @compile
    def f(x, k):
        return x * k, type(k).__name__, x.long() / k

    x = data(dg, 3)
    for k in (1, True, 1.0, True, 1):
        yield f(x, k)


@cases()
def numbers_in_a_tuple_that_are_equal_but_of_other_types(dg, compile):
    f = compile(lambda x, ks: [x.long() * k for k in ks])
    for ks in ((1, 2), (1.0, 2.0), (True, 2), (1, 2)):
        yield f(data(dg, 3, low=1, high=5), ks)


@cases()
def none_or_a_tensor(dg, compile):
    @compile
    def f(x, bias=None, *, scale=None):
        y = x if bias is None else x + bias
        return y if scale is None else y * scale

    x = data(dg, 2, 3)
    yield f(x)
    yield f(x, data(dg, 3))
    yield f(x, scale=data(dg, 1, 3))
    yield f(x, None)
    yield f(x, bias=data(dg, 3), scale=2)


class Mode(enum.Enum):
    """Two ways to reduce."""

    SUM = 1
    MEAN = 2


# -- signatures ------------------------------------------------------------------------------------


@cases()
def variadic_arguments(dg, compile):
    @compile
    def f(*xs, scale=1, **named):
        total = sum(xs) * scale
        for name in sorted(named):
            total = total * 2 + named[name]
        return total

    x, y = data(dg, 3), data(dg, 3, low=2)
    yield f(x)
    yield f(x, y)
    yield f(x, y, y, scale=3)
    yield f(x, a=y, b=x)
    yield f(x, b=y, a=x)


@cases()
def positional_only_and_keyword_only(dg, compile):
    @compile
    def f(x, /, y, *, z=3):
        return x * y + z

    yield f(data(dg, 2), data(dg, 2, low=2))
    yield f(data(dg, 2), y=data(dg, 2, low=2), z=data(dg, 2))


@cases()
def a_default_that_is_a_tensor(dg, compile):
    weight = data(dg, 3)

    @compile
    def f(x, w=weight):
        return x * w

    yield f(data(dg, 3, low=2))
    weight.add_(1)
    yield f(data(dg, 3, low=2))
    yield f(data(dg, 3, low=2), data(dg, 3))


@cases()
def wrong_arguments_are_type_errors(dg, compile):
    f = compile(lambda x, y=1: x + y)
    yield error_of(lambda: f())
    yield error_of(lambda: f(data(dg, 2), 1, 2))
    yield error_of(lambda: f(data(dg, 2), z=3))
    yield f(data(dg, 2))


# -- what is compiled ------------------------------------------------------------------------------


@cases()
def partial_functions(dg, compile):
    def affine(x, scale, bias=0):
        return x * scale + bias

    half = functools.partial(affine, scale=0.5)
    shifted = functools.partial(affine, bias=data(dg, 3), scale=2)
    first = functools.partial(affine, data(dg, 3, low=4))
    yield compile(half)(data(dg, 3)), compile(half)(data(dg, 3), bias=1)
    yield compile(shifted)(data(dg, 3)), compile(first)(3)


@cases()
def decorated_functions(dg, compile):
    def twice(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(function(*args, **kwargs), **kwargs)

        return wrapper

    @compile
    @twice
    def f(x, scale=3):
        return x * scale

    yield f(data(dg, 3)), f(data(dg, 3), scale=2), f.__name__


@cases()
def library_functions_and_modules_as_they_are(dg, compile):
    relu, add = compile(dg.relu), compile(dg.add)
    yield relu(data(dg, 3)), add(data(dg, 3), data(dg, 3)), add(data(dg, 3), 2, alpha=3)
    yield compile(dg.nn.Flatten())(data(dg, 2, 3, 4)), compile(dg.nn.Identity())(data(dg, 2))
    yield compile(len)([1, 2]), compile(max)(3, 4)


@cases()
def a_function_without_tensors(dg, compile):
    f = compile(lambda a, b: (a + b, "done"))
    yield f(1, 2)
    yield f(1.5, 2)
    yield f("x", "y")

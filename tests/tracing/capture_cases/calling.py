"""How functions are called: Python values, signatures, methods, objects."""

from __future__ import annotations

import enum
import functools

from .harness import Cases, data, error_of, filled

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
def minus_zero_is_not_zero(dg, compile):
    f = compile(lambda x, k: 1 / (x * k))
    x = dg.ones(2)
    yield f(x, 0.0)
    yield f(x, -0.0)
    yield f(x, 0.0)


@cases(graphs=1)
def nan_is_the_same_number_each_time(dg, compile):
    f = compile(lambda x, k: dg.where(x > 0, x, k))
    for _ in range(4):
        yield f(data(dg, 3), float("nan"))


@cases()
def strings_and_flags_choose_the_branch(dg, compile):
    @compile
    def f(x, mode="relu", double=False):
        y = x.relu() if mode == "relu" else x.tanh()
        return y * 2 if double else y

    x = data(dg, 4)
    yield f(x)
    yield f(x, mode="tanh", double=True)
    yield f(x, "relu")
    yield f(x, double=False, mode="relu")


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


@cases()
def enums_slices_dtypes_and_functions(dg, compile):
    @compile
    def f(x, mode, part, dtype, activation):
        x = activation(x[part]).to(dtype)
        return x.sum() if mode is Mode.SUM else x.mean()

    x = data(dg, 6)
    yield f(x, Mode.SUM, slice(0, 3), dg.float64, dg.relu)
    yield f(x, Mode.MEAN, slice(0, 3), dg.float64, dg.relu)
    yield f(x, Mode.SUM, slice(2, None, 2), dg.float32, dg.tanh)
    yield f(x, Mode.SUM, slice(0, 3), dg.float64, dg.relu)


@cases()
def an_object_argument_whose_attribute_changes(dg, compile):
    class Config:
        scale = 2
        bias = 0.5

    f = compile(lambda x, config: x * config.scale + config.bias)
    config = Config()
    x = data(dg, 3)
    yield f(x, config)
    config.scale = 5
    yield f(x, config)
    config.bias = 1.5
    yield f(x, config)


# -- signatures ------------------------------------------------------------------------------------


@cases()
def keywords_in_any_order(dg, compile):
    f = compile(lambda x, y, z: x - 2 * y + 3 * z)
    x, y, z = data(dg, 2), data(dg, 2, low=3), data(dg, 2, low=5)
    yield f(x, y, z)
    yield f(x, z=z, y=y)
    yield f(z=z, y=y, x=x)
    yield f(y=x, z=y, x=z)


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
def bound_methods(dg, compile):
    class Scaler:
        def __init__(self, scale):
            self.scale = scale

        def run(self, x):
            return x * self.scale

    two, three = Scaler(2), Scaler(data(dg, 3, low=3))
    f, g = compile(two.run), compile(three.run)
    yield f(data(dg, 3)), g(data(dg, 3))
    two.scale = 7
    yield f(data(dg, 3))


@cases(mixed="the stand-in is no descriptor")
def methods_compiled_in_the_class(dg, compile):
    class Scaler:
        def __init__(self, scale):
            self.scale = scale

        @compile
        def run(self, x):
            return x * self.scale

    two, three = Scaler(2), Scaler(3)
    for _ in range(2):
        yield two.run(data(dg, 3)), three.run(data(dg, 3))
    two.scale = 5
    yield two.run(data(dg, 3))


@cases(mixed="the stand-in is no descriptor")
def a_forward_compiled_in_its_module(dg, compile):
    class Net(dg.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = dg.nn.Linear(3, 2)

        @compile
        def forward(self, x):
            return self.linear(x).relu()

    net, other = filled(dg, Net()), filled(dg, Net())
    with dg.no_grad():
        other.linear.weight.mul_(2)
    yield net(data(dg, 4, 3)), other(data(dg, 4, 3)), net(data(dg, 4, 3))


@cases()
def class_and_static_methods(dg, compile):
    class Maths:
        offset = 2

        @classmethod
        def shifted(cls, x):
            return x + cls.offset

        @staticmethod
        def doubled(x):
            return x * 2

    f, g = compile(Maths.shifted), compile(Maths.doubled)
    yield f(data(dg, 3)), g(data(dg, 3)), compile(Maths().doubled)(data(dg, 2))
    Maths.offset = 5
    yield f(data(dg, 3))


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
def callable_objects(dg, compile):
    class Power:
        def __init__(self, n):
            self.n = n
            self.weight = data(dg, 2)

        def __call__(self, x):
            return x**self.n * self.weight

    power = Power(2)
    f = compile(power)
    yield f(data(dg, 2))
    power.n = 3
    yield f(data(dg, 2))
    power.weight = data(dg, 2, low=5)
    yield f(data(dg, 2))
    yield f.n


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

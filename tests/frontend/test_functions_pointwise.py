"""Functions of one, two and three operands against PyTorch: values, dtypes, gradients."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from .parity import array, check, compare, dg, refuses

FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
INTS = [np.int64, np.int32, np.uint8, np.bool_]

EVERYWHERE = [
    "abs",
    "atan",
    "asinh",
    "ceil",
    "cos",
    "cosh",
    "deg2rad",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "frac",
    "neg",
    "rad2deg",
    "relu",
    "round",
    "sgn",
    "sigmoid",
    "sign",
    "sin",
    "sinc",
    "sinh",
    "square",
    "tan",
    "tanh",
    "trunc",
    "positive",
    "logical_not",
    "isnan",
    "isinf",
    "isfinite",
    "signbit",
    "nan_to_num",
    "isposinf",
    "isneginf",
]
POSITIVE = ["sqrt", "rsqrt", "reciprocal", "log", "log2", "log10", "log1p"]
UNIT = ["asin", "acos", "atanh", "logit"]


@pytest.mark.parametrize("name", EVERYWHERE)
def test_unary(name: str) -> None:
    check(name, array(3, 4))
    check(name, array(3, 4, dtype=np.float32))
    check(name, array(1)[0:1].reshape(()))
    check(name, np.zeros((2, 0)))
    check(name, np.array([np.nan, np.inf, -np.inf, 0.0, -0.0]), grad=False)


@pytest.mark.parametrize("name", POSITIVE)
def test_unary_of_positive(name: str) -> None:
    check(name, array(3, 4, low=0.1))
    check(name, np.array([np.nan, np.inf, -np.inf, 0.0, -1.0]), grad=False)


@pytest.mark.parametrize("name", UNIT)
def test_unary_of_unit_interval(name: str) -> None:
    check(name, array(3, 4, low=0.05, high=0.95))


def test_acosh() -> None:
    check("acosh", array(5, low=1.1, high=3))


@pytest.mark.parametrize("name", ["sqrt", "exp", "sin", "sigmoid", "tanh", "log2", "rsqrt", "erf"])
@pytest.mark.parametrize("dtype", INTS)
def test_integers_become_floats(name: str, dtype: type) -> None:
    check(
        name,
        np.abs(array(3, dtype=dtype).astype(np.int64)).astype(dtype)
        if dtype != np.bool_
        else array(3, dtype=bool),
    )


@pytest.mark.parametrize("name", ["exp", "tanh", "sqrt", "sigmoid", "abs", "neg"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_narrow_floats(name: str, dtype: type) -> None:
    check(name, array(7, dtype=dtype, low=0.2), scale=2)


@pytest.mark.parametrize(
    "name", ["abs", "floor", "ceil", "trunc", "round", "neg", "sign", "square", "relu"]
)
@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8])
def test_integers_stay(name: str, dtype: type) -> None:
    check(name, array(6, dtype=dtype))


@pytest.mark.parametrize(
    "name", ["abs", "neg", "exp", "sin", "sgn", "square", "conj", "real", "angle", "sqrt", "tanh"]
)
def test_complex(name: str) -> None:
    check(name, array(5, dtype=np.complex128), scale=10)


def test_imag_and_parts() -> None:
    check("imag", array(5, dtype=np.complex128))
    compare(lambda s: s.tensor(array(4, dtype=np.complex64)).real, "real property")
    compare(lambda s: s.module.complex(s.tensor(array(3)), s.tensor(array(3, seed=1))), "complex")
    compare(
        lambda s: s.module.polar(s.tensor(array(3, low=0.1)), s.tensor(array(3, seed=1))), "polar"
    )


def test_round_decimals() -> None:
    check("round", array(6) * 100, decimals=1)
    check("round", array(6) * 100, decimals=-1)


# -- two operands ---------------------------------------------------------------------------------

BINARY = [
    "add",
    "sub",
    "mul",
    "div",
    "maximum",
    "minimum",
    "atan2",
    "fmax",
    "fmin",
    "remainder",
    "fmod",
    "hypot",
    "floor_divide",
    "copysign",
    "logaddexp",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_and",
    "logical_or",
    "logical_xor",
    "true_divide",
]


@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str) -> None:
    grad = name != "floor_divide"  # which PyTorch does not differentiate
    check(name, array(3, 4), array(3, 4, seed=1), grad=grad)
    check(name, array(3, 1), array(4, seed=1), grad=grad)
    check(name, array(2, 3, 4), array(3, 1, seed=1), grad=grad)
    check(name, array(3), array(1, seed=1).reshape(()), grad=grad)


@pytest.mark.parametrize(
    "name", ["add", "sub", "mul", "div", "remainder", "fmod", "floor_divide", "eq", "lt", "ge"]
)
@pytest.mark.parametrize("number", [2, -3, 1.5, True, 0.25])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int16, np.uint8])
def test_number_operands(name: str, number: object, dtype: type) -> None:
    if name in ("remainder", "fmod", "floor_divide") and dtype == np.uint8 and number == -3:
        pytest.skip("PyTorch wraps the divisor")
    if name == "sub" and number is True:
        pytest.skip("PyTorch refuses bools here")
    check(name, array(5, dtype=dtype), number, grad=name != "floor_divide")


@pytest.mark.parametrize("mode", [None, "trunc", "floor"])
@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_rounded_division(mode: str | None, dtype: type) -> None:
    divisor = np.array([3, -3, 2, 7, -1]).astype(dtype)
    check("div", array(5, dtype=dtype), divisor, rounding_mode=mode)


@pytest.mark.parametrize(
    "operator", ["+", "-", "*", "/", "//", "%", "**", "<", "<=", "==", "!=", ">", ">="]
)
@pytest.mark.parametrize("reflected", [False, True])
def test_operators(operator: str, reflected: bool) -> None:
    import operator as o

    table = {
        "+": o.add,
        "-": o.sub,
        "*": o.mul,
        "/": o.truediv,
        "//": o.floordiv,
        "%": o.mod,
        "**": o.pow,
        "<": o.lt,
        "<=": o.le,
        "==": o.eq,
        "!=": o.ne,
        ">": o.gt,
        ">=": o.ge,
    }
    f = table[operator]
    for number in (2, 1.5):
        for data in (array(4, low=0.3), array(4, dtype=np.int64) + 8):
            compare(
                lambda s, d=data, n=number: f(n, s.tensor(d)) if reflected else f(s.tensor(d), n),
                f"{operator} {number}",
                grad=operator not in ("//", "%"),
            )
    a, b = array(4, low=0.3), array(4, low=0.3, seed=1)
    compare(lambda s: f(s.tensor(a), s.tensor(b)), operator, grad=operator != "//")


@pytest.mark.parametrize("operator", ["and_", "or_", "xor", "lshift", "rshift"])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_bits(operator: str, dtype: type) -> None:
    import operator as o

    if dtype == np.bool_ and "shift" in operator:
        pytest.skip("no shifts of bools")
    f = getattr(o, operator)
    a, b = array(6, dtype=dtype), array(6, dtype=dtype, seed=3)
    if "shift" in operator:
        b = np.abs(b.astype(np.int64)).astype(dtype)
    compare(lambda s: f(s.tensor(a), s.tensor(b)), operator)
    compare(lambda s: f(s.tensor(a), 1 if dtype != np.bool_ else True), operator)
    check("bitwise_not", a)


def test_operators_refuse_what_is_no_number() -> None:
    t = dg.ones(3)
    with pytest.raises(TypeError):
        t + "a"
    with pytest.raises(TypeError):
        [1.0] * t
    assert (t == None) is False  # noqa: E711
    assert (t != "x") is True
    with pytest.raises(TypeError):
        dg.add(1, 2)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 0.5, -1, -2.5, 1.7])
def test_powers(exponent: float) -> None:
    check("pow", array(5, low=0.3), exponent)
    check("pow", array(5, low=0.3, dtype=np.float32), exponent)
    check("pow", exponent + 0.0, array(5)) if exponent > 0 else None


def test_more_powers() -> None:
    check("pow", array(4, low=0.2), array(4, seed=2))
    check("pow", array(4, dtype=np.int64), 2)
    check("pow", 2, array(4, dtype=np.int64) + 6)
    check("pow", np.array([0.0, 1.0, -2.0]), 2)
    check("pow", np.array([0.0, 2.0]), np.array([0.0, 3.0]))
    check("float_power", array(4, dtype=np.int64) + 7, 0.5)
    check("square", array(4))
    refuses("pow", RuntimeError, array(4, dtype=np.int64), -1)


def test_xlogy() -> None:
    check("xlogy", np.array([0.0, 1.0, 2.0]), np.array([2.0, 3.0, 0.5]))
    check("xlogy", np.array([0.0, 1.0]), np.array([0.0, np.inf]), grad=False)


# -- three operands -------------------------------------------------------------------------------


def test_three_operands() -> None:
    a, b, c = array(3, 4), array(3, 4, seed=1), array(3, 4, seed=2, low=0.5)
    check("addcmul", a, b, c)
    check("addcmul", a, b, c, value=0.5)
    check("addcdiv", a, b, c, value=-2)
    check("lerp", a, b, 0.3)
    check("lerp", a, b, c)
    check("add", a, b, alpha=3)
    check("sub", a, b, alpha=0.5)
    check("rsub", a, b)
    refuses("lerp", RuntimeError, a, b.astype(np.float32), 0.3)


@pytest.mark.parametrize("ends", [(-0.5, 0.5), (None, 0.5), (0, None), (1, -1)])
def test_clamp_numbers(ends: tuple) -> None:
    check("clamp", array(3, 4), *ends)
    check("clamp", array(3, 4, dtype=np.int64), *ends)
    check("clip", array(3, 4, dtype=np.float32), min=ends[0], max=ends[1])
    check("clamp", np.array([np.nan, np.inf, -np.inf]), *ends, grad=False)


def test_clamp_tensors() -> None:
    check("clamp", array(3, 4), array(4, seed=1) - 2, array(4, seed=2) + 2)
    check("clamp", array(3, 4), min=array(4, seed=1))
    check("clamp_min", array(5), 0.2)
    check("clamp_max", array(5), 0.2)
    refuses("clamp", RuntimeError, array(3))


def test_where() -> None:
    cond = array(3, 4, dtype=bool)
    check("where", cond, array(3, 4), array(4, seed=1))
    check("where", cond, array(3, 4), 0.0)
    check("where", cond, 1, array(3, 4, dtype=np.int64))
    check("where", cond, 1.0, 2)
    check("where", cond)
    check("where", cond, array(3, 4, dtype=np.float32), array(3, 4, dtype=np.float64))
    compare(lambda s: s.tensor(array(3, 4)).where(s.tensor(cond), s.tensor(array(4))), "where")


def test_masked_fill() -> None:
    cond = array(3, 1, dtype=bool)
    check("masked_fill", array(3, 4), cond, 2.5)
    check("masked_fill", array(3, 4, dtype=np.int64), cond, 2)
    check("masked_fill", array(3, 4), cond, array(1).reshape(()))
    check("masked_fill", array(3, 4, dtype=np.int64), cond, 2.5)
    refuses("masked_fill", RuntimeError, array(3, 4, dtype=np.int64), cond, 2j)
    refuses("masked_fill", RuntimeError, array(3, 4, dtype=np.int8), cond, 300)
    refuses("masked_fill", RuntimeError, array(3), array(3, dtype=np.int64), 1.0)


def test_whole_tensors() -> None:
    a = array(3, 4)
    b = a + 1e-9
    for x, y in ((a, b), (a, a), (a, a + 1)):
        compare(lambda s, x=x, y=y: s.module.allclose(s.tensor(x), s.tensor(y)), "allclose")
        compare(lambda s, x=x, y=y: s.module.equal(s.tensor(x), s.tensor(y)), "equal")
        check("isclose", x, y)
    special = np.array([np.nan, np.inf, -np.inf, 1.0])
    check("isclose", special, special, equal_nan=True)
    check("isclose", special, special[::-1].copy())
    check("isclose", array(4, dtype=np.int64), array(4, dtype=np.int64) + 1)


def test_softmax() -> None:
    for dim in (0, 1, -1):
        check("softmax", array(3, 4), dim)
        check("log_softmax", array(3, 4), dim)
    check("softmax", array(3, dtype=np.int64), 0, dtype=dg.float32)
    check("softmax", array(2, dtype=np.float32) * 1000, 0)


def test_refusals() -> None:
    refuses("sub", RuntimeError, array(3, dtype=bool), array(3, dtype=bool))
    refuses("neg", RuntimeError, array(3, dtype=bool))
    refuses("add", RuntimeError, array(3), array(4))
    refuses("floor_divide", RuntimeError, array(3, dtype=np.int64), 0)
    refuses("remainder", RuntimeError, array(3, dtype=np.int64), np.zeros(3, np.int64))
    refuses("bitwise_and", RuntimeError, array(3), array(3))


# -- in place and out= ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("add_", (2.0,)),
        ("sub_", (1,)),
        ("mul_", (3.0,)),
        ("div_", (2,)),
        ("pow_", (2,)),
        ("exp_", ()),
        ("clamp_", (-1, 1)),
        ("neg_", ()),
        ("zero_", ()),
        ("fill_", (7,)),
        ("sigmoid_", ()),
        ("lt_", (0.0,)),
        ("round_", ()),
        ("remainder_", (2,)),
        ("tanh_", ()),
        ("relu_", ()),
        ("sqrt_", ()),
        ("abs_", ()),
        ("clamp_min_", (0.1,)),
        ("eq_", (0.0,)),
    ],
)
def test_in_place(name: str, args: tuple) -> None:
    def run(s):
        x = s.tensor(array(3, 4, low=0.1))
        y = x * 2
        z = getattr(y, name)(*args)
        assert z is y
        return y

    compare(run, name)


def test_in_place_operators() -> None:
    def run(s):
        x = s.tensor(array(4, low=0.5))
        y, z = x * 1, s.tensor(array(4, low=0.5, seed=1))
        y += z
        y -= 1
        y *= z
        y /= 2
        y **= 2
        return y

    compare(run, "operators")

    def bits(s):
        y = s.tensor(array(5, dtype=np.int64))
        y &= 7
        y |= 1
        y ^= 2
        y <<= 1
        y >>= 1
        y //= 2
        y %= 3
        return y

    compare(bits, "bits")


def test_in_place_refusals() -> None:
    with pytest.raises(RuntimeError, match="can't be cast"):
        dg.ones(3, dtype=dg.int64).add_(1.5)
    with pytest.raises(RuntimeError, match="broadcast"):
        dg.ones(3).add_(dg.ones(2, 3))
    t = dg.ones(3)
    assert t.add_(1).data_ptr() == t.data_ptr()


def test_out() -> None:
    out = dg.empty(3)
    data = out.data_ptr()
    result = dg.add(dg.ones(3), 2, out=out)
    assert result is out
    assert out.data_ptr() == data
    assert out.tolist() == [3, 3, 3]
    with pytest.raises(RuntimeError, match="out="):
        dg.exp(dg.ones(3, requires_grad=True), out=out)
    dg.matmul(dg.ones(2, 3), dg.ones(3, 2), out=out)
    assert out.tolist() == [[3, 3], [3, 3]]

"""Activations. Each keeps the shape; integer and bool tensors enter the smooth ones as floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.ops import activation as ac
from dualgraph_compiler.ops import composite as co
from dualgraph_compiler.ops.base import Op
from dualgraph_compiler.ops.trigonometry import Tanh

from ... import functions as fn
from ..._dispatch import apply
from ..._promote import cast, float_unary
from ...autograd.inplace import assign
from ...functions.sizes import require_size
from ._args import axis_of

if TYPE_CHECKING:
    from ..._tensor import Tensor

_RELU, _SIGMOID, _LOGSIGMOID, _TANH = ac.Relu(), ac.Sigmoid(), ac.LogSigmoid(), Tanh()
_SILU, _MISH, _HARDSWISH, _SOFTSIGN = co.Silu(), co.Mish(), co.HardSwish(), co.Softsign()
_SELU, _RELU6, _HARDSIGMOID = ac.Selu(), ac.Hardtanh(0.0, 6.0), ac.HardSigmoid()


def _run(op: Op, input: Tensor, inplace: bool) -> Tensor:
    result = apply(op, input)
    return assign(input, result) if inplace else result


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0). Shapes: [*] -> [*]."""
    return _run(_RELU, input, inplace)


def relu_(input: Tensor) -> Tensor:
    """`relu` in place. Shapes: [*] -> [*]."""
    return _run(_RELU, input, True)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6). Shapes: [*] -> [*]."""
    return _run(_RELU6, input, inplace)


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """Return x limited to [min_val, max_val]."""
    return _run(ac.Hardtanh(float(min_val), float(max_val)), input, inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Return x where x > 0, else negative_slope x. Shapes: [*] -> [*]."""
    return _run(ac.LeakyRelu(float(negative_slope)), input, inplace)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """Return x where x > 0, else weight x; weight is [1], or [C] for the second dimension of x."""
    ndim, count = input.ndim, weight.numel()
    if count != 1:
        channels = input.shape[1] if ndim > 1 else 1
        if channels != count:
            raise ShapeError(
                "prelu: mismatch of parameter numbers and input channel size. Found parameter "
                f"numbers = {count} and channel size = {channels}"
            )
        weight = weight.reshape(count, *(1,) * max(ndim - 2, 0))
    elif weight.ndim > ndim:
        weight = weight.reshape(*(1,) * ndim)
    return apply(ac.Prelu(), input, weight)


def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """Leaky ReLU, its slope random in [lower, upper] per element in training, else their middle."""
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    slope = fn.rand_like(input) * (upper - lower) + lower
    result = apply(ac.Prelu(), input, slope)
    return assign(input, result) if inplace else result


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x where x > 0, else alpha (e**x - 1). Shapes: [*] -> [*]."""
    return _run(ac.Elu(float(alpha)), input, inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x where x > 0, else alpha (e**(x / alpha) - 1). Shapes: [*] -> [*]."""
    return _run(ac.Celu(float(alpha)), input, inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """The self-normalising ELU (Klambauer et al. 2017). Shapes: [*] -> [*]."""
    return _run(_SELU, input, inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """Return x Phi(x); `approximate` is "none" or "tanh". Shapes: [*] -> [*]."""
    return apply(co.Gelu(approximate), input)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """Return x sigmoid(x). Shapes: [*] -> [*]."""
    return _run(_SILU, input, inplace)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """Return x tanh(softplus(x)). Shapes: [*] -> [*]."""
    return _run(_MISH, input, inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """Return x hardsigmoid(x). Shapes: [*] -> [*]."""
    return _run(_HARDSWISH, input, inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """Return x / 6 + 1/2 limited to [0, 1]."""
    return _run(_HARDSIGMOID, input, inplace)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + e**-x). Shapes: [*] -> [*]."""
    return float_unary(_SIGMOID, input)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)). Shapes: [*] -> [*]."""
    return apply(_LOGSIGMOID, input)


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent. Shapes: [*] -> [*]."""
    return float_unary(_TANH, input)


def tanhshrink(input: Tensor) -> Tensor:
    """Return x - tanh(x). Shapes: [*] -> [*]."""
    return input - float_unary(_TANH, input)


def softsign(input: Tensor) -> Tensor:
    """Return x / (1 + |x|). Shapes: [*] -> [*]."""
    if input.dtype.is_complex:
        return input / (1 + input.abs())
    return float_unary(_SOFTSIGN, input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold. Shapes: [*] -> [*]."""
    return apply(ac.Softplus(float(beta), float(threshold)), input)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """Return x where x > threshold, else value. Shapes: [*] -> [*]."""
    result = fn.where(input <= threshold, value, input)
    return assign(input, result) if inplace else result


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Return x where |x| > lambd, else 0. Shapes: [*] -> [*]."""
    return fn.where((input >= -lambd) & (input <= lambd), 0.0, input)  # type: ignore[no-any-return]


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Return x moved towards 0 by lambd, and 0 within it. Shapes: [*] -> [*]."""
    if lambd < 0:
        raise ArgumentError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    below = fn.where(input < -lambd, input + lambd, input * 0.0)
    return fn.where(input > lambd, input - lambd, below)  # type: ignore[no-any-return]


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half of `dim` times the sigmoid of the second."""
    axis = axis_of("glu", dim, input)
    size = input.shape[axis] if input.ndim else 1
    rest = size % 2
    if not isinstance(rest, int) or rest:
        why = f"glu: halving dimension must be even, but dimension {axis} is size {size}"
        require_size(rest, "==", 0, why)
    half = size // 2
    return input.narrow(axis, 0, half) * sigmoid(input.narrow(axis, half, half))


# -- along a dimension ----------------------------------------------------------------------------


def _default_dim(ndim: int) -> int:
    return 0 if ndim in (0, 1, 3) else 1


def _along(kind: Any, name: str, input: Tensor, dim: int | None, dtype: Any) -> Tensor:
    if dtype is not None:
        input = cast(input, dt.as_dtype(dtype))
    axis = axis_of(name, _default_dim(input.ndim) if dim is None else dim, input)
    return float_unary(kind(axis), input)


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`; x is cast to `dtype` first where one is given."""
    return _along(co.Softmax, "softmax", input, dim, dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """log(softmax(x)) along `dim`; x is cast to `dtype` first where one is given."""
    return _along(co.LogSoftmax, "log_softmax", input, dim, dtype)


def softmin(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    """softmax(-x) along `dim`."""
    return softmax(-input, dim, dtype=dtype)


def gumbel_softmax(
    logits: Tensor, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A sample of the Gumbel-softmax distribution (Jang et al. 2017).

    Shapes: logits [*] -> [*].

    With `hard` it is one-hot, and its gradient that of the soft sample.
    """
    uniform = fn.rand_like(logits).clamp(min=1e-30)
    noise = -(-uniform.log()).log()
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    index = soft.argmax(dim, keepdim=True)
    one_hot = fn.zeros_like(logits).scatter(dim, index, 1.0)
    return one_hot - soft.detach() + soft


# -- in place -------------------------------------------------------------------------------------


def _in_place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def changed(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return function(input, *args, inplace=True, **kwargs)

    changed.__name__ = changed.__qualname__ = f"{function.__name__}_"
    changed.__doc__ = f"`{function.__name__}` in place. Shapes: [*] -> [*]."
    return changed


celu_ = _in_place(celu)
elu_ = _in_place(elu)
hardtanh_ = _in_place(hardtanh)
leaky_relu_ = _in_place(leaky_relu)
rrelu_ = _in_place(rrelu)
selu_ = _in_place(selu)
threshold_ = _in_place(threshold)

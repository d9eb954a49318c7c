"""Steps of optimizers that are written once, in the framework's ops, and run so everywhere.

The common rules have kernels of their own (:mod:`.optimizer`), which an eager step of a large model
pays for. These have one formula, `_step`: a graph gets its nodes, an eager step computes it on
arrays, piece by piece, and writes what comes out over what was there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from ..dtypes import bfloat16, dtype_of, float32
from ..kernels.optimizers import Workspace
from . import f
from .base import Array, op
from .extremum import Maximum, Minimum, Sign
from .optimizer import OptimizerUpdate, beside, counted, decayed, direction


class ComposedUpdate(OptimizerUpdate):
    """One step, by the formula `_step` alone."""

    __slots__ = ()

    def update(
        self,
        xp: Any,
        workspace: Workspace,
        param: Array,
        grad: Array,
        state: Sequence[Array],
        numbers: Sequence[float],
    ) -> None:
        named = dict(zip(self.state, state, strict=True))
        # Scalars are computed with on the host, wherever the parameter is.
        old = {k: np.float32(float(v)) for k, v in named.items() if k in self.scalars}
        large = {k: v for k, v in named.items() if k not in self.scalars}
        operands = {k: np.float64(v) for k, v in zip(self.numbers, numbers, strict=True)}
        whole = (param, grad, *large.values())
        pieces: Iterable[tuple[Array, ...]] = [tuple(a.real for a in whole)]
        if self.elementwise and param.size:
            pieces = workspace.blocks(xp, *whole, scratch=0)
        scalars: dict[str, Array] = {}
        for arrays in pieces:
            scalars = self._write(xp, arrays, list(large), old, operands)
        for name, value in scalars.items():
            named[name][...] = float(value)

    def _write(
        self,
        xp: Any,
        arrays: Sequence[Array],
        names: Sequence[str],
        scalars: dict[str, Array],
        numbers: dict[str, Array],
    ) -> dict[str, Array]:
        """Take the step of a piece in place; the new scalars."""
        param, grad, *rest = arrays
        wide = np.float32 if param.dtype.itemsize < 4 else param.dtype
        state = {k: xp.asarray(v, wide) for k, v in zip(names, rest, strict=True)} | scalars
        new = self._step(xp.asarray(param, wide), xp.asarray(grad, wide), state, numbers)
        param[...] = new
        for name, home in zip(names, rest, strict=True):
            home[...] = state[name]
        return {name: state[name] for name in scalars}


def _moments(
    grad: Array, state: dict[str, Array], numbers: dict[str, Array]
) -> tuple[Array, Array]:
    """Running means of the gradient and of its square, brought up to date."""
    beta1, beta2 = numbers["beta1"], numbers["beta2"]
    mean, square = state["exp_avg"], state["exp_avg_sq"]
    mean = state["exp_avg"] = mean + (grad - mean) * beside(grad, 1 - beta1)
    square = square * beside(grad, beta2) + grad * grad * beside(grad, 1 - beta2)
    state["exp_avg_sq"] = square
    return mean, square


@op
class AdadeltaUpdate(ComposedUpdate):
    """Adadelta (Zeiler 2012, algorithm 1), with a learning rate."""

    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0
    maximize: bool = False

    @property
    def state(self) -> tuple[str, ...]:
        return ("step", "square_avg", "acc_delta")

    def _step(
        self, param: Array, grad: Array, state: dict[str, Array], numbers: dict[str, Array]
    ) -> Array:
        counted(state)
        grad = direction(grad, param, self.weight_decay, self.maximize)
        square = state["square_avg"] * self.rho + grad * grad * (1 - self.rho)
        change = f.sqrt(state["acc_delta"] + self.eps) / f.sqrt(square + self.eps) * grad
        state["square_avg"] = square
        state["acc_delta"] = state["acc_delta"] * self.rho + change * change * (1 - self.rho)
        return param - change * beside(param, numbers["lr"])


@op
class AdamaxUpdate(ComposedUpdate):
    """Adamax (Kingma and Ba 2015, algorithm 2)."""

    eps: float = 1e-8
    weight_decay: float = 0.0
    maximize: bool = False
    numbers: ClassVar[tuple[str, ...]] = ("lr", "beta1", "beta2")

    @property
    def state(self) -> tuple[str, ...]:
        return ("step", "exp_avg", "exp_inf")

    def _step(
        self, param: Array, grad: Array, state: dict[str, Array], numbers: dict[str, Array]
    ) -> Array:
        lr, beta1, beta2 = (numbers[k] for k in self.numbers)
        count = counted(state)
        grad = direction(grad, param, self.weight_decay, self.maximize)
        mean = state["exp_avg"] + (grad - state["exp_avg"]) * beside(grad, 1 - beta1)
        largest = Maximum()(state["exp_inf"] * beside(grad, beta2), f.abs(grad) + self.eps)
        state["exp_avg"], state["exp_inf"] = mean, largest
        return param - mean / largest * beside(param, lr / (1 - beta1**count))


@op
class NadamUpdate(ComposedUpdate):
    """NAdam (Dozat 2016); `decoupled` weight decay as in AdamW."""

    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    maximize: bool = False
    decoupled: bool = False
    numbers: ClassVar[tuple[str, ...]] = ("lr", "beta1", "beta2")
    scalars: ClassVar[tuple[str, ...]] = ("step", "mu_product")

    @property
    def state(self) -> tuple[str, ...]:
        return ("step", "mu_product", "exp_avg", "exp_avg_sq")

    def _step(
        self, param: Array, grad: Array, state: dict[str, Array], numbers: dict[str, Array]
    ) -> Array:
        lr, beta1, beta2 = (numbers[k] for k in self.numbers)
        count = counted(state)
        param, grad = decayed(self, param, grad, lr)
        mean, square = _moments(grad, state, numbers)
        now, later = (self._momentum(beta1, c) for c in (count, count + 1))
        product = f.cast(state["mu_product"], dtype_of(count)) * now
        state["mu_product"] = f.cast(product, float32)
        root = f.sqrt(square * beside(grad, 1 / (1 - beta2**count))) + self.eps
        step = grad * beside(grad, lr * (1 - now) / (1 - product))
        step = step + mean * beside(grad, lr * later / (1 - product * later))
        return param - step / root

    def _momentum(self, beta1: Array, count: Array) -> Array:
        base = f.like(count, 0.96)
        return beta1 * (1 - base ** (count * self.momentum_decay) * 0.5)


@op
class RadamUpdate(ComposedUpdate):
    """RAdam (Liu et al. 2020, algorithm 2); `decoupled` weight decay as in AdamW."""

    eps: float = 1e-8
    weight_decay: float = 0.0
    maximize: bool = False
    decoupled: bool = False
    numbers: ClassVar[tuple[str, ...]] = ("lr", "beta1", "beta2")

    @property
    def state(self) -> tuple[str, ...]:
        return ("step", "exp_avg", "exp_avg_sq")

    def _step(
        self, param: Array, grad: Array, state: dict[str, Array], numbers: dict[str, Array]
    ) -> Array:
        lr, beta1, beta2 = (numbers[k] for k in self.numbers)
        count = counted(state)
        param, grad = decayed(self, param, grad, lr)
        mean, square = _moments(grad, state, numbers)
        power = beta2**count
        longest = 2 / (1 - beta2) - 1
        length = longest - count * power * 2 / (1 - power)
        known = f.greater(length, f.like(length, 5.0))
        safe = f.where(known, length, longest)  # where it is not known, the root is not used
        shrink = (safe - 4) * (safe - 2) * longest / ((longest - 4) * (longest - 2) * safe)
        rate = f.sqrt(shrink * (1 - power))
        share = f.cast(known, dtype_of(lr))  # 1 or 0: what follows is the one or the other exactly
        root = (f.sqrt(square) + self.eps) * beside(mean, share / rate) + beside(mean, 1 - share)
        return param - mean / root * beside(param, lr / (1 - beta1**count))


@op
class AsgdUpdate(ComposedUpdate):
    """Averaged gradient descent (Polyak and Juditsky 1992): "ax" is the average."""

    lambd: float = 1e-4
    alpha: float = 0.75
    t0: float = 1e6
    weight_decay: float = 0.0
    maximize: bool = False
    scalars: ClassVar[tuple[str, ...]] = ("step", "eta", "mu")

    @property
    def state(self) -> tuple[str, ...]:
        return ("step", "eta", "mu", "ax")

    def _step(
        self, param: Array, grad: Array, state: dict[str, Array], numbers: dict[str, Array]
    ) -> Array:
        lr = numbers["lr"]
        count = counted(state)
        grad = direction(grad, param, self.weight_decay, self.maximize)
        eta = f.cast(state["eta"], dtype_of(count))
        param = param * beside(param, 1 - eta * self.lambd) - grad * beside(param, eta)
        state["ax"] = state["ax"] + (param - state["ax"]) * beside(param, state["mu"])
        state["eta"] = f.cast(lr / (lr * count * self.lambd + 1) ** self.alpha, float32)
        state["mu"] = f.cast(1 / Maximum()(count - self.t0, f.like(count, 1.0)), float32)
        return param


@op
class RpropUpdate(ComposedUpdate):
    """Resilient backpropagation (Riedmiller and Braun 1993), without backtracking of weights."""

    eta_minus: float = 0.5
    eta_plus: float = 1.2
    smallest: float = 1e-6
    largest: float = 50.0
    maximize: bool = False
    numbers: ClassVar[tuple[str, ...]] = ()

    @property
    def state(self) -> tuple[str, ...]:
        return ("step", "prev", "step_size")

    def _step(
        self, param: Array, grad: Array, state: dict[str, Array], numbers: dict[str, Array]
    ) -> Array:
        counted(state)
        grad = direction(grad, param, 0.0, self.maximize)
        agree = grad * state["prev"]
        zero = f.like(grad, 0.0)
        turned = f.less(agree, zero)
        factor = f.where(f.greater(agree, zero), f.like(grad, self.eta_plus), f.like(grad, 1.0))
        factor = f.where(turned, f.like(grad, self.eta_minus), factor)
        size = f.clip(state["step_size"] * factor, self.smallest, self.largest)
        grad = f.where(turned, zero, grad)
        state["prev"], state["step_size"] = grad, size
        return param - Sign()(grad) * size


@op
class AdafactorUpdate(ComposedUpdate):
    """Adafactor (Shazeer and Stern 2018, algorithms 4 and 5), in PyTorch's form.

    `factored` keeps the second moment of a parameter of two or more dimensions as means over rows
    and over columns. `eps1` 0 stands for the dtype's epsilon.
    """

    beta2_decay: float = -0.8
    eps1: float = 0.0
    eps2: float = 1e-3
    threshold: float = 1.0
    weight_decay: float = 0.0
    maximize: bool = False
    factored: bool = False
    elementwise: ClassVar[bool] = False

    @property
    def state(self) -> tuple[str, ...]:
        return ("step", "row_var", "col_var") if self.factored else ("step", "variance")

    def state_shape(self, name: str, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        if name == "row_var":
            return (*shape[:-1], 1)
        return (*shape[:-2], 1, shape[-1]) if name == "col_var" else shape

    def _step(
        self, param: Array, grad: Array, state: dict[str, Array], numbers: dict[str, Array]
    ) -> Array:
        lr = numbers["lr"]
        count = counted(state)
        grad = -grad if self.maximize else grad
        fresh = beside(param, count**self.beta2_decay)
        rate = Minimum()(lr, 1 / f.sqrt(count))
        size = Maximum()(_rms(param), f.like(param, self.eps2))
        if self.weight_decay != 0:
            param = param * beside(param, 1 - lr * self.weight_decay)
        eps1 = self.eps1 or float(np.finfo(dtype_of(param).np).eps)
        if self.factored:
            last = len(param.shape) - 1
            for name, axis in (("row_var", last), ("col_var", last - 1)):
                square = f.mean(grad * grad, [axis], True)
                state[name] = state[name] + (square - state[name]) * fresh
            total = f.mean(state["row_var"], [last - 1], True)
            variance = f.matmul(state["row_var"], state["col_var"])
            variance = variance / Maximum()(total, f.like(param, eps1))
        else:
            variance = state["variance"] + (grad * grad - state["variance"]) * fresh
            state["variance"] = variance
        change = grad / f.sqrt(Maximum()(variance, f.like(param, eps1 * eps1)))
        clipped = Maximum()(_rms(change) / self.threshold, f.like(param, 1.0))
        return param - change * (size * beside(param, rate) / clipped)


def _rms(x: Array) -> Array:
    """The root mean square of all elements, 0-d."""
    return f.sqrt(f.mean(x * x, range(len(x.shape))))


@op
class MuonUpdate(ComposedUpdate):
    """Muon (Jordan et al. 2024): momentum, made orthogonal by Newton-Schulz iterations.

    The iterations run in bfloat16, each result rounded once. The learning rate follows the shape:
    it is larger for a tall matrix, or (`match_rms`) such that changes are as large as AdamW's.
    """

    momentum: float = 0.95
    nesterov: bool = True
    weight_decay: float = 0.1
    coefficients: tuple[float, ...] = (3.4445, -4.775, 2.0315)
    eps: float = 1e-7
    steps: int = 5
    match_rms: bool = False
    elementwise: ClassVar[bool] = False

    @property
    def state(self) -> tuple[str, ...]:
        return ("momentum_buffer",)

    def _step(
        self, param: Array, grad: Array, state: dict[str, Array], numbers: dict[str, Array]
    ) -> Array:
        lr = numbers["lr"]
        buffer = state["momentum_buffer"]
        buffer = state["momentum_buffer"] = buffer + (grad - buffer) * (1 - self.momentum)
        change = grad + (buffer - grad) * self.momentum if self.nesterov else buffer
        change = f.cast(self._orthogonal(change), dtype_of(param))
        param = param * beside(param, 1 - lr * self.weight_decay)
        return param - change * beside(param, lr * self._scale(*param.shape))

    def _scale(self, rows: int, columns: int) -> float:
        if self.match_rms:
            return 0.2 * math.sqrt(max(rows, columns))
        return math.sqrt(max(1.0, rows / columns))

    def _orthogonal(self, x: Array) -> Array:
        a, b, c = self.coefficients
        tall = x.shape[0] > x.shape[1]
        x = _rounded(f.transpose(x) if tall else x)
        norm = _rounded(f.sqrt(f.sum(x * x, (0, 1))))
        x = _rounded(x / Maximum()(norm, f.like(norm, self.eps)))
        for _ in range(self.steps):
            gram = _rounded(f.matmul(x, f.transpose(x)))
            gram = _rounded(gram * b + f.matmul(gram, gram) * c)
            x = _rounded(x * a + f.matmul(gram, x))
        return f.transpose(x) if tall else x


def _rounded(x: Array) -> Array:
    """The values that bfloat16 has, as float32."""
    return f.cast(f.cast(x, bfloat16), float32)

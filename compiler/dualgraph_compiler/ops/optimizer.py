"""Steps of optimizers: new values of one parameter and of its state.

Operands: the parameter, its gradient, the state tensors, then the numbers that may change from step
to step, as 0-d float64 (`numbers` names them). Results: the new parameter and the new state. State
in `scalars`, such as the counter "step", is 0-d float32; all other state has the parameter's dtype.
Options that stay are attributes. No update is differentiable.

``eager`` runs the same kernel on copies that the optimizers' own ``step`` runs in place
(:mod:`..kernels.optimizers`), so that both give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..dims import Shape
from ..dtypes import dtype_of, float32, float64
from ..errors import ArgumentError, DTypeError, GraphError, OnnxError, ShapeError
from ..kernels import optimizers as kernels
from ..kernels.optimizers import Workspace
from ..types import TensorType
from . import f
from .base import Array, Kind, Op, op, require_float, require_same_dtype, shape_text
from .derive import export_formula
from .extremum import Maximum
from .onnx_rules import Export


class OptimizerUpdate(Op):
    """One step of an optimizer for one parameter."""

    __slots__ = ()
    kind = Kind.COMPOSITE
    numbers: ClassVar[tuple[str, ...]] = ("lr",)
    scalars: ClassVar[tuple[str, ...]] = ("step",)
    elementwise: ClassVar[bool] = True  # else a step needs the whole of a parameter

    @property
    def state(self) -> tuple[str, ...]:
        """The names of the state tensors, as in the optimizer's ``state_dict``."""
        raise NotImplementedError

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        """The parameter and its state."""
        return 1 + len(self.state)

    def infer(self, *inputs: TensorType) -> TensorType | tuple[TensorType, ...]:
        count = 2 + len(self.state) + len(self.numbers)
        if len(inputs) != count:
            raise GraphError(f"{self.name}: expected {count} operands, got {len(inputs)}")
        param = require_float(self.name, inputs[0])
        n = 2 + len(self.state)
        for name, t in zip(("grad", *self.state), inputs[1:n], strict=True):
            if name in self.scalars:
                _scalar(self.name, name, t, float32)
                continue
            require_same_dtype(self.name, param, t)
            shape = self.state_shape(name, param.shape)
            if t.shape != shape:
                whose = "the parameter's shape" if shape == param.shape else "shape"
                raise ShapeError(
                    f"{self.name}: expected {name} of {whose} {shape_text(shape)}, "
                    f"got {shape_text(t.shape)}"
                )
        for name, t in zip(self.numbers, inputs[n:], strict=True):
            _scalar(self.name, name, t, float64)
        return (param, *inputs[2:n]) if self.state else param

    def state_shape(self, name: str, shape: Shape) -> Shape:
        """The shape of an entry of the state of a parameter of shape `shape`; the same mostly."""
        return shape

    def on_host(self, n_inputs: int) -> tuple[Sequence[int], Sequence[int]]:
        """The counters of steps and their like, and numbers such as the learning rate."""
        n = len(self.state)
        counters = [i for i, name in enumerate(self.state) if name in self.scalars]
        return [*(2 + i for i in counters), *range(2 + n, n_inputs)], [1 + i for i in counters]

    def eager(self, xp: Any, param: Array, grad: Array, *rest: Array) -> Any:
        n = len(self.state)
        copies = (np.array(a) if type(a) is np.ndarray else xp.array(a) for a in rest[:n])
        new = [xp.array(param), *copies]
        self.eager_into(xp, tuple(new) if n else new[0], new[0], grad, *new[1:], *rest[n:])
        return tuple(new) if n else new[0]

    def eager_into(self, xp: Any, out: Any, param: Array, grad: Array, *rest: Array) -> None:
        n = len(self.state)
        new = []
        for home, old in zip(out if n else (out,), (param, *rest[:n]), strict=True):
            if home is None:
                new.append((np if type(old) is np.ndarray else xp).array(old))
                continue
            if home is not old:
                (np if type(home) is np.ndarray else xp).copyto(home, old)
            new.append(home)
        workspace = kernels.borrow()
        try:
            self.update(xp, workspace, new[0], grad, new[1:], [float(x) for x in rest[n:]])
        finally:
            kernels.give_back(workspace)

    def reusable(self, output: int, n_inputs: int) -> Sequence[int]:
        return (output + 1 if output else 0,)

    def update(
        self,
        xp: Any,
        workspace: Workspace,
        param: Array,
        grad: Array,
        state: Sequence[Array],
        numbers: Sequence[float],
    ) -> None:
        """Take the step in place: `param` and `state` are overwritten."""
        raise NotImplementedError

    def update_together(
        self, xp: Any, sets: Sequence[Sequence[Array]], numbers: Sequence[float]
    ) -> None:
        """The step of several small parameters at once, in place, with the bits of single steps.

        Each of `sets` is a parameter, its gradient and its state, all of one dtype and in rows;
        their scalars have the same values.
        """
        names = ("", "", *self.state)
        joined = [
            xp.array(arrays[0])
            if name in self.scalars
            else xp.concatenate([a.reshape(-1) for a in arrays])
            for name, arrays in zip(names, zip(*sets, strict=True), strict=True)
        ]
        workspace = kernels.borrow()
        try:
            self.update(xp, workspace, joined[0], joined[1], joined[2:], numbers)
        finally:
            kernels.give_back(workspace)
        start = 0
        for arrays in sets:
            stop = start + arrays[0].size
            for i, (name, array, new) in enumerate(zip(names, arrays, joined, strict=True)):
                if i != 1:
                    array[...] = (
                        new if name in self.scalars else new[start:stop].reshape(array.shape)
                    )
            start = stop

    def decompose(self, param: Array, grad: Array, *rest: Array) -> Any:
        """The step in pointwise ops, of real parameters; half precision is rounded once."""
        dtype = dtype_of(param)
        if dtype.is_complex:
            raise DTypeError(f"{self.name}: steps of complex parameters are not decomposed")
        wide = float32 if dtype.itemsize < 4 else dtype
        n = len(self.state)
        state = {
            name: x if name in self.scalars else f.cast(x, wide)
            for name, x in zip(self.state, rest[:n], strict=True)
        }
        numbers = dict(zip(self.numbers, rest[n:], strict=True))
        new = self._step(f.cast(param, wide), f.cast(grad, wide), state, numbers)
        fitting = (v if k in self.scalars else f.cast(v, dtype) for k, v in state.items())
        return (f.cast(new, dtype), *fitting) if n else f.cast(new, dtype)

    def to_onnx(self, ctx: Export, *inputs: str) -> Any:
        return export_formula(ctx, self, *inputs)

    def _step(
        self, param: Array, grad: Array, state: dict[str, Array], numbers: dict[str, Array]
    ) -> Array:
        """The new parameter; new values of `state` replace the old ones."""
        raise NotImplementedError


def _scalar(op: str, name: str, t: TensorType, dtype: Any) -> None:
    if t.shape != () or t.dtype is not dtype:
        raise DTypeError(f"{op}: expected {name} to be a 0-d {dtype.name}, got {t}")


def direction(grad: Array, param: Array, weight_decay: float, maximize: bool) -> Array:
    """What a rule descends along: the gradient (`maximize`: negated) and the decay of weights."""
    if weight_decay != 0:
        decay = param * weight_decay
        return decay - grad if maximize else decay + grad
    return -grad if maximize else grad


def decayed(rule: Any, param: Array, grad: Array, lr: Array) -> tuple[Array, Array]:
    """The parameter, smaller where weight decay is `decoupled`, and what to descend along."""
    decay = rule.weight_decay
    if rule.decoupled and decay != 0:
        param = param * beside(param, 1 - lr * decay)
        decay = 0.0
    return param, direction(grad, param, decay, rule.maximize)


def beside(x: Array, number: Array) -> Array:
    """A 0-d float64 number as an operand beside `x`."""
    return f.cast(number, dtype_of(x))


def counted(state: dict[str, Array]) -> Array:
    """Count the step; its number as float64."""
    state["step"] = state["step"] + 1
    return f.cast(state["step"], float64)


@op
class SgdUpdate(OptimizerUpdate):
    """Gradient descent, with (Nesterov) `momentum`. `first` (0 or 1): the buffer is only filled.

    Source: Sutskever et al. 2013, in PyTorch's form.
    """

    decomposes_exactly = True
    momentum: bool = False
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    maximize: bool = False
    numbers: ClassVar[tuple[str, ...]] = ("lr", "momentum", "first")

    @property
    def state(self) -> tuple[str, ...]:
        return ("momentum_buffer",) if self.momentum else ()

    def update(
        self,
        xp: Any,
        workspace: Workspace,
        param: Array,
        grad: Array,
        state: Sequence[Array],
        numbers: Sequence[float],
    ) -> None:
        lr, momentum, first = numbers
        buffer = state[0] if state else None
        for pieces in workspace.blocks(xp, param, grad, buffer, scratch=2):
            kernels.sgd(
                xp,
                *pieces,
                lr=lr,
                momentum=momentum,
                first=first != 0,
                dampening=self.dampening,
                weight_decay=self.weight_decay,
                nesterov=self.nesterov,
                maximize=self.maximize,
            )

    def _step(
        self, param: Array, grad: Array, state: dict[str, Array], numbers: dict[str, Array]
    ) -> Array:
        grad = direction(grad, param, self.weight_decay, self.maximize)
        if self.momentum:
            momentum = beside(param, numbers["momentum"])
            moved = state["momentum_buffer"] * momentum + grad * (1 - self.dampening)
            buffer = f.where(f.equal(numbers["first"], 1.0), grad, moved)
            state["momentum_buffer"] = buffer
            grad = grad + buffer * momentum if self.nesterov else buffer
        return param - grad * beside(param, numbers["lr"])


@op
class AdamUpdate(OptimizerUpdate):
    """Adam (Kingma and Ba 2015); `decoupled` weight decay makes it AdamW (Loshchilov 2019)."""

    decomposes_exactly = True
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    maximize: bool = False
    decoupled: bool = False
    numbers: ClassVar[tuple[str, ...]] = ("lr", "beta1", "beta2")

    @property
    def state(self) -> tuple[str, ...]:
        names = ("step", "exp_avg", "exp_avg_sq")
        return (*names, "max_exp_avg_sq") if self.amsgrad else names

    def update(
        self,
        xp: Any,
        workspace: Workspace,
        param: Array,
        grad: Array,
        state: Sequence[Array],
        numbers: Sequence[float],
    ) -> None:
        step, mean, mean_sq = state[:3]
        largest = state[3] if self.amsgrad else None
        step += 1
        count = float(step)
        lr, beta1, beta2 = numbers
        for pieces in workspace.blocks(xp, param, grad, mean, mean_sq, largest, scratch=2):
            kernels.adam(
                xp,
                *pieces,
                step=count,
                lr=lr,
                beta1=beta1,
                beta2=beta2,
                eps=self.eps,
                weight_decay=self.weight_decay,
                decoupled=self.decoupled,
                maximize=self.maximize,
            )

    def _step(
        self, param: Array, grad: Array, state: dict[str, Array], numbers: dict[str, Array]
    ) -> Array:
        lr, beta1, beta2 = (numbers[k] for k in self.numbers)
        count = counted(state)
        param, grad = decayed(self, param, grad, lr)
        mean, mean_sq = state["exp_avg"], state["exp_avg_sq"]
        mean = mean + (grad - mean) * beside(param, 1 - beta1)
        square = grad * grad * beside(param, 1 - beta2)
        mean_sq = mean_sq * beside(param, beta2) + square
        state["exp_avg"], state["exp_avg_sq"] = mean, mean_sq
        if self.amsgrad:
            mean_sq = state["max_exp_avg_sq"] = Maximum()(state["max_exp_avg_sq"], mean_sq)
        correction1 = 1 - beta1**count
        correction2 = f.sqrt(1 - beta2**count)
        scaled = mean / (f.sqrt(mean_sq) + beside(param, correction2 * self.eps))
        return param - scaled * beside(param, lr * correction2 / correction1)


@op
class RmspropUpdate(OptimizerUpdate):
    """RMSprop (Hinton 2012); `centered` as in Graves 2013."""

    decomposes_exactly = True
    momentum: bool = False
    centered: bool = False
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    maximize: bool = False
    numbers: ClassVar[tuple[str, ...]] = ("lr", "momentum")

    @property
    def state(self) -> tuple[str, ...]:
        names = ["step", "square_avg"]
        names += ["momentum_buffer"] * self.momentum + ["grad_avg"] * self.centered
        return tuple(names)

    def update(
        self,
        xp: Any,
        workspace: Workspace,
        param: Array,
        grad: Array,
        state: Sequence[Array],
        numbers: Sequence[float],
    ) -> None:
        step, mean_sq = state[:2]
        step += 1
        buffer = state[2] if self.momentum else None
        mean = state[-1] if self.centered else None
        lr, momentum = numbers
        for pieces in workspace.blocks(xp, param, grad, mean_sq, mean, buffer, scratch=2):
            kernels.rmsprop(
                xp,
                *pieces,
                lr=lr,
                momentum=momentum,
                alpha=self.alpha,
                eps=self.eps,
                weight_decay=self.weight_decay,
                maximize=self.maximize,
            )

    def _step(
        self, param: Array, grad: Array, state: dict[str, Array], numbers: dict[str, Array]
    ) -> Array:
        counted(state)
        grad = direction(grad, param, self.weight_decay, self.maximize)
        mean_sq = state["square_avg"] * self.alpha + grad * grad * (1 - self.alpha)
        state["square_avg"] = mean_sq
        if self.centered:
            mean = state["grad_avg"]
            mean = state["grad_avg"] = mean + (grad - mean) * (1 - self.alpha)
            mean_sq = mean_sq - mean * mean
        scaled = grad / (f.sqrt(mean_sq) + self.eps)
        if self.momentum:
            momentum = beside(param, numbers["momentum"])
            scaled = state["momentum_buffer"] = state["momentum_buffer"] * momentum + scaled
        return param - scaled * beside(param, numbers["lr"])


@op
class AdagradUpdate(OptimizerUpdate):
    """Adagrad (Duchi et al. 2011)."""

    decomposes_exactly = True
    lr_decay: float = 0.0
    eps: float = 1e-10
    weight_decay: float = 0.0
    maximize: bool = False

    @property
    def state(self) -> tuple[str, ...]:
        return ("step", "sum")

    def update(
        self,
        xp: Any,
        workspace: Workspace,
        param: Array,
        grad: Array,
        state: Sequence[Array],
        numbers: Sequence[float],
    ) -> None:
        step, total = state
        step += 1
        count = float(step)
        for pieces in workspace.blocks(xp, param, grad, total, scratch=2):
            kernels.adagrad(
                xp,
                *pieces,
                step=count,
                lr=numbers[0],
                lr_decay=self.lr_decay,
                eps=self.eps,
                weight_decay=self.weight_decay,
                maximize=self.maximize,
            )

    def _step(
        self, param: Array, grad: Array, state: dict[str, Array], numbers: dict[str, Array]
    ) -> Array:
        count = counted(state)
        lr = numbers["lr"] / ((count - 1) * self.lr_decay + 1)
        grad = direction(grad, param, self.weight_decay, self.maximize)
        total = state["sum"] = state["sum"] + grad * grad
        return param - grad / (f.sqrt(total) + self.eps) * beside(param, lr)


@op
class VectorNorm(Op):
    """The `order`-norm of all elements taken as one vector; what gradients are clipped by.

    Shapes: x (any) -> 0-d, real; half precision gives float32.
    Source: PyTorch clip_grad_norm_.
    """

    order: float = 2.0

    def infer(self, x: TensorType) -> TensorType:
        require_float(self.name, x)
        if np.isnan(self.order):
            raise ArgumentError(f"{self.name}: the order of a norm cannot be NaN")
        kind = x.dtype.np.type(0).real.dtype if x.dtype.is_complex else x.dtype.np
        wide = np.dtype(np.float32) if x.dtype.itemsize < 4 else np.dtype(kind)
        return TensorType(dtype_of(np.empty((), wide)), ())

    def eager(self, xp: Any, x: Array) -> Array:
        return kernels.vector_norm(xp, xp.asarray(x), self.order)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        return export_formula(ctx, self, x, formula=self._norm)

    def _norm(self, x: Array) -> Array:
        if x.dtype.is_complex:
            raise OnnxError("ONNX has no absolute value of complex numbers")
        size, axes = f.abs(f.cast(x, self.infer(x.type).dtype)), tuple(range(x.ndim))
        if x.size == 0:
            return f.zeros(size, ())
        if np.isinf(self.order):
            return f.max(size, axes) if self.order > 0 else -f.max(-size, axes)
        if self.order == 0:
            return f.sum(f.cast(f.not_equal(size, 0), size.dtype), axes)
        if self.order == 1:
            return f.sum(size, axes)
        if self.order == 2:
            return f.sqrt(f.sum(size * size, axes))
        total = f.sum(size ** f.like(size, self.order), axes)
        return total ** f.like(size, 1 / self.order)

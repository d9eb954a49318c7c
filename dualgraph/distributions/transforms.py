"""Invertible functions of random variables, with the logarithm of their Jacobian determinant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph._tensor import Size, Tensor

__all__ = [
    "AbsTransform",
    "AffineTransform",
    "ComposeTransform",
    "ExpTransform",
    "IndependentTransform",
    "PowerTransform",
    "ReshapeTransform",
    "SigmoidTransform",
    "SoftmaxTransform",
    "SoftplusTransform",
    "TanhTransform",
    "Transform",
    "identity_transform",
]


class Transform:
    """A function ``y = t(x)`` with its inverse ``x = t.inv(y)``.

    Attributes:
        bijective: whether each y has one x.
        domain_dim, codomain_dim: dimensions of one x and of one y that belong together; the
            Jacobian is that of those.
        sign: 1 or -1 for functions of numbers that rise or fall.

    Source: torch.distributions.transforms.Transform.
    """

    bijective = True
    domain_dim = 0
    codomain_dim = 0
    sign: Any = 1

    @property
    def event_dim(self) -> int:
        """`domain_dim`, where both are equal."""
        if self.domain_dim != self.codomain_dim:
            raise ValueError("Please use either .domain_dim or .codomain_dim")
        return self.domain_dim

    @property
    def inv(self) -> Transform:
        """The inverse, a transform itself."""
        return _Inverse(self)

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _inverse(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Log |det dy/dx|, without the dimensions of an event."""
        raise NotImplementedError

    def forward_shape(self, shape: Any) -> Size:
        """The shape of y for an x of `shape`."""
        return Size(shape)

    def inverse_shape(self, shape: Any) -> Size:
        """The shape of x for a y of `shape`."""
        return Size(shape)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and _same(vars(self), vars(other))

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    def equal(x: Any, y: Any) -> bool:
        if isinstance(x, Tensor) or isinstance(y, Tensor):
            return x is y or bool((dg.as_tensor(x) == dg.as_tensor(y)).all())
        return bool(x == y)

    return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)


class _Inverse(Transform):
    def __init__(self, transform: Transform) -> None:
        self._transform = transform
        self.bijective = transform.bijective
        self.domain_dim = transform.codomain_dim
        self.codomain_dim = transform.domain_dim

    @property
    def sign(self) -> Any:
        return self._transform.sign

    @property
    def inv(self) -> Transform:
        return self._transform

    def __call__(self, x: Tensor) -> Tensor:
        return self._transform._inverse(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self._transform(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -self._transform.log_abs_det_jacobian(y, x)

    def forward_shape(self, shape: Any) -> Size:
        return self._transform.inverse_shape(shape)

    def inverse_shape(self, shape: Any) -> Size:
        return self._transform.forward_shape(shape)

    def __repr__(self) -> str:
        return f"_InverseTransform({self._transform!r})"


def _summed(value: Tensor, count: int) -> Tensor:
    """`value` without its last `count` dimensions."""
    return value.sum(tuple(range(-count, 0))) if count > 0 else value


class ComposeTransform(Transform):
    """Several transforms, the first applied first."""

    def __init__(self, parts: Sequence[Transform]) -> None:
        self.parts = list(parts)
        self.bijective = all(p.bijective for p in self.parts)
        needed = 0
        for part in reversed(self.parts):
            needed = max(needed + part.domain_dim - part.codomain_dim, part.domain_dim)
        self.domain_dim = needed
        made = 0
        for part in self.parts:
            made = max(made + part.codomain_dim - part.domain_dim, part.codomain_dim)
        self.codomain_dim = made

    @property
    def sign(self) -> Any:
        return math.prod((p.sign for p in self.parts), start=1)

    @property
    def inv(self) -> Transform:
        return ComposeTransform([p.inv for p in reversed(self.parts)])

    def __call__(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x

    def _inverse(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            y = part.inv(y)
        return y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        total: Any = dg.zeros_like(x) if not self.parts else 0
        event = self.domain_dim
        for part in self.parts:
            after = part(x)
            total = total + _summed(part.log_abs_det_jacobian(x, after), event - part.domain_dim)
            event += part.codomain_dim - part.domain_dim
            x = after
        return total

    def forward_shape(self, shape: Any) -> Size:
        for part in self.parts:
            shape = part.forward_shape(shape)
        return Size(shape)

    def inverse_shape(self, shape: Any) -> Size:
        for part in reversed(self.parts):
            shape = part.inverse_shape(shape)
        return Size(shape)

    def __repr__(self) -> str:
        inner = ",\n    ".join(map(repr, self.parts))
        return f"ComposeTransform(\n    {inner}\n)"


identity_transform = ComposeTransform([])


class IndependentTransform(Transform):
    """A transform with more dimensions counted as belonging together."""

    def __init__(self, base_transform: Transform, reinterpreted_batch_ndims: int) -> None:
        self.base_transform = base_transform
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims
        self.bijective = base_transform.bijective
        self.domain_dim = base_transform.domain_dim + reinterpreted_batch_ndims
        self.codomain_dim = base_transform.codomain_dim + reinterpreted_batch_ndims

    @property
    def sign(self) -> Any:
        return self.base_transform.sign

    def __call__(self, x: Tensor) -> Tensor:
        return self.base_transform(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.base_transform.inv(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        found = self.base_transform.log_abs_det_jacobian(x, y)
        return _summed(found, self.reinterpreted_batch_ndims)

    def __repr__(self) -> str:
        return f"IndependentTransform({self.base_transform!r}, {self.reinterpreted_batch_ndims})"


class ReshapeTransform(Transform):
    """The last dimensions, of `in_shape`, in another shape of as many elements."""

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int]) -> None:
        self.in_shape, self.out_shape = Size(in_shape), Size(out_shape)
        if self.in_shape.numel() != self.out_shape.numel():
            raise ValueError("in_shape, out_shape have different numbers of elements")
        self.domain_dim, self.codomain_dim = len(self.in_shape), len(self.out_shape)

    def __call__(self, x: Tensor) -> Tensor:
        return x.reshape(self.forward_shape(x.shape))

    def _inverse(self, y: Tensor) -> Tensor:
        return y.reshape(self.inverse_shape(y.shape))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x.new_zeros(x.shape[: x.ndim - self.domain_dim])

    def forward_shape(self, shape: Any) -> Size:
        return self._exchanged(shape, self.in_shape, self.out_shape)

    def inverse_shape(self, shape: Any) -> Size:
        return self._exchanged(shape, self.out_shape, self.in_shape)

    @staticmethod
    def _exchanged(shape: Any, old: Size, new: Size) -> Size:
        cut = len(shape) - len(old)
        if cut < 0 or tuple(shape[cut:]) != tuple(old):
            raise ValueError(
                f"Shape mismatch: expected {tuple(shape)[max(cut, 0) :]} but got {old}"
            )
        return Size((*shape[:cut], *new))


class ExpTransform(Transform):
    """Y = exp(x)."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.exp()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.log()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x


class PowerTransform(Transform):
    """Y = x**exponent, of positive numbers."""

    def __init__(self, exponent: Any) -> None:
        self.exponent = exponent if isinstance(exponent, Tensor) else dg.tensor(float(exponent))

    @property
    def sign(self) -> Any:
        return self.exponent.sign()

    def __call__(self, x: Tensor) -> Tensor:
        return x**self.exponent

    def _inverse(self, y: Tensor) -> Tensor:
        return y ** (1 / self.exponent)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.exponent * y / x).abs().log()

    def forward_shape(self, shape: Any) -> Size:
        return dg.broadcast_shapes(shape, self.exponent.shape)

    inverse_shape = forward_shape


class SigmoidTransform(Transform):
    """Y = 1 / (1 + exp(-x))."""

    def __call__(self, x: Tensor) -> Tensor:
        limits = dg.finfo(x.dtype)
        return x.sigmoid().clamp(limits.tiny, 1 - limits.eps)

    def _inverse(self, y: Tensor) -> Tensor:
        limits = dg.finfo(y.dtype)
        y = y.clamp(limits.tiny, 1 - limits.eps)
        return y.log() - (-y).log1p()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -F.softplus(-x) - F.softplus(x)


class SoftplusTransform(Transform):
    """Y = log(1 + exp(x))."""

    def __call__(self, x: Tensor) -> Tensor:
        return F.softplus(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return (-(-y).expm1()).log() + y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -F.softplus(-x)


class TanhTransform(Transform):
    """Y = tanh(x)."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.tanh()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.atanh()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        # log(1 - tanh(x)^2), without cancellation (TensorFlow Probability's form).
        return 2.0 * (math.log(2.0) - x - F.softplus(-2.0 * x))


class AbsTransform(Transform):
    """Y = |x|, whose inverse is taken to be positive."""

    bijective = False

    def __call__(self, x: Tensor) -> Tensor:
        return x.abs()

    def _inverse(self, y: Tensor) -> Tensor:
        return y


class AffineTransform(Transform):
    """Y = loc + scale * x; `event_dim` dimensions belong together."""

    def __init__(self, loc: Any, scale: Any, event_dim: int = 0) -> None:
        self.loc, self.scale = loc, scale
        self.domain_dim = self.codomain_dim = event_dim

    @property
    def sign(self) -> Any:
        if isinstance(self.scale, Tensor):
            return self.scale.sign()
        return 1 if self.scale > 0 else -1 if self.scale < 0 else 0

    def __call__(self, x: Tensor) -> Tensor:
        return self.loc + self.scale * x

    def _inverse(self, y: Tensor) -> Tensor:
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        if isinstance(self.scale, Tensor):
            slope = self.scale.abs().log().expand(dg.broadcast_shapes(x.shape, self.scale.shape))
        else:
            slope = dg.full_like(x, math.log(abs(self.scale)))
        return _summed(slope, self.domain_dim)

    def forward_shape(self, shape: Any) -> Size:
        sizes = [getattr(v, "shape", ()) for v in (self.loc, self.scale)]
        return dg.broadcast_shapes(shape, *sizes)

    inverse_shape = forward_shape


class SoftmaxTransform(Transform):
    """Y = softmax(x) over the last dimension; the inverse is the logarithm."""

    bijective = False
    domain_dim = codomain_dim = 1

    def __call__(self, x: Tensor) -> Tensor:
        shifted = (x - x.max(-1, True)[0]).exp()
        return shifted / shifted.sum(-1, True)

    def _inverse(self, y: Tensor) -> Tensor:
        return y.log()

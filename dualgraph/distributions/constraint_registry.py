"""Transforms from all real numbers onto the set that a constraint describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import constraints
from .constraints import Constraint
from .matrix_transforms import (
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    StickBreakingTransform,
)
from .transforms import (
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    IndependentTransform,
    SigmoidTransform,
    SoftmaxTransform,
    Transform,
    identity_transform,
)

__all__ = ["ConstraintRegistry", "biject_to", "transform_to"]

_Factory = Callable[[Any], Transform]


class ConstraintRegistry:
    """Calling it with a constraint gives a transform from the real numbers onto its set.

    Source: torch.distributions.constraint_registry.
    """

    def __init__(self) -> None:
        self._factories: dict[type, _Factory] = {}

    def register(self, constraint: Any, factory: _Factory | None = None) -> Any:
        """Enter the function that makes the transform for a constraint or a class of them."""
        if factory is None:
            return lambda factory: self.register(constraint, factory)
        kind = type(constraint) if isinstance(constraint, Constraint) else constraint
        self._factories[kind] = factory
        return factory

    def __call__(self, constraint: Constraint) -> Transform:
        factory = self._factories.get(type(constraint))
        if factory is None:
            raise NotImplementedError(f"Cannot transform {type(constraint).__name__} constraints")
        return factory(constraint)


biject_to = ConstraintRegistry()
transform_to = ConstraintRegistry()


def _both(kind: Any, factory: _Factory) -> None:
    biject_to.register(kind, factory)
    transform_to.register(kind, factory)


def _above(c: Any) -> Transform:
    return ComposeTransform([ExpTransform(), AffineTransform(c.lower_bound, 1)])


def _between(c: Any) -> Transform:
    low, high = c.lower_bound, c.upper_bound
    if isinstance(low, int | float) and (low, high) == (0, 1):
        return SigmoidTransform()
    return ComposeTransform([SigmoidTransform(), AffineTransform(low, high - low)])


_both(constraints.real, lambda c: identity_transform)
_both(constraints.greater_than, _above)
_both(constraints.greater_than_eq, _above)
_both(
    constraints.less_than,
    lambda c: ComposeTransform([ExpTransform(), AffineTransform(c.upper_bound, -1)]),
)
_both(constraints.interval, _between)
_both(constraints.half_open_interval, _between)
transform_to.register(constraints.simplex, lambda c: SoftmaxTransform())
biject_to.register(constraints.simplex, lambda c: StickBreakingTransform())
transform_to.register(constraints.lower_cholesky, lambda c: LowerCholeskyTransform())
transform_to.register(constraints.positive_definite, lambda c: PositiveDefiniteTransform())
transform_to.register(constraints.positive_semidefinite, lambda c: PositiveDefiniteTransform())


def _onto_each(to: ConstraintRegistry) -> _Factory:
    def factory(c: Any) -> Transform:
        return IndependentTransform(to(c.base_constraint), c.reinterpreted_batch_ndims)

    return factory


for _registry in (biject_to, transform_to):
    _registry.register(constraints.independent, _onto_each(_registry))

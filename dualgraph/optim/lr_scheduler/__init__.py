"""Learning rate schedules: call `scheduler.step()` after the optimizer's steps of an epoch."""

from dualgraph.optim.lr_scheduler._base import LRScheduler, _LRScheduler
from dualgraph.optim.lr_scheduler._chainable import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from dualgraph.optim.lr_scheduler._cyclic import CosineAnnealingWarmRestarts, CyclicLR
from dualgraph.optim.lr_scheduler._one_cycle import OneCycleLR
from dualgraph.optim.lr_scheduler._plateau import ReduceLROnPlateau
from dualgraph.optim.lr_scheduler._sequential import ChainedScheduler, SequentialLR

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "_LRScheduler",
]

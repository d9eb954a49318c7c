"""Learning rate schedules: call `scheduler.step()` after the optimizer's steps of an epoch."""

from dualgraph.optim.lr_scheduler._base import LRScheduler
from dualgraph.optim.lr_scheduler._chainable import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    StepLR,
)
from dualgraph.optim.lr_scheduler._one_cycle import OneCycleLR
from dualgraph.optim.lr_scheduler._plateau import ReduceLROnPlateau
from dualgraph.optim.lr_scheduler._sequential import SequentialLR

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]

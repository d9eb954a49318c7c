"""Optimizers and learning rate schedules, with PyTorch's names and results."""

from dualgraph.optim import lr_scheduler
from dualgraph.optim.adagrad import Adagrad
from dualgraph.optim.adam import Adam, AdamW
from dualgraph.optim.optimizer import Optimizer
from dualgraph.optim.rmsprop import RMSprop
from dualgraph.optim.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]

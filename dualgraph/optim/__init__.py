"""Optimizers and learning rate schedules, with PyTorch's names and results."""

from dualgraph.optim import lr_scheduler, swa_utils
from dualgraph.optim.adadelta import Adadelta
from dualgraph.optim.adafactor import Adafactor
from dualgraph.optim.adagrad import Adagrad
from dualgraph.optim.adam import Adam, AdamW
from dualgraph.optim.adamax import Adamax
from dualgraph.optim.asgd import ASGD
from dualgraph.optim.lbfgs import LBFGS
from dualgraph.optim.muon import Muon
from dualgraph.optim.nadam import NAdam
from dualgraph.optim.optimizer import Optimizer
from dualgraph.optim.radam import RAdam
from dualgraph.optim.rmsprop import RMSprop
from dualgraph.optim.rprop import Rprop
from dualgraph.optim.sgd import SGD

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "lr_scheduler",
    "swa_utils",
]

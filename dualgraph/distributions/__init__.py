"""Probability distributions of tensors: samples, densities, entropies and divergences.

Names and results are PyTorch's (``torch.distributions``). Parameters of one distribution are
broadcast against each other; a tensor of them is a batch of distributions.
"""

from .continuous import Exponential, Laplace, LogNormal, Normal, Uniform
from .discrete import Bernoulli, Categorical, Geometric
from .distribution import Distribution
from .independent import Independent
from .kl import kl_divergence, register_kl

__all__ = [
    "Bernoulli",
    "Categorical",
    "Distribution",
    "Exponential",
    "Geometric",
    "Independent",
    "Laplace",
    "LogNormal",
    "Normal",
    "Uniform",
    "kl_divergence",
    "register_kl",
]

"""Divergences between distributions of :mod:`.gamma`, :mod:`.counts` and :mod:`.tails`."""

from __future__ import annotations

import math

import dualgraph as dg
from dualgraph._tensor import Tensor

from .continuous import Exponential, Laplace, Normal, Uniform
from .counts import Binomial, OneHotCategorical, Poisson
from .discrete import Bernoulli
from .gamma import Beta, Dirichlet, Gamma
from .kl import kl_divergence, register_kl
from .tails import Cauchy, Gumbel, HalfNormal, Pareto
from .transformed import TransformedDistribution

_EULER = 0.57721566490153286


@register_kl(Gamma, Gamma)
def _gamma(p: Gamma, q: Gamma) -> Tensor:
    size = q.concentration * (p.rate / q.rate).log()
    size = size + q.concentration.lgamma() - p.concentration.lgamma()
    shape = (p.concentration - q.concentration) * p.concentration.digamma()
    return size + shape + (q.rate - p.rate) * (p.concentration / p.rate)


@register_kl(Beta, Beta)
def _beta(p: Beta, q: Beta) -> Tensor:
    total_p = p.concentration1 + p.concentration0
    total_q = q.concentration1 + q.concentration0
    size = q.concentration1.lgamma() + q.concentration0.lgamma() + total_p.lgamma()
    size = size - p.concentration1.lgamma() - p.concentration0.lgamma() - total_q.lgamma()
    one = (p.concentration1 - q.concentration1) * p.concentration1.digamma()
    zero = (p.concentration0 - q.concentration0) * p.concentration0.digamma()
    return size + one + zero + (total_q - total_p) * total_p.digamma()


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Dirichlet, q: Dirichlet) -> Tensor:
    total = p.concentration.sum(-1)
    size = total.lgamma() - q.concentration.sum(-1).lgamma()
    parts = (p.concentration.lgamma() - q.concentration.lgamma()).sum(-1)
    gap = p.concentration.digamma() - total.digamma().unsqueeze(-1)
    return size - parts + ((p.concentration - q.concentration) * gap).sum(-1)


@register_kl(Poisson, Poisson)
def _poisson(p: Poisson, q: Poisson) -> Tensor:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Binomial, Binomial)
def _binomial(p: Binomial, q: Binomial) -> Tensor:
    if bool((p.total_count < q.total_count).any()):
        raise NotImplementedError(
            "KL between Binomials where q.total_count > p.total_count is not implemented"
        )
    gap = p.total_count * (
        p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p()
    )
    return gap.masked_fill(p.total_count > q.total_count, math.inf)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot(p: OneHotCategorical, q: OneHotCategorical) -> Tensor:
    return kl_divergence(p._categorical, q._categorical)


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: HalfNormal, q: HalfNormal) -> Tensor:
    return kl_divergence(p._whole, q._whole)


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Cauchy, q: Cauchy) -> Tensor:
    top = ((p.scale + q.scale) ** 2 + (p.loc - q.loc) ** 2).log()
    return top - (4 * p.scale * q.scale).log()


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Gumbel, q: Gumbel) -> Tensor:
    ratio, loc_p, loc_q = p.scale / q.scale, p.loc / q.scale, q.loc / q.scale
    size = ratio.log() - loc_p + loc_q
    moment = (loc_q + (1 + ratio).lgamma() - loc_p).exp()
    return -size + ratio * _EULER + moment - (1 + _EULER)


@register_kl(Pareto, Pareto)
def _pareto(p: Pareto, q: Pareto) -> Tensor:
    ratio = p.scale / q.scale
    gap = q.alpha / p.alpha
    return (q.alpha * ratio.log() - gap.log() + gap - 1).masked_fill(ratio < 1, math.inf)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: TransformedDistribution, q: TransformedDistribution) -> Tensor:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError("the two distributions have different transforms")
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Exponential, Gamma)
def _exponential_gamma(p: Exponential, q: Gamma) -> Tensor:
    return kl_divergence(Gamma(dg.ones_like(p.rate), p.rate, validate_args=False), q)


@register_kl(Gamma, Exponential)
def _gamma_exponential(p: Gamma, q: Exponential) -> Tensor:
    return kl_divergence(p, Gamma(dg.ones_like(q.rate), q.rate, validate_args=False))


@register_kl(Uniform, Normal)
def _uniform_normal(p: Uniform, q: Normal) -> Tensor:
    spread = (p.high - p.low) ** 2 / 12
    distance = ((p.high + p.low - 2 * q.loc) / 2) ** 2
    size = (math.sqrt(2 * math.pi) * q.scale / (p.high - p.low)).log()
    return size + 0.5 * (spread + distance) / q.scale**2


@register_kl(Laplace, Normal)
def _laplace_normal(p: Laplace, q: Normal) -> Tensor:
    ratio = (p.scale / q.scale) ** 2
    size = 0.5 * (2 * ratio / math.pi).log()
    return (
        -size
        + ratio
        + 0.5 * (p.loc / q.scale) ** 2
        - p.loc * q.loc / q.scale**2
        + (0.5 * (q.loc / q.scale) ** 2 - 1)
    )


@register_kl(Normal, Gumbel)
def _normal_gumbel(p: Normal, q: Gumbel) -> Tensor:
    ratio = p.scale / q.scale
    gap = (p.loc - q.loc) / q.scale
    moment = (0.5 * ratio**2 - gap).exp()
    return -ratio.log() + gap + moment - 0.5 * (1 + math.log(2 * math.pi))


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Bernoulli, q: Poisson) -> Tensor:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)

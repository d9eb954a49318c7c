"""Layers that wait for their first input."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import dualgraph as dg
from dualgraph import nn

pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")

LAYERS: list[tuple[Any, type[nn.Module], tuple[int, ...]]] = [
    (lambda: nn.LazyLinear(3), nn.Linear, (2, 5)),
    (lambda: nn.LazyConv2d(4, 3, groups=2), nn.Conv2d, (2, 6, 5, 5)),
    (lambda: nn.LazyConvTranspose1d(4, 3), nn.ConvTranspose1d, (2, 6, 5)),
    (lambda: nn.LazyBatchNorm1d(), nn.BatchNorm1d, (4, 3)),
    (lambda: nn.LazyInstanceNorm2d(affine=True), nn.InstanceNorm2d, (2, 3, 4, 4)),
]
each = pytest.mark.parametrize(("make", "becomes", "shape"), LAYERS)


@each
def test_becomes_ordinary(make: Any, becomes: type[nn.Module], shape: tuple[int, ...]) -> None:
    layer = make()
    assert layer.has_uninitialized_params()
    waiting = list(layer.parameters())
    assert all(isinstance(p, nn.UninitializedParameter) for p in waiting)
    assert repr(waiting[0]) == "<UninitializedParameter>"
    with pytest.raises(RuntimeError, match="uninitialized"):
        _ = waiting[0].shape
    x = dg.randn(*shape)
    out = layer.double()(x.double())
    assert out.dtype is dg.float64
    assert type(layer) is becomes
    assert [id(p) for p in layer.parameters()] == [id(p) for p in waiting]
    assert all(type(p) is nn.Parameter for p in waiting)
    assert not layer._forward_pre_hooks
    fresh = copy.deepcopy(layer)
    assert dg.equal(fresh(x.double()), layer(x.double()))


@each
def test_takes_sizes_from_a_state(
    make: Any, becomes: type[nn.Module], shape: tuple[int, ...]
) -> None:
    source, target = make(), make()
    waiting = make().state_dict()
    target.load_state_dict(waiting)  # nothing has a size on either side
    assert target.has_uninitialized_params()
    x = dg.randn(*shape)
    source(x)
    target.load_state_dict(source.state_dict())
    assert not target.has_uninitialized_params()
    source.eval()
    assert dg.equal(target.eval()(x), source(x))
    with pytest.raises(RuntimeError, match="no size yet"):
        source.load_state_dict(waiting)


def test_is_not_traced() -> None:
    with pytest.raises(ValueError, match="call it once before"):
        dg.trace(nn.LazyLinear(3), dg.randn(2, 5))

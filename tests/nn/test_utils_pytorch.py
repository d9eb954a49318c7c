"""``nn.utils``: parametrizations, weights computed by hooks, pruning, against PyTorch's."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph.nn.utils import parametrizations, parametrize, prune

from .parity import close, copy_state, ours

torch = pytest.importorskip("torch")
theirs_utils = pytest.importorskip("torch.nn.utils")
from torch.nn.utils import parametrizations as their_parametrizations  # noqa: E402
from torch.nn.utils import prune as their_prune  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def both(name: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    theirs, mine = getattr(torch.nn, name)(*args, **kwargs), getattr(nn, name)(*args, **kwargs)
    copy_state(theirs, mine)
    return mine, theirs


def compared(mine: Any, theirs: Any, x: Any) -> None:
    """Printed form, names, results, and gradients of all parameters."""
    assert repr(mine) == repr(theirs)
    assert [n for n, _ in mine.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    copy_state(theirs, mine)
    mine.zero_grad()
    theirs.zero_grad()
    found, wanted = mine(ours(x)), theirs(x)
    close(found, wanted)
    factor = torch.rand_like(wanted)
    (wanted * factor).sum().backward()
    (found * ours(factor)).sum().backward()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        close(a.grad, b.grad, 1e-4)
    for key, value in theirs.state_dict().items():
        close(mine.state_dict()[key], value)


# -- weights of a kind ----------------------------------------------------------------------------

LAYERS: list[tuple[str, tuple[Any, ...], tuple[int, ...]]] = [
    ("Linear", (4, 3), (2, 4)),
    ("Conv2d", (3, 4, 3), (2, 3, 5, 5)),
    ("ConvTranspose1d", (3, 4, 2), (2, 3, 5)),
]


@pytest.mark.parametrize(("name", "args", "shape"), LAYERS)
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("old", [False, True])
def test_weight_norm(name: str, args: Any, shape: Any, dim: int | None, old: bool) -> None:
    mine, theirs = both(name, *args)
    if old:
        nn.utils.weight_norm(mine, dim=dim)
        theirs_utils.weight_norm(theirs, dim=dim)
    else:
        parametrizations.weight_norm(mine, dim=dim)
        their_parametrizations.weight_norm(theirs, dim=dim)
    compared(mine, theirs, torch.randn(shape))
    if old:
        nn.utils.remove_weight_norm(mine)
        theirs_utils.remove_weight_norm(theirs)
        compared(mine, theirs, torch.randn(shape))


def test_weight_norm_reads_states_of_old() -> None:
    old = nn.utils.weight_norm(nn.Linear(4, 3))
    new = parametrizations.weight_norm(nn.Linear(4, 3))
    new.load_state_dict(old.state_dict())
    x = dg.randn(2, 4)
    assert dg.allclose(new(x), old(x))


@pytest.mark.parametrize(("name", "args", "shape"), LAYERS)
@pytest.mark.parametrize("old", [False, True])
def test_spectral_norm(name: str, args: Any, shape: Any, old: bool) -> None:
    mine, theirs = both(name, *args)
    if old:
        nn.utils.spectral_norm(mine, n_power_iterations=2)
        theirs_utils.spectral_norm(theirs, n_power_iterations=2)
    else:
        parametrizations.spectral_norm(mine, n_power_iterations=2)
        their_parametrizations.spectral_norm(theirs, n_power_iterations=2)
    for training in (True, True, False):
        mine.train(training)
        theirs.train(training)
        compared(mine, theirs, torch.randn(shape))
    if old:
        nn.utils.remove_spectral_norm(mine)
        theirs_utils.remove_spectral_norm(theirs)
        compared(mine, theirs, torch.randn(shape))
        with pytest.raises(ValueError, match="not found"):
            nn.utils.remove_spectral_norm(mine)


MAPS = ("matrix_exp", "cayley", "householder")


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
@pytest.mark.parametrize("how", MAPS)
@pytest.mark.parametrize("base", [True, False])
def test_orthogonal(shape: tuple[int, int], how: str, base: bool) -> None:
    torch.manual_seed(1)
    mine, theirs = (f.nn.Linear(*shape[::-1]).double() for f in (dg, torch))
    copy_state(theirs, mine)
    options: dict[str, Any] = {"orthogonal_map": how, "use_trivialization": base}
    parametrizations.orthogonal(mine, **options)
    their_parametrizations.orthogonal(theirs, **options)
    small = mine.weight if shape[0] >= shape[1] else mine.weight.mT
    eye = small.mT @ small
    assert dg.allclose(eye, dg.eye(min(shape), dtype=dg.float64), atol=1e-8)
    if shape[0] == shape[1] or not base:  # elsewhere the base is drawn
        compared(mine, theirs, torch.randn(2, shape[1], dtype=torch.float64))
    if base or how == "householder":
        value = torch.linalg.qr(torch.randn(max(shape), min(shape), dtype=torch.float64))[0]
        value = value if shape[0] >= shape[1] else value.mT
        mine.weight = ours(value)
        close(mine.weight, value)
    else:
        with pytest.raises(NotImplementedError, match="not possible to assign"):
            mine.weight = mine.weight.detach()


# -- parametrizations in general ------------------------------------------------------------------


class Symmetric(nn.Module):
    def forward(self, x: dg.Tensor) -> dg.Tensor:
        return x.triu() + x.triu(1).mT

    def right_inverse(self, x: dg.Tensor) -> dg.Tensor:
        return x.triu()


class Doubled(nn.Module):
    def forward(self, x: dg.Tensor) -> dg.Tensor:
        return x * 2


def test_register_and_remove() -> None:
    layer = nn.Linear(3, 3)
    weight, parameter = layer.weight.detach().clone(), layer.weight
    parametrize.register_parametrization(layer, "weight", Symmetric())
    assert parametrize.is_parametrized(layer)
    assert parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias")
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    assert type(layer).__name__ == "ParametrizedLinear"
    held = layer.parametrizations.weight
    assert held.original is parameter
    assert dg.equal(layer.weight, weight.triu() + weight.triu(1).mT)
    layer.weight.sum().backward()
    assert held.original.grad.tolist() == [[1, 2, 2], [0, 1, 2], [0, 0, 1]]
    wanted = dg.ones(3, 3)
    layer.weight = wanted
    assert dg.equal(layer.weight, wanted)
    parametrize.register_parametrization(layer, "weight", Doubled())
    assert dg.equal(layer.weight, wanted * 2)
    with pytest.raises(ValueError, match="does not implement right_inverse"):
        layer.weight = wanted
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    assert layer.weight is parameter
    assert dg.equal(layer.weight, wanted * 2)
    assert list(layer.state_dict()) == ["bias", "weight"]


def test_originals_can_be_left() -> None:
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Doubled())
    original = layer.parametrizations.weight.original
    before = original.detach().clone()
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert dg.equal(layer.weight, before)
    normed = parametrizations.weight_norm(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="sequence of tensors"):
        parametrize.remove_parametrizations(normed, "weight", leave_parametrized=False)
    value = normed.weight.detach()
    parametrize.remove_parametrizations(normed, "weight")
    assert dg.equal(normed.weight, value)


def test_copies_and_transfer() -> None:
    layer = parametrize.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    twin = copy.deepcopy(layer)
    assert dg.equal(twin.weight, layer.weight)
    with dg.no_grad():
        layer.parametrizations.weight.original.add_(1)
    assert not dg.equal(twin.weight, layer.weight)
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(layer)
    other = nn.Linear(3, 3)
    parametrize.transfer_parametrizations_and_params(layer, other, "weight")
    assert dg.equal(other.weight, layer.weight)
    twin.load_state_dict(layer.state_dict())
    assert dg.equal(twin.weight, layer.weight)


def test_cached() -> None:
    calls: list[int] = []

    class Counted(nn.Module):
        def forward(self, x: dg.Tensor) -> dg.Tensor:
            calls.append(1)
            return x

    layer = nn.Linear(2, 2)
    parametrize.register_parametrization(layer, "weight", Counted(), unsafe=True)
    with parametrize.cached():
        assert layer.weight is layer.weight
    assert len(calls) == 1
    _ = layer.weight
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda x: x[:1], "may not change the shape"),
        (lambda x: x.double(), "may not change the dtype"),
        (lambda x: (x,), "must return a tensor"),
    ],
)
def test_unsafe_parametrizations_are_refused(change: Any, match: str) -> None:
    class Changed(nn.Module):
        def forward(self, x: dg.Tensor) -> Any:
            return change(x)

    layer = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=match):
        parametrize.register_parametrization(layer, "weight", Changed())
    assert type(layer) is nn.Linear
    assert isinstance(layer.weight, nn.Parameter)
    with pytest.raises(ValueError, match="does not have a parameter"):
        parametrize.register_parametrization(layer, "other", Doubled())


@pytest.mark.parametrize(
    "change",
    [
        lambda m: parametrizations.weight_norm(m),
        lambda m: parametrizations.orthogonal(m, orthogonal_map="cayley"),
        lambda m: parametrizations.spectral_norm(m).eval(),
        lambda m: nn.utils.weight_norm(m),
    ],
)
def test_parametrized_layers_are_compiled(change: Any) -> None:
    layer = change(nn.Linear(4, 4))
    step = dg.compile(lambda x: layer(x).square().sum())
    x = dg.randn(3, 4)
    for _ in range(2):
        layer.zero_grad()
        loss = layer(x).square().sum()
        loss.backward()
        wanted = [p.grad.clone() for p in layer.parameters()]
        layer.zero_grad()
        found = step(x)
        found.backward()
        assert float(found.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
        for p, g in zip(layer.parameters(), wanted, strict=True):
            assert dg.allclose(p.grad, g, atol=1e-5)
        with dg.no_grad():
            for p in layer.parameters():
                p.add_(0.1)


# -- pruning --------------------------------------------------------------------------------------

PRUNINGS: list[Any] = [
    lambda p, m: p.l1_unstructured(m, "weight", 0.4),
    lambda p, m: p.l1_unstructured(m, "weight", 3),
    lambda p, m: p.ln_structured(m, "weight", 0.5, 2, 0),
    lambda p, m: p.ln_structured(m, "weight", 1, 1, -1),
    lambda p, m: p.identity(m, "bias"),
    lambda p, m: p.l1_unstructured(p.l1_unstructured(m, "weight", 0.3), "weight", 0.5),
    lambda p, m: p.ln_structured(p.l1_unstructured(m, "weight", 3), "weight", 1, 2, 1),
    lambda p, m: p.l1_unstructured(p.ln_structured(m, "weight", 1, 2, 0), "weight", 2),
    lambda p, m: p.global_unstructured([(m, "weight"), (m, "bias")], p.L1Unstructured, amount=6),
]


@pytest.mark.parametrize("change", PRUNINGS)
def test_prune(change: Any) -> None:
    mine, theirs = both("Linear", 5, 4)
    change(prune, mine)
    change(their_prune, theirs)
    assert prune.is_pruned(mine)
    for key, value in theirs.state_dict().items():
        assert np.array_equal(mine.state_dict()[key].numpy(), value.numpy()), key
    compared(mine, theirs, torch.randn(3, 5))
    for name in ("weight", "bias"):
        if hasattr(mine, f"{name}_mask"):
            prune.remove(mine, name)
            their_prune.remove(theirs, name)
    assert not prune.is_pruned(mine)
    compared(mine, theirs, torch.randn(3, 5))


@pytest.mark.parametrize("amount", [0, 0.25, 5, 1.0])
def test_prune_at_random(amount: Any) -> None:
    layer = nn.Linear(5, 4)
    prune.random_unstructured(layer, "weight", amount)
    wanted = amount if isinstance(amount, int) else amount * 20
    assert int((layer.weight == 0).sum()) == wanted
    other = prune.random_structured(nn.Linear(5, 4), "weight", 2, 1)
    assert int((other.weight == 0).all(0).sum()) == 2


def test_prune_by_a_mask_or_scores() -> None:
    layer = nn.Linear(2, 2)
    prune.custom_from_mask(layer, "weight", dg.tensor([[1, 0], [0, 1]]))
    assert layer.weight_mask.tolist() == [[1, 0], [0, 1]]
    layer(dg.ones(1, 2)).sum().backward()
    assert layer.weight_orig.grad.tolist() == [[1, 0], [0, 1]]
    other = nn.Linear(2, 2)
    prune.l1_unstructured(other, "weight", 1, importance_scores=dg.tensor([[3.0, 1], [4, 2]]))
    assert other.weight_mask.tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda m: prune.l1_unstructured(m, "weight", 1.5), ValueError),
        (lambda m: prune.l1_unstructured(m, "weight", -1), ValueError),
        (lambda m: prune.l1_unstructured(m, "weight", "all"), TypeError),
        (lambda m: prune.l1_unstructured(m, "weight", 100), ValueError),
        (lambda m: prune.ln_structured(m, "bias", 1, 2, 0), ValueError),
        (lambda m: prune.ln_structured(m, "weight", 1, 2, 3), IndexError),
        (lambda m: prune.remove(m, "weight"), ValueError),
        (lambda m: prune.custom_from_mask(m, "weight", dg.ones(3)), AssertionError),
    ],
)
def test_prunings_refused(call: Any, error: type[Exception]) -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(error):
        call(layer)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert not prune.is_pruned(layer)


# -- others ---------------------------------------------------------------------------------------


def test_functional_call_of_old() -> None:
    layer = nn.Linear(2, 1)
    new = {"weight": dg.ones(1, 2), "bias": dg.zeros(1)}
    assert nn.utils.stateless.functional_call(layer, new, dg.ones(1, 2)).tolist() == [[2.0]]


def test_skip_init() -> None:
    assert nn.utils.skip_init(nn.Linear, 3, 2).weight.shape == (2, 3)
    with pytest.raises(RuntimeError, match="Expected a Module"):
        nn.utils.skip_init(int)


@pytest.mark.parametrize("name", ["uniform", "constant", "xavier_normal", "orthogonal", "eye"])
def test_initialisers_of_old(name: str) -> None:
    x = dg.empty(3, 3)
    args = (0.5,) if name == "constant" else ()
    with pytest.warns(FutureWarning, match="deprecated"):
        assert getattr(nn.init, name)(x, *args) is x
    assert x.any()

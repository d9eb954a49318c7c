"""Losses against PyTorch's: every reduction, weights, smoothing, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn

from .parity import close, ours

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")
REDUCTIONS = ("mean", "sum", "none")


def check(name: str, options: dict[str, Any], inputs: Any) -> None:
    """The layer of this name on these PyTorch tensors; gradients of all that require one."""
    mine = getattr(nn, name)(**{k: ours(v) for k, v in options.items()})
    theirs = getattr(torch.nn, name)(**options)
    assert repr(mine) == repr(theirs)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    copies = [ours(x) for x in inputs]
    got, wanted = mine(*copies), theirs(*inputs)
    close(got, wanted)
    weights = torch.rand_like(wanted)
    (wanted * weights).sum().backward()
    (got * ours(weights)).sum().backward()
    for a, b in zip(copies, inputs, strict=True):
        if b.grad is not None:
            assert a.grad is not None
            close(a.grad, b.grad)


def normal(*shape: int, grad: bool = True) -> Any:
    return torch.randn(*shape, requires_grad=grad)


def unit(*shape: int, grad: bool = False) -> Any:
    return torch.rand(*shape, requires_grad=grad)


def signs(*shape: int) -> Any:
    return torch.randint(0, 2, shape) * 2.0 - 1.0


def classes(count: int, *shape: int) -> Any:
    return torch.randint(0, count, shape)


PLAIN: list[tuple[str, dict[str, Any], Any]] = [
    ("MSELoss", {}, lambda: (normal(3, 4), normal(3, 4))),
    ("L1Loss", {}, lambda: (normal(3, 4), normal(3, 4))),
    ("SmoothL1Loss", {}, lambda: (normal(3, 4), normal(3, 4, grad=False))),
    ("SmoothL1Loss", {"beta": 0.3}, lambda: (normal(3, 4), normal(3, 4))),
    ("SmoothL1Loss", {"beta": 0.0}, lambda: (normal(3, 4), normal(3, 4))),
    ("HuberLoss", {"delta": 0.7}, lambda: (normal(3, 4), normal(3, 4))),
    ("BCELoss", {}, lambda: (unit(3, 4, grad=True), unit(3, 4))),
    ("BCELoss", {"weight": torch.rand(4)}, lambda: (unit(3, 4, grad=True), unit(3, 4))),
    ("BCEWithLogitsLoss", {}, lambda: (normal(3, 4), unit(3, 4))),
    (
        "BCEWithLogitsLoss",
        {"weight": torch.rand(4), "pos_weight": torch.rand(4) * 3},
        lambda: (normal(3, 4), unit(3, 4)),
    ),
    ("KLDivLoss", {}, lambda: (normal(3, 4), unit(3, 4, grad=True))),
    ("KLDivLoss", {"log_target": True}, lambda: (normal(3, 4), normal(3, 4))),
    ("SoftMarginLoss", {}, lambda: (normal(3, 4), signs(3, 4))),
    ("HingeEmbeddingLoss", {"margin": 0.6}, lambda: (normal(3, 4), signs(3, 4))),
    ("MarginRankingLoss", {"margin": 0.2}, lambda: (normal(5), normal(5), signs(5))),
    ("CosineEmbeddingLoss", {"margin": 0.1}, lambda: (normal(5, 3), normal(5, 3), signs(5))),
    ("TripletMarginLoss", {}, lambda: (normal(5, 3), normal(5, 3), normal(5, 3))),
    (
        "TripletMarginLoss",
        {"p": 1.0, "swap": True, "margin": 0.5},
        lambda: (normal(5, 3), normal(5, 3), normal(5, 3)),
    ),
    ("MultiLabelSoftMarginLoss", {}, lambda: (normal(3, 4), unit(3, 4).round())),
    ("MultiMarginLoss", {}, lambda: (normal(3, 4), classes(4, 3))),
    (
        "MultiMarginLoss",
        {"p": 2, "margin": 0.5, "weight": torch.rand(4)},
        lambda: (normal(3, 4), classes(4, 3)),
    ),
    ("PoissonNLLLoss", {}, lambda: (normal(3, 4), classes(5, 3, 4).float())),
    (
        "PoissonNLLLoss",
        {"log_input": False, "full": True},
        lambda: (unit(3, 4, grad=True), classes(5, 3, 4).float()),
    ),
    ("GaussianNLLLoss", {}, lambda: (normal(3, 4), normal(3, 4), unit(3, 4, grad=True))),
    ("GaussianNLLLoss", {"full": True}, lambda: (normal(3, 4), normal(3, 4), unit(3, 1))),
    ("NLLLoss", {}, lambda: (normal(5, 4), classes(4, 5))),
    ("NLLLoss", {"ignore_index": 1}, lambda: (normal(5, 4, 3), classes(4, 5, 3))),
    ("NLLLoss", {"weight": torch.rand(4)}, lambda: (normal(5, 4, 2, 3), classes(4, 5, 2, 3))),
    ("CrossEntropyLoss", {}, lambda: (normal(5, 4), classes(4, 5))),
    ("CrossEntropyLoss", {}, lambda: (normal(4), classes(4))),
    ("CrossEntropyLoss", {}, lambda: (normal(5, 4, 2, 3), classes(4, 5, 2, 3))),
    ("CrossEntropyLoss", {}, lambda: (normal(5, 4), unit(5, 4, grad=True))),
]
CROSS = [
    {"ignore_index": 2},
    {"weight": torch.rand(4)},
    {"label_smoothing": 0.2},
    {"label_smoothing": 0.2, "weight": torch.rand(4), "ignore_index": 2},
]
PLAIN += [("CrossEntropyLoss", o, lambda: (normal(6, 4), classes(4, 6))) for o in CROSS]
PLAIN += [("CrossEntropyLoss", o, lambda: (normal(6, 4, 3), classes(4, 6, 3))) for o in CROSS]
PLAIN += [("CrossEntropyLoss", o, lambda: (normal(6, 4, 3), unit(6, 4, 3))) for o in CROSS[1:3]]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "options", "inputs"), PLAIN, ids=[p[0] for p in PLAIN])
def test_loss(name: str, options: dict[str, Any], inputs: Any, reduction: str) -> None:
    torch.manual_seed(0)
    check(name, {**options, "reduction": reduction}, inputs())


def test_batchmean() -> None:
    check("KLDivLoss", {"reduction": "batchmean"}, (normal(3, 4), unit(3, 4)))


def test_old_flags() -> None:
    assert nn.MSELoss(size_average=False).reduction == "sum"
    assert nn.MSELoss(reduce=False).reduction == "none"
    assert nn.MSELoss(size_average=True).reduction == "mean"


def test_extreme_probabilities() -> None:
    x = dg.tensor([0.0, 1.0])
    assert F.binary_cross_entropy(x, dg.tensor([1.0, 0.0])).item() == 100.0
    assert F.binary_cross_entropy(x, dg.tensor([0.0, 1.0])).item() == 0.0
    logits = dg.tensor([-1000.0, 1000.0], requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(logits, dg.tensor([1.0, 0.0]))
    loss.backward()
    assert loss.item() == 1000.0
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), [-0.5, 0.5])


def test_nothing_counts() -> None:
    loss = F.cross_entropy(dg.randn(3, 4), dg.full((3,), -100))
    assert np.isnan(loss.item())


def test_a_target_of_another_size_warns() -> None:
    with pytest.warns(UserWarning, match="Using a target size .* that is different"):
        F.mse_loss(dg.randn(3, 1), dg.randn(3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.mse_loss(dg.ones(2), dg.ones(2), reduction="average"), "not a valid value"),
        (lambda: F.cross_entropy(dg.ones(2, 3), dg.tensor([0, 1]), label_smoothing=2.0), "between"),
        (lambda: F.cross_entropy(dg.ones(2, 3), dg.ones(2, 4)), "target probabilities"),
        (lambda: F.binary_cross_entropy(dg.ones(2), dg.ones(3)), "different to the input size"),
        (lambda: F.huber_loss(dg.ones(2), dg.ones(2), delta=0.0), "non-positive"),
    ],
)
def test_misuse(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_target_out_of_range() -> None:
    with pytest.raises(IndexError, match="target 3 is out of bounds"):
        F.cross_entropy(dg.ones(1, 3), dg.tensor([3]))

"""Functions that no layer wraps, or that do more than their layers."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn

from .parity import close, flat, ours

torch = pytest.importorskip("torch")
TF = torch.nn.functional


def check(name: str, *args: Any, tolerance: float = 2e-5, **kwargs: Any) -> None:
    """The function of this name on PyTorch tensors, and its gradients."""
    copies = [ours(a) for a in args]
    options = {k: ours(v) for k, v in kwargs.items()}
    got, wanted = (
        flat(getattr(F, name)(*copies, **options)),
        flat(getattr(TF, name)(*args, **kwargs)),
    )
    for a, b in zip(got, wanted, strict=True):
        close(a, b, tolerance)
    if wanted[0].requires_grad:
        factor = torch.randn_like(wanted[0])
        (wanted[0] * factor).sum().backward()
        (got[0] * ours(factor)).sum().backward()
        for a, b in zip(copies, args, strict=True):
            if getattr(b, "grad", None) is not None:
                close(a.grad, b.grad, tolerance)


def normal(*shape: int) -> Any:
    return torch.randn(*shape, requires_grad=True)


def test_signatures_begin_as_pytorchs() -> None:
    """What can be passed by position in PyTorch can be here, under the same names."""
    for name in F.__all__:
        theirs = getattr(TF, name, None)
        try:
            wanted = list(inspect.signature(theirs).parameters)
        except (ValueError, TypeError):
            continue
        mine = list(inspect.signature(getattr(F, name)).parameters)
        if "args" not in wanted:
            assert mine == wanted[: len(mine)], name


@pytest.mark.parametrize(
    ("pad", "mode", "shape"),
    [
        ((1, 2), "constant", (3,)),
        ((1, 2, 0, 3, 1, 0), "constant", (2, 3, 4)),
        ((-1, 2, 1, -2), "constant", (4, 5)),
        ((2, 1), "reflect", (2, 5)),
        ((2, 1, 0, 3), "reflect", (2, 5, 4)),
        ((2, 7, 4, 3), "replicate", (2, 3, 5, 4)),
        ((4, 1, 0, 5), "circular", (2, 3, 5, 4)),
        ((1, 2, 1, 1, 2, 0), "circular", (1, 2, 3, 5, 4)),
    ],
)
def test_pad(pad: Any, mode: str, shape: Any) -> None:
    check("pad", normal(*shape), pad, mode)


def test_pad_with_a_value_and_misuse() -> None:
    check("pad", normal(2, 3), (1, 1), value=2.5)
    x = dg.ones(2, 3)
    with pytest.raises(ValueError, match="divisible by 2"):
        F.pad(x, (1, 2, 3))
    with pytest.raises(ValueError, match="two times the input dimension"):
        F.pad(x, (1, 1, 1, 1, 1, 1))
    with pytest.raises(NotImplementedError, match="Unrecognised padding mode"):
        F.pad(x, (1, 1), "mirror")
    with pytest.raises(ValueError, match="doesn't take in value"):
        F.pad(x, (1, 1), "reflect", 1.0)


@pytest.mark.parametrize("dim", [0, 1, -1, None])
@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_softmax(dim: int | None) -> None:
    check("softmax", normal(3, 4, 5), dim)
    check("log_softmax", normal(3, 4), dim)
    check("softmin", normal(3, 4), dim)
    assert F.softmax(dg.ones(2, dtype=dg.float16), 0, dtype=dg.float64).dtype is dg.float64
    close(F.softmax(dg.arange(3), 0, dtype=dg.float32), TF.softmax(torch.arange(3.0), 0))


@pytest.mark.parametrize("p", [1, 2, 3.0, math.inf])
def test_norms(p: float) -> None:
    check("normalize", normal(3, 4, 5), p)
    check("normalize", normal(3, 4), p, 0)
    check("pairwise_distance", normal(3, 4), normal(3, 4), p)


def test_normalize_of_zero() -> None:
    x = dg.zeros(2, 3, requires_grad=True)
    F.normalize(x).sum().backward()
    assert x.grad is not None
    assert np.isfinite(x.grad.numpy()).all()


def test_cosine_similarity() -> None:
    check("cosine_similarity", normal(3, 4, 5), normal(3, 4, 5), -1)
    check("cosine_similarity", normal(3, 4), normal(1, 4))


def test_one_hot() -> None:
    x = torch.tensor([[0, 2], [1, 0]])
    close(F.one_hot(ours(x)), TF.one_hot(x))
    close(F.one_hot(ours(x), 5), TF.one_hot(x, 5))
    with pytest.raises(ValueError, match="must be smaller than num_classes"):
        F.one_hot(ours(x), 2)
    with pytest.raises(ValueError, match="must be non-negative"):
        F.one_hot(dg.tensor([-1]), 2)
    with pytest.raises(ValueError, match="only applicable to index tensor"):
        F.one_hot(dg.ones(2))


MASKS: list[dict[str, Any]] = [
    {},
    {"is_causal": True},
    {"scale": 0.3},
    {"attn_mask": torch.randn(5, 6)},
    {"attn_mask": torch.rand(2, 1, 5, 6) > 0.4},
]


@pytest.mark.parametrize("options", MASKS, ids=lambda o: "-".join(o) or "plain")
def test_attention(options: dict[str, Any]) -> None:
    check(
        "scaled_dot_product_attention",
        normal(2, 3, 5, 4),
        normal(2, 3, 6, 4),
        normal(2, 3, 6, 7),
        **options,
    )


def test_attention_with_shared_heads_and_with_nothing_to_attend_to() -> None:
    q, k, v = normal(2, 6, 5, 4), normal(2, 3, 6, 4), normal(2, 3, 6, 4)
    check("scaled_dot_product_attention", q, k, v, enable_gqa=True)
    mask = torch.ones(5, 6, dtype=torch.bool)
    mask[2] = False
    x = [torch.randn(2, 5, 4), torch.randn(2, 6, 4), torch.randn(2, 6, 4)]
    check("scaled_dot_product_attention", *x, attn_mask=mask)
    with pytest.raises(ValueError, match="not both"):
        F.scaled_dot_product_attention(*ours(x), attn_mask=ours(mask), is_causal=True)


@pytest.mark.parametrize(
    "options", [{"size": 7}, {"size": (3, 9)}, {"scale_factor": 2}, {"scale_factor": (1.5, 0.6)}]
)
def test_interpolate(options: dict[str, Any]) -> None:
    check("interpolate", normal(2, 3, 5, 6), **options)


def test_interpolate_misuse() -> None:
    x = dg.ones(1, 1, 2, 2)
    with pytest.raises(ValueError, match="mode must be one of"):
        F.interpolate(x, 3, mode="lanczos")
    with pytest.raises(ValueError, match="'trilinear' is for inputs of 5 dimensions"):
        F.interpolate(x, 3, mode="trilinear")
    with pytest.raises(ValueError, match="antialias"):
        F.interpolate(x, 3, antialias=True)
    with pytest.raises(ValueError, match="align_corners"):
        F.interpolate(x, 3, align_corners=True)
    with pytest.raises(ValueError, match="only one of size or scale_factor"):
        F.interpolate(x)


def test_linear_of_one_unit() -> None:
    check("linear", normal(3, 4), normal(4))
    check("linear", normal(4), normal(2, 4))


def test_prelu_shapes() -> None:
    check("prelu", normal(2, 3, 4), normal(3))
    check("prelu", normal(3), normal(1))
    check("prelu", torch.tensor(-2.0, requires_grad=True), normal(1))
    with pytest.raises(ValueError, match="mismatch of parameter numbers"):
        F.prelu(dg.ones(2, 3), dg.ones(4))


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softsign", "tanhshrink"])
def test_integers_become_floats(name: str) -> None:
    x = torch.arange(-3, 4)
    check(name, x)


PIECEWISE = [
    "relu",
    "relu6",
    "hardtanh",
    "hardsigmoid",
    "hardswish",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "softplus",
    "hardshrink",
    "softshrink",
    "threshold",
]


def test_edges_of_piecewise_functions() -> None:
    """Values and slopes exactly where the pieces meet, and at infinity and NaN."""
    edges = [-math.inf, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0, math.inf, math.nan]
    for name in [
        "relu",
        "relu6",
        "hardtanh",
        "hardsigmoid",
        "hardswish",
        "leaky_relu",
        "elu",
        "selu",
        "celu",
        "softplus",
        "hardshrink",
        "softshrink",
        "threshold",
    ]:
        args = (0.5, 2.0) if name == "threshold" else ()
        x = torch.tensor(edges, requires_grad=True)
        y = ours(x)
        wanted, got = getattr(TF, name)(x, *args), getattr(F, name)(y, *args)
        np.testing.assert_allclose(
            got.detach().numpy(), wanted.detach().numpy(), rtol=1e-5, atol=1e-6, err_msg=name
        )
        wanted.sum().backward()
        got.sum().backward()
        finite = np.isfinite(edges)
        np.testing.assert_allclose(
            y.grad.numpy()[finite], x.grad.numpy()[finite], rtol=1e-5, err_msg=name
        )


def test_gumbel_softmax() -> None:
    logits = dg.tensor([[0.0, 1.0, 2.0]] * 2000, requires_grad=True)
    hard = F.gumbel_softmax(logits, hard=True)
    assert set(np.unique(hard.detach().numpy().round(5))) == {0.0, 1.0}
    shares = hard.detach().numpy().mean(0)
    np.testing.assert_allclose(shares, TF.softmax(torch.tensor([0.0, 1, 2]), 0), atol=0.05)
    (hard * dg.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert logits.grad is not None
    assert logits.grad.numpy().any()


def test_batch_norm_of_half_precision_and_of_frozen_statistics() -> None:
    x = torch.randn(4, 3, 5)
    mean, var = torch.randn(3), torch.rand(3) + 0.5
    check("batch_norm", x, mean, var)
    running = dg.zeros(3), dg.ones(3)
    F.batch_norm(ours(x), *running, training=True, momentum=0.5)
    np.testing.assert_allclose(running[0].numpy(), x.mean((0, 2)).numpy() / 2, rtol=1e-4)
    half = F.batch_norm(ours(x).half(), *running, dg.ones(3), dg.zeros(3))
    assert half.dtype is dg.float16
    with pytest.raises(ValueError, match="running statistics are needed"):
        F.batch_norm(ours(x), None, None)


# -- initial values -------------------------------------------------------------------------------


def test_gains() -> None:
    for name in ("linear", "conv2d", "tanh", "relu", "selu", "sigmoid"):
        assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert nn.init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain(
        "leaky_relu", 0.3
    )
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        nn.init.calculate_gain("sine")


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("xavier_uniform_", ()),
        ("xavier_normal_", (2.0,)),
        ("kaiming_uniform_", (0.3,)),
        ("kaiming_normal_", (0, "fan_out", "relu")),
        ("trunc_normal_", (0.5, 2.0, -1.0, 3.0)),
        ("normal_", (1.0, 3.0)),
        ("uniform_", (-2.0, 1.0)),
    ],
)
def test_distributions(name: str, args: Any) -> None:
    a = getattr(nn.init, name)(dg.empty(120, 40, 3), *args).numpy()
    b = getattr(torch.nn.init, name)(torch.empty(120, 40, 3), *args).numpy()
    assert abs(a.mean() - b.mean()) < 0.05 * b.std()
    assert abs(a.std() / b.std() - 1) < 0.05
    np.testing.assert_allclose(np.quantile(a, [0.1, 0.9]), np.quantile(b, [0.1, 0.9]), rtol=0.1)


def test_exact_initial_values() -> None:
    for name, args, shape in [
        ("eye_", (), (3, 5)),
        ("dirac_", (), (4, 3, 3, 3)),
        ("dirac_", (2,), (4, 3, 5)),
        ("constant_", (2.5,), (3,)),
        ("ones_", (), (3,)),
        ("zeros_", (), (3,)),
    ]:
        close(
            getattr(nn.init, name)(dg.ones(*shape), *args),
            getattr(torch.nn.init, name)(torch.ones(*shape), *args),
        )
    for shape in [(4, 6), (6, 4), (4, 3, 2)]:
        q = nn.init.orthogonal_(dg.empty(*shape), gain=2.0).numpy().reshape(shape[0], -1)
        q = q if q.shape[0] <= q.shape[1] else q.T
        np.testing.assert_allclose(q @ q.T, 4 * np.eye(len(q)), atol=1e-5)
    sparse = nn.init.sparse_(dg.empty(10, 4), 0.3).numpy()
    assert ((sparse == 0).sum(0) == 3).all()

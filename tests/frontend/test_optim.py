"""Optimizers against PyTorch's, step by step, and their own contract."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import optim
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.kernels import optimizers as _blocks

STEPS = 20

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
        {"lr": 0.1, "weight_decay": 0.05},
        {"lr": 0.1, "maximize": True},
        {"lr": 0.1, "foreach": True},
    ],
    "Adam": [
        {},
        {"lr": 0.05, "betas": (0.8, 0.99), "eps": 1e-3},
        {"lr": 0.05, "weight_decay": 0.1},
        {"lr": 0.05, "amsgrad": True},
        {"lr": 0.05, "amsgrad": True, "maximize": True, "weight_decay": 0.1},
        {"lr": 0.05, "decoupled_weight_decay": True, "weight_decay": 0.1},
        {"lr": 0.05, "fused": True},
    ],
    "AdamW": [
        {},
        {"lr": 0.05, "weight_decay": 0.3},
        {"lr": 0.05, "weight_decay": 0},
        {"lr": 0.05, "amsgrad": True, "maximize": True},
    ],
    "RMSprop": [
        {},
        {"lr": 0.05, "alpha": 0.9, "eps": 1e-4},
        {"lr": 0.05, "momentum": 0.9},
        {"lr": 0.05, "centered": True},
        {"lr": 0.05, "centered": True, "momentum": 0.5, "weight_decay": 0.1, "maximize": True},
    ],
    "Adagrad": [
        {},
        {"lr": 0.05, "lr_decay": 0.1, "weight_decay": 0.1, "eps": 1e-4},
        {"lr": 0.05, "initial_accumulator_value": 0.5, "maximize": True},
    ],
    "Adadelta": [
        {"rho": 0.8, "eps": 1e-4, "weight_decay": 0.1, "maximize": True},
        {},
    ],
    "Adamax": [
        {"lr": 0.05, "betas": (0.8, 0.99), "weight_decay": 0.1, "maximize": True},
        {},
    ],
    "NAdam": [
        {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True},
        {"lr": 0.05, "momentum_decay": 0.1, "weight_decay": 0.1, "maximize": True},
        {},
    ],
    "RAdam": [
        {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True},
        {"lr": 0.05, "betas": (0.8, 0.99), "weight_decay": 0.1, "maximize": True},
        {},
    ],
    "ASGD": [
        {"lr": 0.05, "lambd": 0.1, "t0": 4, "weight_decay": 0.1, "maximize": True},
        {},
    ],
    "Rprop": [
        {"etas": (0.4, 1.5), "step_sizes": (1e-3, 0.02), "maximize": True},
        {},
    ],
    "Adafactor": [
        {"lr": 0.05, "weight_decay": 0.1, "d": 1.5, "maximize": True},
        {},
    ],
}
# Where PyTorch keeps "eta" and "mu" in float64 for such parameters, or computes in float32.
ROUGHER = {"ASGD": 1e-6, "NAdam": 1e-6}
REAL_ONLY = {"Adafactor"}
CASES = [(name, options) for name, many in OPTIONS.items() for options in many]
SHAPES: list[tuple[int, ...]] = [(), (3,), (4, 5), (0, 2), (2, 3, 1)]
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-12, np.complex64: 2e-6}


def parameter(array: np.ndarray) -> dg.Tensor:
    return dg.tensor(array, dtype=dg.from_numpy(array).dtype, requires_grad=True)


def set_grad(param: dg.Tensor, array: np.ndarray) -> None:
    param.grad = dg.from_numpy(array.copy())


def random(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    values = np.asarray(rng.normal(size=shape))
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.normal(size=shape)
    return np.asarray(values).astype(dtype)


def compare(name: str, options: dict[str, Any], dtype: Any, shapes: list[tuple[int, ...]]) -> None:
    """Take the same steps with both libraries; parameters and state must stay together."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    starts = [random(rng, shape, dtype) for shape in shapes]
    mine = [parameter(a) for a in starts]
    other = [torch.from_numpy(a.copy()).requires_grad_() for a in starts]
    my_optimizer = getattr(optim, name)(mine, **options)
    other_optimizer = getattr(torch.optim, name)(other, **options)
    tolerance = max(TOLERANCE[dtype], ROUGHER.get(name, 0.0))
    for _ in range(STEPS):
        for p, q in zip(mine, other, strict=True):
            gradient = random(rng, tuple(p.shape), dtype)
            set_grad(p, gradient)
            q.grad = torch.from_numpy(gradient.copy())
        my_optimizer.step()
        other_optimizer.step()
        for p, q in zip(mine, other, strict=True):
            np.testing.assert_allclose(
                p.detach().numpy(), q.detach().numpy(), rtol=tolerance, atol=tolerance
            )
    compare_state(my_optimizer.state_dict(), other_optimizer.state_dict(), tolerance)


def compare_state(mine: dict[str, Any], other: dict[str, Any], tolerance: float) -> None:
    assert mine["param_groups"] == other["param_groups"]
    assert mine["state"].keys() == other["state"].keys()
    for number, entries in mine["state"].items():
        assert entries.keys() == other["state"][number].keys()
        for key, value in entries.items():
            expected = other["state"][number][key].numpy()
            assert value.numpy().dtype == expected.dtype
            assert value.numpy().shape == expected.shape
            np.testing.assert_allclose(value.numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_matches_pytorch(name: str, options: dict[str, Any], dtype: Any) -> None:
    # PyTorch's Adafactor divides by the number of elements.
    compare(name, options, dtype, [s for s in SHAPES if name != "Adafactor" or 0 not in s])


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_complex_parameters_match_pytorch(name: str, options: dict[str, Any]) -> None:
    if options.get("fused") or (name == "Adagrad" and "initial_accumulator_value" in options):
        pytest.skip("PyTorch has no such complex kernel")
    if name in REAL_ONLY:
        with pytest.raises(ArgumentError, match="complex"):
            getattr(optim, name)([parameter(np.ones(2, np.complex64))])
        return
    compare(name, options, np.complex64, [(4, 5)])


@pytest.mark.parametrize("name", OPTIONS)
def test_parameters_of_many_blocks_match_pytorch(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_blocks, "BLOCK", 16)
    compare(name, OPTIONS[name][-2], np.float32, [(17,), (3, 16), (5,), (16,)])


@pytest.mark.parametrize("name", sorted({*OPTIONS} - {"Rprop"}))  # its first step is lr, rounded
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_single(name: str, dtype: str) -> None:
    """After one step from the same state, a half parameter is the single one, rounded."""
    half = getattr(dg, dtype)
    rng = np.random.default_rng(2)
    start = rng.normal(size=300).astype(half.np)
    gradient = rng.normal(size=300).astype(half.np)
    params = [parameter(start), parameter(start.astype(np.float32))]
    for p in params:
        set_grad(p, gradient.astype(p.dtype.np))
        getattr(optim, name)([p], lr=0.01).step()
    assert params[0].dtype is half
    expected = params[1].detach().numpy().astype(half.np)
    np.testing.assert_array_equal(params[0].detach().numpy(), expected)


@pytest.mark.parametrize("name", OPTIONS)
def test_layout_of_memory_does_not_matter(name: str) -> None:
    rng = np.random.default_rng(3)
    start, gradient = rng.normal(size=(6, 5)), rng.normal(size=(6, 5))
    plain = parameter(start)
    columns = dg.from_numpy(np.asfortranarray(start))
    strided = dg.from_numpy(np.repeat(start, 2, axis=1)[:, ::2])
    for p in (plain, columns, strided):
        storage = p._data
        optimizer = getattr(optim, name)([p])
        for scale in (1.0, 2.0):
            p.grad = dg.from_numpy(np.asfortranarray(gradient * scale))
            optimizer.step()
        assert p._data is storage
    np.testing.assert_array_equal(columns.numpy(), plain.detach().numpy())
    np.testing.assert_array_equal(strided.numpy(), plain.detach().numpy())


def test_step_works_in_place_and_counts_as_a_change() -> None:
    p = parameter(np.ones(3, np.float32))
    set_grad(p, np.ones(3, np.float32))
    storage, gradient, version = p._data, p.grad.numpy().copy(), p._version
    optim.AdamW([p], lr=0.1, maximize=True).step()
    assert p._data is storage
    assert p._version > version
    np.testing.assert_array_equal(p.grad.numpy(), gradient)


def test_parameters_without_gradient_are_left_alone() -> None:
    p, q = (parameter(np.ones(2, np.float32)) for _ in range(2))
    set_grad(p, np.ones(2, np.float32))
    optimizer = optim.Adam([p, q])
    optimizer.step()
    assert q not in optimizer.state
    np.testing.assert_array_equal(q.detach().numpy(), [1, 1])


def test_closure_runs_with_gradients_and_its_loss_comes_back() -> None:
    p = parameter(np.array([3.0], np.float32))
    optimizer = optim.SGD([p], lr=0.5)

    def closure() -> dg.Tensor:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with dg.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 9.0
    assert p.item() == 0.0


def test_zero_grad() -> None:
    p = parameter(np.ones(2, np.float32))
    set_grad(p, np.ones(2, np.float32))
    optimizer = optim.SGD([p])
    gradient = p.grad
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is gradient
    np.testing.assert_array_equal(p.grad.numpy(), [0, 0])
    optimizer.zero_grad()
    assert p.grad is None


def test_groups_have_their_own_options() -> None:
    p, q = (parameter(np.zeros(1, np.float32)) for _ in range(2))
    optimizer = optim.SGD([{"params": [p]}, {"params": q, "lr": 2.0}], lr=1.0)
    for param in (p, q):
        set_grad(param, np.ones(1, np.float32))
    optimizer.step()
    assert (p.item(), q.item()) == (-1.0, -2.0)
    optimizer.param_groups[0]["lr"] = 5.0
    optimizer.step()
    assert (p.item(), q.item()) == (-6.0, -4.0)


def test_named_parameters_keep_their_names() -> None:
    p = parameter(np.zeros(1, np.float32))
    optimizer = optim.SGD([("weight", p)])
    assert optimizer.param_groups[0]["param_names"] == ["weight"]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight"]
    with pytest.raises(ArgumentError, match="with/without names"):
        optimizer.add_param_group({"params": [parameter(np.zeros(1, np.float32))]})


@pytest.mark.parametrize("name", OPTIONS)
def test_state_dict_resumes_exactly(name: str) -> None:
    rng = np.random.default_rng(4)
    gradients = rng.normal(size=(6, 5)).astype(np.float32)

    def run(optimizer: optim.Optimizer, param: dg.Tensor, rows: np.ndarray) -> None:
        for row in rows:
            set_grad(param, row)
            optimizer.step()

    options = OPTIONS[name][-1]
    whole = parameter(np.ones(5, np.float32))
    straight = getattr(optim, name)([whole], **options)
    run(straight, whole, gradients)

    first = parameter(np.ones(5, np.float32))
    before = getattr(optim, name)([first], **options)
    run(before, first, gradients[:3])
    saved = copy.deepcopy(before.state_dict())
    second = parameter(first.detach().numpy().copy())
    after = getattr(optim, name)([second], lr=77.0)
    after.load_state_dict(saved)
    run(before, first, gradients[3:])  # must not reach into what was loaded
    run(after, second, gradients[3:])
    np.testing.assert_array_equal(second.detach().numpy(), whole.detach().numpy())
    assert repr(after) == repr(straight)


def test_loaded_state_takes_the_parameters_dtype() -> None:
    p = parameter(np.ones(2, np.float32))
    set_grad(p, np.ones(2, np.float32))
    optimizer = optim.Adam([p])
    optimizer.step()
    double = parameter(np.ones(2))
    other = optim.Adam([double])
    other.load_state_dict(optimizer.state_dict())
    assert other.state[double]["exp_avg"].dtype is dg.float64
    assert other.state[double]["step"].dtype is dg.float32


def test_load_state_dict_refuses_other_groups() -> None:
    p, q = (parameter(np.ones(2, np.float32)) for _ in range(2))
    optimizer = optim.SGD([p, q])
    with pytest.raises(ArgumentError, match="number of parameter groups: 2 instead of 1"):
        optimizer.load_state_dict(optim.SGD([{"params": p}, {"params": q}]).state_dict())
    with pytest.raises(ArgumentError, match="group 0 has 1 parameters instead of 2"):
        optimizer.load_state_dict(optim.SGD([p]).state_dict())


def test_pickle_and_deepcopy() -> None:
    p = parameter(np.ones(2, np.float32))
    set_grad(p, np.ones(2, np.float32))
    optimizer = optim.Adam([p])
    optimizer.step()
    for twin in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):
        (twin_p,) = twin.param_groups[0]["params"]
        set_grad(twin_p, np.ones(2, np.float32))
        twin.step()
        assert twin.state[twin_p]["step"].item() == 2
    assert optimizer.state[p]["step"].item() == 1


def test_repr_matches_pytorch() -> None:
    torch = pytest.importorskip("torch")
    for name in OPTIONS:
        mine = getattr(optim, name)([parameter(np.ones(1, np.float32))])
        assert repr(mine) == repr(getattr(torch.optim, name)([torch.ones(1)]))


def test_learning_rate_may_be_a_tensor() -> None:
    p = parameter(np.zeros(1, np.float32))
    set_grad(p, np.ones(1, np.float32))
    rate = dg.tensor(0.5)
    optimizer = optim.SGD([p], lr=rate)
    optimizer.step()
    rate.fill_(2.0)
    optimizer.step()
    assert p.item() == -2.5


BAD = [
    ("SGD", {"lr": -1}, "Invalid learning rate: -1"),
    ("SGD", {"momentum": -0.5}, "Invalid momentum value: -0.5"),
    ("SGD", {"weight_decay": float("nan")}, "Invalid weight_decay value: nan"),
    ("SGD", {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
    ("Adam", {"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
    ("Adam", {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
    ("AdamW", {"betas": (0.9, -1)}, "Invalid beta parameter at index 1: -1"),
    ("Adam", {"differentiable": True}, "differentiable=True: steps through an optimizer"),
    ("Adam", {"fused": True, "foreach": True}, "`fused` and `foreach` cannot be `True` together"),
    ("RMSprop", {"alpha": -1}, "Invalid alpha value: -1"),
    ("Adagrad", {"lr_decay": -1}, "Invalid lr_decay value: -1"),
]


@pytest.mark.parametrize(("name", "options", "message"), BAD, ids=str)
def test_bad_options(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(optim, name)([parameter(np.ones(1, np.float32))], **options)


def test_bad_parameters() -> None:
    p = parameter(np.ones(1, np.float32))
    with pytest.raises(ArgumentError, match="empty parameter list"):
        optim.SGD([])
    with pytest.raises(TypeError, match="iterable of Tensors or dicts, but got Tensor"):
        optim.SGD(p)
    with pytest.raises(TypeError, match="one of the params is ndarray"):
        optim.SGD([np.ones(1)])
    with pytest.raises(TypeError, match="ordered collections"):
        optim.SGD([{"params": {p}}])
    with pytest.raises(ArgumentError, match="more than one parameter group"):
        optim.SGD([{"params": [p]}, {"params": [p]}])
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([p, p])
    with pytest.raises(ArgumentError, match="non-leaf"):
        optim.SGD([p * 2])


def test_groups_are_printed_apart() -> None:
    groups = [{"params": [dg.nn.Parameter(dg.ones(1))], "lr": rate} for rate in (0.1, 0.2)]
    text = repr(optim.Adadelta(groups))
    assert text.startswith("Adadelta (\nParameter Group 0\n    capturable: False\n")
    assert "    weight_decay: 0\n\nParameter Group 1\n" in text
    assert text.endswith("    weight_decay: 0\n)")

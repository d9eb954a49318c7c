"""Tensors on the device: moving, mixing, printing, saving, exchanging."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph.utils.data import DataLoader, TensorDataset
from dualgraph_compiler.errors import DeviceError, IndexOutOfRange
from dualgraph_compiler.kernels.postponed import pending
from dualgraph_models.digits_cnn import DigitsCNN
from tests.conftest import cuda_is_available
from tests.fake_cupy import count_transfers, installed

stand_in_only = pytest.mark.skipif(cuda_is_available(), reason="a matter of the stand-in")


def numbers(t: dg.Tensor) -> np.ndarray:
    return t.detach().cpu().numpy()


# -- devices -------------------------------------------------------------------------------------


def test_moving(cupy: Any) -> None:
    x = dg.arange(6.0, requires_grad=True)
    y = x.to("cuda")
    assert y.is_cuda
    assert y.device == dg.device("cuda", 0)
    assert y.get_device() == 0
    assert y.to("cuda") is y
    assert y.cuda().cpu().device == dg.device("cpu")
    (y * y).sum().backward()
    assert x.grad is not None
    assert x.grad.device.type == "cpu"
    np.testing.assert_array_equal(numbers(x.grad), 2 * numbers(x))
    with pytest.raises(TypeError, match="can't convert cuda:0 tensor to numpy"):
        y.detach().numpy()
    with pytest.raises(TypeError, match="can't convert cuda:0 tensor to numpy"):
        np.asarray(y.detach())


def test_creation(cupy: Any) -> None:
    made = [
        dg.zeros(2, device="cuda"),
        dg.ones(2, 2, device="cuda"),
        dg.full((2,), 3.0, device="cuda"),
        dg.arange(3, device="cuda"),
        dg.linspace(0, 1, 5, device="cuda"),
        dg.eye(2, device="cuda"),
        dg.tensor([1.0, 2.0], device="cuda"),
        dg.randn(3, device="cuda"),
        dg.rand(3, device="cuda"),
        dg.randint(0, 5, (3,), device="cuda"),
        dg.randperm(4, device="cuda"),
        dg.empty(2, device="cuda"),
        dg.zeros_like(dg.ones(2, device="cuda")),
        dg.rand_like(dg.ones(2, device="cuda")),
    ]
    assert {t.device for t in made} == {dg.device("cuda:0")}
    dg.manual_seed(3)
    there = dg.rand(5, device="cuda")
    dg.manual_seed(3)
    np.testing.assert_array_equal(numbers(there), numbers(dg.rand(5)))


def test_the_default_device(cupy: Any) -> None:
    dg.set_default_device("cuda")
    try:
        assert dg.ones(2).is_cuda
        assert dg.tensor([1]).is_cuda
        assert nn.Linear(2, 3)(dg.randn(4, 2)).is_cuda
    finally:
        dg.set_default_device(None)


def test_mixing(cupy: Any) -> None:
    x = dg.ones(2, 3, device="cuda", requires_grad=True)
    with pytest.raises(DeviceError, match="add: .* operand 0 on cuda:0, operand 1 on cpu"):
        x + dg.ones(3)
    with pytest.raises(DeviceError, match="matmul: .* operand 0 on cpu, operand 1 on cuda:0"):
        dg.ones(2, 2) @ x
    # A 0-d tensor of the CPU counts as a number.
    two = dg.tensor(2.0, requires_grad=True)
    (x * two).sum().backward()
    assert x.grad is not None
    assert x.grad.is_cuda
    assert two.grad is not None
    assert two.grad.device.type == "cpu"
    assert two.grad.item() == 6
    # And indices of the CPU may pick from the GPU.
    assert x[dg.tensor([1, 0])].is_cuda


@stand_in_only
def test_several_gpus() -> None:
    with installed(gpus=2):
        x = dg.ones(3, device="cuda:1", requires_grad=True)
        y = (x.exp() * 2).sum()
        y.backward()
        assert x.grad is not None
        assert y.device == x.grad.device == dg.device("cuda:1")
        assert (dg.ones(2, device="cuda") + 1).device == dg.device("cuda:0")
        with pytest.raises(DeviceError, match="operand 0 on cuda:1, operand 1 on cuda:0"):
            x + dg.ones(3, device="cuda:0")
        assert x.to("cuda:0").device == dg.device("cuda:0")
        with pytest.raises(DeviceError, match="cuda:2 was asked for, but there are 2 GPUs"):
            dg.ones(1, device="cuda:2")


@stand_in_only
@pytest.mark.parametrize(("gpus", "why"), [(0, "CUDA finds no GPU"), (-1, "no usable GPU")])
def test_an_absent_gpu(gpus: int, why: str) -> None:
    with installed(gpus):
        assert not dg.cuda.is_available()
        assert dg.cuda.device_count() == 0
        for use in (lambda: dg.ones(2, device="cuda"), lambda: dg.ones(2).cuda()):
            with pytest.raises(DeviceError, match=f"cuda was asked for, but .*{why}"):
                use()
    with installed(gpus=1), pytest.raises(DeviceError, match="there is one GPU, number 0"):
        dg.ones(2).to("cuda:1")


def test_what_dg_cuda_says(cupy: Any) -> None:
    assert dg.cuda.is_available()
    assert dg.cuda.device_count() >= 1
    assert dg.cuda.current_device() == 0
    assert dg.cuda.get_device_name()
    dg.cuda.synchronize()
    dg.cuda.empty_cache()


# -- indices out of range: said when the host next waits -----------------------------------------


@contextmanager
def found_later() -> Iterator[None]:
    with pytest.raises(IndexOutOfRange, match="out of bounds"):
        yield
    assert not pending


def test_bad_indices(cupy: Any) -> None:
    table = dg.ones(3, 2, device="cuda")
    bad = dg.tensor([0, 3]).cuda()
    with count_transfers() as log:
        F.embedding(bad, table)
    assert not log
    with found_later():
        dg.cuda.synchronize()
    y = table.index_select(0, bad)
    with found_later():
        y.cpu()
    loss = F.cross_entropy(table, dg.tensor([0, 1, 2]).cuda())
    with found_later():
        loss.item()
    for _ in range(100):  # as many good ones: folded together, and found to be good
        table[dg.tensor([-3, 2]).cuda()]
    assert table.sum().item() == 6
    assert not pending
    with pytest.raises(IndexError, match="dimension 0 9 is out"):
        table[dg.tensor([9])]  # an index of the host's own is checked at once


# -- text, copies, files --------------------------------------------------------------------------


def test_printing(cupy: Any) -> None:
    x = dg.tensor([[1.0, 2.5]], device="cuda")
    assert repr(x) == "tensor([[1.0000, 2.5000]], device='cuda:0')"
    assert x.tolist() == [[1.0, 2.5]]
    assert f"{x.sum():.1f}" == "3.5"
    assert "..." in repr(dg.zeros(100, 100, device="cuda"))


def test_copies(cupy: Any) -> None:
    x = nn.Parameter(dg.ones(2, device="cuda"))
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert type(y) is nn.Parameter
        assert y.is_cuda
        assert y.requires_grad
        np.testing.assert_array_equal(numbers(y), numbers(x))
    z = dg.zeros(2, device="cuda")
    z.copy_(dg.ones(2))
    z[0] = 5.0
    z[1:] += dg.ones(1, device="cuda")
    assert z.tolist() == [5.0, 2.0]


def test_saving(cupy: Any, tmp_path: Path) -> None:
    model = DigitsCNN(channels=(2, 2, 2)).cuda()
    optimizer = optim.Adam(model.parameters())
    F.mse_loss(model(dg.ones(2, 1, 8, 8, device="cuda")), dg.zeros(2, 10).cuda()).backward()
    optimizer.step()
    dg.save([model.state_dict(), optimizer.state_dict()], tmp_path / "state")
    for where in ("cpu", "cuda"):
        weights, state = dg.load(tmp_path / "state", map_location=where)
        assert {t.device.type for t in weights.values()} == {where}
        again = DigitsCNN(channels=(2, 2, 2)).cuda()
        again.load_state_dict(weights)
        assert {p.device.type for p in again.parameters()} == {"cuda"}
        resumed = optim.Adam(again.parameters())
        resumed.load_state_dict(state)
        F.mse_loss(again(dg.ones(2, 1, 8, 8, device="cuda")), dg.zeros(2, 10).cuda()).backward()
        with count_transfers() as log:
            resumed.step()
        assert not log
    on_cpu = DigitsCNN(channels=(2, 2, 2))
    on_cpu.load_state_dict(model.state_dict())
    for a, b in zip(on_cpu.parameters(), model.parameters(), strict=True):
        assert a.device.type == "cpu"
        np.testing.assert_array_equal(numbers(a), numbers(b))


@pytest.mark.parametrize("new", [True, False], ids=["archive", "old"])
def test_sharing_is_saved(cupy: Any, tmp_path: Path, new: bool) -> None:
    base = dg.arange(12.0, device="cuda").reshape(3, 4)
    state = [base, base[1:, ::2], base.T, nn.Parameter(base[0]), dg.ones(2), base[:0]]
    dg.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    for where in (None, "cpu", {"cuda:0": "cpu"}, lambda storage, place: storage.cuda(0)):
        loaded = dg.load(tmp_path / "a.pt", map_location=where)
        kinds = ["cpu" if where not in (None,) and not callable(where) else "cuda"] * 4
        assert [t.device.type for t in loaded[:4]] == kinds
        assert [numbers(t).tolist() for t in loaded] == [numbers(t).tolist() for t in state]
        loaded[1].fill_(-1.0)
        assert numbers(loaded[2]).tolist()[0] == [0, -1, -1]
        assert numbers(loaded[0]).tolist()[1] == [-1, 5, -1, 7]
        with dg.no_grad():
            loaded[3].fill_(3.0)
        assert numbers(loaded[0]).tolist()[0] == [3, 3, 3, 3]
    assert [t.device.type for t in dg.load(tmp_path / "a.pt")][4] == "cpu"


def test_saved_files_say_where_tensors_were(cupy: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    dg.save({"x": dg.ones(2, device="cuda"), "d": dg.device("cuda")}, tmp_path / "a.pt")
    seen = []
    loaded = torch.load(tmp_path / "a.pt", map_location=lambda s, place: seen.append(place) or s)
    assert (loaded["x"].tolist(), seen) == ([1, 1], ["cuda:0"])


# -- other libraries ------------------------------------------------------------------------------


def test_dlpack(cupy: Any) -> None:
    x = dg.arange(4.0, device="cuda")
    assert x.__dlpack_device__() == (2, 0)
    shared = dg.from_dlpack(x)
    shared[0] = 7.0
    assert x.tolist() == [7.0, 1.0, 2.0, 3.0]
    theirs = cupy.arange(3)
    ours = dg.from_dlpack(theirs)
    ours += 1
    assert theirs.get().tolist() == [1, 2, 3]
    half = dg.ones(2, device="cuda", dtype=dg.bfloat16)
    assert dg.from_dlpack(half).dtype is dg.bfloat16


def test_cuda_array_interface(cupy: Any) -> None:
    x = dg.arange(4.0, device="cuda")
    assert x.__cuda_array_interface__["shape"] == (4,)
    assert not hasattr(dg.ones(2), "__cuda_array_interface__")
    assert cupy.asarray(x).sum().item() == 6

    class Foreign:
        __cuda_array_interface__ = x.__cuda_array_interface__

    assert dg.as_tensor(Foreign()).tolist() == x.tolist()
    copied = dg.tensor(cupy.arange(3.0), dtype=dg.float32)
    assert copied.is_cuda
    assert copied.dtype is dg.float32


def test_pinned_batches(cupy: Any) -> None:
    data = TensorDataset(dg.arange(4), dg.ones(4, 2))
    loader = DataLoader(data, batch_size=2, pin_memory=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches = [(x.cuda(), y) for x, y in loader]
    assert [x.tolist() for x, _ in batches] == [[0, 1], [2, 3]]
    assert all(x.is_cuda and not y.is_cuda for x, y in batches)


class Boxed(list[Any]):
    def pin_memory(self) -> str:
        return f"pinned {len(self)}"


def test_pinned_objects_of_other_kinds(cupy: Any) -> None:
    loader = DataLoader([[1], [2]], 2, pin_memory=True, collate_fn=Boxed)
    assert list(loader) == ["pinned 2"]
    loader = DataLoader([1, 2], 2, pin_memory=True, collate_fn=lambda x: {"a": (Boxed(x), "text")})
    assert list(loader) == [{"a": ["pinned 2", "text"]}]

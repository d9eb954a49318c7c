"""Devices and execution providers."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from dualgraph_runtime import (
    CPU,
    Device,
    DeviceError,
    device_of,
    get_all_providers,
    get_available_providers,
    get_device,
    to_device,
)
from dualgraph_runtime import device as device_module
from tests.conftest import cuda_is_available

without_gpu = pytest.mark.skipif(cuda_is_available(), reason="there is a GPU")


def test_names() -> None:
    for spec, kind, index in [("cpu", "cpu", None), ("cuda", "cuda", None), ("cuda:1", "cuda", 1)]:
        device = Device(spec)
        assert (device.type, device.index, str(device)) == (kind, index, spec)
        assert Device(device) == device
        assert hash(Device(device)) == hash(device)
    assert Device("cuda", 1) == Device("cuda:1") != Device("cuda")
    assert repr(Device("cuda:1")) == "device(type='cuda', index=1)"
    assert repr(CPU) == "device(type='cpu')"


@pytest.mark.parametrize("spec", ["gpu", "cuda:", "cuda:-1", "CPU", "", "cpu:1", 3, None])
def test_what_names_no_device(spec: object) -> None:
    with pytest.raises(DeviceError, match="expected a device such as|one CPU device"):
        Device(spec)


def test_cpu() -> None:
    assert CPU.xp is np
    assert CPU.is_available()
    CPU.synchronize()
    a = np.arange(3)
    assert to_device(a, "cpu") is a
    assert device_of(a) == CPU
    with CPU.active():
        pass


@without_gpu
def test_an_absent_gpu_says_what_is_missing() -> None:
    cuda = Device("cuda")
    assert not cuda.is_available()
    with pytest.raises(DeviceError, match=r"cuda was asked for, but CuPy cannot|CUDA finds no"):
        _ = cuda.xp
    with pytest.raises(DeviceError, match="cuda:1 was asked for"):
        to_device(np.zeros(2), "cuda:1")
    assert get_available_providers() == ["CPUExecutionProvider"]
    assert get_device() == "CPU"
    assert get_all_providers() == ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_a_missing_cupy_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    device_module._cupy.cache_clear()
    device_module._gpu_problem.cache_clear()
    try:
        with pytest.raises(DeviceError, match=r"CuPy cannot be imported .*dualgraph\[cuda12\]"):
            Device("cuda").require()
    finally:
        device_module._cupy.cache_clear()
        device_module._gpu_problem.cache_clear()


@pytest.mark.cuda
def test_cuda() -> None:
    cuda = Device("cuda")
    assert cuda.is_available()
    a = np.arange(3)
    b = to_device(a, cuda)
    assert to_device(b, cuda) is b
    assert device_of(b) == Device("cuda:0")
    cuda.synchronize()
    np.testing.assert_array_equal(to_device(b * 2, "cpu"), [0, 2, 4])
    assert get_device() == "GPU"
    with pytest.raises(DeviceError, match="cuda:99 was asked for, but there"):
        Device("cuda:99").require()

"""Names that PyTorch programs use besides operators: legacy types, settings, aliases."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import accelerator, backends, jit, random, testing
from dualgraph_compiler.errors import ArgumentError, DualGraphError


@pytest.fixture
def defaults() -> Iterator[None]:
    """Puts default dtype and device back."""
    yield
    dg.set_default_dtype(dg.float32)
    dg.set_default_device("cpu")


# -- typed constructors ----------------------------------------------------------------------------


def test_typed_constructors_take_sizes_or_data() -> None:
    assert dg.FloatTensor(2, 3).shape == (2, 3)
    assert dg.LongTensor([[1, 2]]).tolist() == [[1, 2]]
    assert dg.LongTensor([1.7]).dtype is dg.int64
    assert dg.DoubleTensor(dg.Size([2, 1])).shape == (2, 1)
    assert dg.ByteTensor().shape == (0,)
    assert dg.BoolTensor([0, 2]).tolist() == [False, True]
    assert dg.HalfTensor(np.ones(2)).dtype is dg.float16
    assert dg.IntTensor(dg.tensor([1.0, 2.0])).tolist() == [1, 2]
    assert dg.Tensor(2, 3).shape == dg.Tensor(dg.Size([2, 3])).shape == (2, 3)
    assert dg.Tensor([2, 3]).tolist() == [2.0, 3.0]
    assert dg.Tensor().numel() == 0
    with pytest.raises(TypeError, match="must be a sequence"):
        dg.FloatTensor(2.5)
    with pytest.raises(TypeError, match="must be a sequence"):
        dg.Tensor("text")


def test_types_are_asked_for_and_converted_to() -> None:
    x = dg.ones(2)
    assert isinstance(x, dg.FloatTensor)
    assert not isinstance(x, dg.LongTensor | dg.cuda.FloatTensor)
    assert x.type() == dg.typename(x) == "dualgraph.FloatTensor"
    assert x.type(dg.LongTensor).dtype is dg.int64
    assert x.type("torch.DoubleTensor").dtype is x.type(dg.float64).dtype is dg.float64
    assert x.type(x.type()) is x
    assert repr(dg.cuda.LongTensor) == "<class 'dualgraph.cuda.LongTensor'>"
    assert dg.typename(dg.nn.Linear(1, 1)) == "dualgraph.nn.modules.linear.Linear"
    assert dg.typename(3) == "int"
    new = dg.tensor([1], dtype=dg.int16).new(2, 2)
    assert (new.dtype, new.shape) == (dg.int16, (2, 2))
    if not dg.cuda.is_available():
        with pytest.raises(RuntimeError, match="cuda"):
            dg.cuda.FloatTensor(2)


def test_default_tensor_type(defaults: None) -> None:
    dg.set_default_tensor_type(dg.DoubleTensor)
    assert dg.zeros(1).dtype is dg.Tensor(1).dtype is dg.float64
    dg.set_default_tensor_type("torch.FloatTensor")
    assert dg.zeros(1).dtype is dg.float32
    with pytest.raises(TypeError, match="invalid type object"):
        dg.set_default_tensor_type("torch.NoTensor")


def test_facts_of_dense_tensors() -> None:
    x = dg.ones(2, 3)
    assert x.is_cpu
    assert x.ndimension() == 2
    assert x.layout == dg.strided
    flags = ("is_sparse", "is_quantized", "is_mkldnn", "is_meta", "is_nested", "is_mps")
    assert not any(getattr(x, name) for name in flags)
    assert not any((x.is_pinned(), x.is_shared(), x.is_conj(), x.is_neg(), x.is_inference()))
    y = dg.tensor([[1.0], [2.0]])
    assert y.clone().apply_(lambda v: v + 1).tolist() == [[2.0], [3.0]]
    assert y.clone().map_(y, lambda v, w: v * w).tolist() == [[1.0], [4.0]]
    assert y.clone().map2_(y, y[0], lambda v, w, z: v + w + z).tolist() == [[3.0], [5.0]]


# -- aliases ---------------------------------------------------------------------------------------


def test_functions_in_a_second_place() -> None:
    import dualgraph.nn.functional as F

    x = dg.randn(2, 3, 5, 5)
    assert dg.equal(dg.conv2d(x, dg.ones(1, 3, 2, 2)), F.conv2d(x, dg.ones(1, 3, 2, 2)))
    assert dg.equal(dg.dropout(x, 0.5, False), x)
    weight = dg.randn(4, 2)
    assert dg.equal(dg.embedding(weight, dg.tensor([3])), weight[3:])
    mean, var = dg.zeros(3), dg.ones(3)
    args = (None, None, mean, var, False, 0.1, 1e-5)
    assert dg.equal(dg.batch_norm(x, *args), F.batch_norm(x, mean, var))
    y = dg.tensor([-1.0, 4.0])
    assert dg.relu_(y) is y
    assert dg.sqrt_(y).tolist() == [0.0, 2.0]
    with pytest.warns(UserWarning, match="use arange"):
        assert dg.range(1, 2, 0.5).tolist() == [1.0, 1.5, 2.0]
    assert dg.frombuffer(bytearray([1, 0, 2, 0]), dtype=dg.int16, offset=2).tolist() == [2]
    with pytest.raises(ArgumentError, match="frombuffer"):
        dg.frombuffer(bytearray(3), dtype=dg.int16)
    x, kept = dg.ones(8), dg.ones(8)
    assert dg.dropout_(x, 1.0, True) is x
    assert not x.any()
    assert dg.equal(dg.dropout_(kept, 0.5, False), dg.ones(8))
    assert dg.vander(dg.tensor([1, 2, 3])).tolist() == [[1, 1, 1], [4, 2, 1], [9, 3, 1]]
    assert dg.vander(dg.tensor([2.0]), 3, increasing=True).tolist() == [[1.0, 2.0, 4.0]]
    assert dg.tensor([-2.0, 0.3]).hardshrink().tolist() == [-2.0, 0.0]
    assert dg.tensor([-2.0, 3.0]).prelu(dg.tensor(0.5)).tolist() == [-1.0, 3.0]
    assert dg.get_autocast_cpu_dtype() is dg.bfloat16
    assert not dg.is_autocast_cpu_enabled()
    assert not dg.onnx.is_in_onnx_export()
    assert dg.get_device(y) == -1
    assert dg.get_device_module("cpu") is dg.cpu
    assert not hasattr(dg, "nothing_")


# -- settings --------------------------------------------------------------------------------------


def test_settings_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from dualgraph_runtime.native import threads

    monkeypatch.setattr(threads, "_chosen", None)
    dg.set_num_threads(3)
    assert dg.get_num_threads() == threads.default_threads() == 3
    with pytest.raises(ArgumentError, match="positive"):
        dg.set_num_threads(0)
    dg.use_deterministic_algorithms(True, warn_only=True)
    assert dg.are_deterministic_algorithms_enabled()
    assert dg.get_deterministic_debug_mode() == 1
    dg.set_deterministic_debug_mode("default")
    assert not dg.are_deterministic_algorithms_enabled()
    with pytest.raises(ArgumentError, match="debug_mode"):
        dg.set_deterministic_debug_mode(7)
    dg.set_float32_matmul_precision("high")
    assert dg.get_float32_matmul_precision() == "high"
    dg.set_float32_matmul_precision("highest")
    with pytest.raises(ArgumentError, match="precision"):
        dg.set_float32_matmul_precision("low")


def test_backends() -> None:
    with backends.cudnn.flags(enabled=False, benchmark=True):
        assert (backends.cudnn.enabled, backends.cudnn.benchmark) == (False, True)
    assert (backends.cudnn.enabled, backends.cudnn.benchmark) == (True, False)
    assert backends.cudnn.version() is None
    with backends.cuda.sdp_kernel(enable_flash=False):
        assert not backends.cuda.flash_sdp_enabled()
    assert backends.cuda.flash_sdp_enabled()
    with backends.mkldnn.flags(enabled=False):
        assert not backends.mkldnn.enabled
    assert backends.cpu.get_cpu_capability() in ("AVX512", "AVX2", "DEFAULT")
    for module in (backends.mps, backends.openmp, backends.opt_einsum, dg.mps, dg.xpu):
        assert module.is_available() is False
    assert backends.mkl.is_available() in (True, False)
    assert dg.distributed.is_available() is False
    assert (accelerator.current_accelerator() is None) == (not dg.cuda.is_available())
    assert dg.version.__version__.startswith("2.")
    assert (dg.version.cuda is None) == (not dg.cuda.is_available())


def test_draws_in_a_fork_leave_no_trace() -> None:
    dg.manual_seed(3)
    first = dg.rand(2)
    dg.manual_seed(3)
    with random.fork_rng():
        dg.rand(7)
    assert dg.equal(dg.rand(2), first)


def test_jit_leaves_functions_as_they_are() -> None:
    @jit.script
    def double(x: Any) -> Any:
        return x + x

    @jit.ignore(drop=True)
    def ignored(x: Any) -> Any:
        return x

    assert double(2) == 4
    assert ignored(2) == 2
    traced = jit.trace(double, dg.ones(2))
    assert traced(dg.ones(2)).tolist() == [2.0, 2.0]
    assert not jit.is_scripting()
    assert jit.isinstance([1], list[int])


# -- testing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actual", "expected", "options"),
    [
        ([1.0, 2.0], [1.0, 2.00001], {}),
        ([1.0, 2.0], [1.0, 2.1], {}),
        ([1.0, 2.0], [1.0, 2.1], {"rtol": 0.0, "atol": 0.2}),
        ([1.0, float("nan")], [1.0, float("nan")], {}),
        ([1.0, float("nan")], [1.0, float("nan")], {"equal_nan": True}),
        ([1.0], [[1.0]], {}),
        ([1], [1.0], {}),
        ([1], [1.0], {"check_dtype": False}),
        ([float("inf")], [float("inf")], {}),
        ([1, 2], [1, 3], {}),
        ([], [], {}),
    ],
    ids=str,
)
def test_assert_close_agrees_with_pytorch(actual: Any, expected: Any, options: Any) -> None:
    torch = pytest.importorskip("torch")

    def verdict(lib: Any, compare: Any) -> bool:
        try:
            compare(lib.tensor(actual), lib.tensor(expected), **options)
        except AssertionError:
            return False
        return True

    assert verdict(dg, testing.assert_close) == verdict(torch, torch.testing.assert_close)


def test_assert_close_says_where() -> None:
    with pytest.raises(AssertionError, match=r"(?s)1 / 2 .50.0%..*0.5 at index \(1,\)"):
        testing.assert_close(dg.tensor([1.0, 2.5]), dg.tensor([1.0, 2.0]))
    with pytest.raises(AssertionError, match=r"item \['a'\]\[1\]"):
        testing.assert_close({"a": [1, 2]}, {"a": [1, 3]})
    with pytest.raises(AssertionError, match="length"):
        testing.assert_close([1], [1, 2])
    with pytest.raises(AssertionError, match="mine"):
        testing.assert_close(1, 2, msg="mine")
    with pytest.raises(ArgumentError, match="both"):
        testing.assert_close(1, 1, rtol=1.0)


def test_make_tensor() -> None:
    x = testing.make_tensor((3, 4), dtype=dg.float32, low=1, high=2, requires_grad=True)
    assert x.shape == (3, 4)
    assert x.requires_grad
    assert bool(((x >= 1) & (x < 2)).all())
    assert testing.make_tensor(5, dtype=dg.uint8).dtype is dg.uint8
    assert testing.make_tensor(2, 3, dtype=dg.complex64).dtype is dg.complex64
    assert not testing.make_tensor(2, 3, dtype=dg.float64, noncontiguous=True).is_contiguous()
    assert bool((testing.make_tensor(50, dtype=dg.int8, exclude_zero=True) != 0).all())


def test_importing_all_of_it_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in dg.__all__:
            getattr(dg, name)


def test_one_process_and_one_device_are_enough() -> None:
    linear = dg.nn.Linear(2, 3)
    parallel = dg.nn.DataParallel(linear)
    x = dg.ones(1, 2)
    assert dg.equal(parallel(x), linear(x))
    assert list(parallel.state_dict()) == ["module.weight", "module.bias"]
    for call in (dg.distributed.init_process_group, dg.distributed.get_rank):
        with pytest.raises(DualGraphError, match="one process"):
            call()
    with pytest.raises(DualGraphError, match="one process"):
        dg.nn.parallel.DistributedDataParallel(linear)


def test_pytorchs_options_of_compile() -> None:
    linear = dg.nn.Linear(2, 3)
    assert dg.compile(linear, disable=True) is linear
    fast = dg.compile(linear, mode="max-autotune", backend="inductor", options={"trace": True})
    assert dg.equal(fast(dg.ones(1, 2)), linear(dg.ones(1, 2)))
    decorated = dg.compile(mode="default")(lambda t: t + 1)
    assert decorated(dg.ones(1)).item() == 2.0


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("squeeze_", ()),
        ("squeeze_", (1,)),
        ("unsqueeze_", (-1,)),
        ("transpose_", (0, 2)),
        ("swapaxes_", (1, 2)),
        ("swapdims_", (0, 1)),
        ("as_strided_", ((2, 2), (1, 2))),
    ],
    ids=str,
)
def test_shapes_are_changed_in_place_as_by_pytorch(name: str, arguments: Any) -> None:
    torch = pytest.importorskip("torch")
    found = []
    for lib in (dg, torch):
        x = lib.arange(6.0).reshape(2, 1, 3)
        same = getattr(x, name)(*arguments)
        assert same is x
        x.add_(1.0)
        leaf = lib.ones(2, 1, 3, requires_grad=True)
        y = leaf * lib.arange(6.0).reshape(2, 1, 3)
        getattr(y, name)(*arguments)
        (y * y).sum().backward()
        found.append((x.tolist(), list(y.shape), leaf.grad.tolist()))
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            getattr(leaf, name)(*arguments)
    assert found[0] == found[1]


def test_a_shape_changed_in_place_shares_memory_and_is_not_captured() -> None:
    x = dg.arange(6.0).reshape(2, 3)
    shown = x[0]
    x.t_()
    x[0, 0] = 7.0
    assert shown[0].item() == 7.0
    assert dg.unsqueeze_(x, 0).shape == (1, 3, 2)

    @dg.compile(fullgraph=True)
    def inside(t: dg.Tensor) -> dg.Tensor:
        return (t + 1).t_()

    with pytest.raises(DualGraphError, match="t_ changes the shape"):
        inside(dg.ones(2, 3))

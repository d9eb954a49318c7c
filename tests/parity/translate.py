"""PyTorch's tensors, dtypes and test functions made into ours."""

from __future__ import annotations

import ctypes
import importlib
import types
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import torch

import dualgraph as dg


class Missing(Exception):
    """A name of PyTorch's that has no counterpart here."""


def array(t: torch.Tensor) -> np.ndarray[Any, Any]:
    """The elements of a tensor, laid out as they lie there."""
    t = t.detach().resolve_conj().resolve_neg()
    if t.dtype is torch.bfloat16:
        return t.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return t.numpy()


def tensor(t: torch.Tensor) -> dg.Tensor:
    """A leaf of ours with the elements, strides and `requires_grad` of `t`."""
    if t.layout is not torch.strided:
        raise Missing(f"layout {t.layout}")
    part = _part_of_storage(t)
    ours = dg.from_numpy(_copy(array(t))) if part is None else part
    if isinstance(t, torch.nn.Parameter):
        return dg.nn.Parameter(ours, requires_grad=t.requires_grad)
    return ours.requires_grad_() if t.requires_grad else ours


def _part_of_storage(t: torch.Tensor) -> dg.Tensor | None:
    """A view of memory that is larger than the tensor, so that `as_strided` finds the rest."""
    whole = t.untyped_storage().nbytes() // t.element_size()
    if t.is_conj() or t.is_neg() or whole == t.numel() or t.dtype is torch.bfloat16:
        return None
    flat = t.detach().as_strided((whole,), (1,), 0)
    memory = dg.from_numpy(array(flat).copy()).requires_grad_(t.requires_grad)
    return dg.as_strided(memory, t.shape, t.stride(), t.storage_offset())


def _copy(data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy that keeps the strides, so that what a sample writes does not reach the other side."""
    if data.size == 0 or data.flags.c_contiguous or data.flags.f_contiguous:
        return data.copy(order="K")
    low, high = np.lib.array_utils.byte_bounds(data)
    memory = np.frombuffer(ctypes.string_at(low, high - low), np.uint8).copy()
    start = data.__array_interface__["data"][0] - low
    return np.ndarray(data.shape, data.dtype, memory, start, data.strides)


def translate(x: Any, seen: dict[int, Any] | None = None) -> Any:
    """`x` with everything of PyTorch's in it replaced; one tensor met twice stays one."""
    seen = {} if seen is None else seen
    if isinstance(x, torch.Tensor):
        if id(x) not in seen:
            seen[id(x)] = tensor(x)
        return seen[id(x)]
    if isinstance(x, torch.dtype):
        return lookup(dg, str(x).removeprefix("torch."))
    if isinstance(x, torch.device):
        return dg.device(str(x))
    if isinstance(x, torch.memory_format | torch.layout):
        return lookup(dg, str(x).removeprefix("torch."))
    if isinstance(x, torch.Size):
        return dg.Size(x)
    if isinstance(x, torch.Generator):
        return dg.Generator().manual_seed(x.initial_seed())
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(translate(v, seen) for v in x))
    if isinstance(x, list | tuple):
        return type(x)(translate(v, seen) for v in x)
    if isinstance(x, dict):
        return {k: translate(v, seen) for k, v in x.items()}
    if isinstance(x, slice):
        return slice(*(translate(v, seen) for v in (x.start, x.stop, x.step)))
    if isinstance(x, torch.nn.Module):
        return _module(x)
    if callable(x):
        return counterpart(x)
    return x


def _module(x: torch.nn.Module) -> Any:
    """A module that another one is made of, by the arguments that its attributes tell."""
    if isinstance(x, torch.nn.TransformerEncoderLayer):
        attention = x.self_attn
        return dg.nn.TransformerEncoderLayer(
            attention.embed_dim,
            attention.num_heads,
            x.linear1.out_features,
            x.dropout.p,
            translate(x.activation),
            x.norm1.eps,
            attention.batch_first,
            x.norm_first,
            attention.in_proj_bias is not None,
        )
    if isinstance(x, torch.nn.PairwiseDistance):
        return dg.nn.PairwiseDistance(x.norm, x.eps, x.keepdim)
    raise Missing(type(x).__name__)


def lookup(root: Any, path: str) -> Any:
    """What a dotted path names from `root` on."""
    found = root
    for i, part in enumerate(path.split(".")):
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(f"{found.__name__}.{part}")
            except (ImportError, AttributeError):
                whole = ".".join(path.split(".")[: i + 1])
                raise Missing(whole) from None
    return found


def counterpart(function: Callable[..., Any], name: str = "") -> Callable[..., Any]:
    """Ours for a function of PyTorch's: the same name, or the same text under our names.

    Args:
        function: a function or method of PyTorch's, or one of its tests' own.
        name: the dotted name under ``torch`` that it may have.
    """
    owner = getattr(function, "__objclass__", None)
    if owner is not None or getattr(function, "__qualname__", "").startswith("Tensor."):
        return lookup(dg.Tensor, function.__name__)
    module = getattr(function, "__module__", None) or "torch"
    module = module.replace("torch._C._nn", "torch.nn.functional")
    short = getattr(function, "__name__", "")
    for path in dict.fromkeys((name, f"{module}.{short}".removeprefix("torch."), short)):
        if path and _torch(path) is function:
            return lookup(dg, path)
    if isinstance(function, types.FunctionType):
        return retold(function)
    if short and short != "<lambda>":
        return lookup(dg, name or short)
    raise Missing(name or repr(function))


def _torch(path: str) -> Any:
    try:
        return lookup(torch, path)
    except Missing:
        return None


class _Stand:
    """What a test's own function sees as ``torch``."""

    def __getattr__(self, name: str) -> Any:
        if name == "testing":
            return torch.testing
        return lookup(dg, name)


_STAND = _Stand()
_OURS = {torch: _STAND}


_RETOLD: dict[types.FunctionType, Callable[..., Any]] = {}


def retold(function: types.FunctionType) -> Callable[..., Any]:
    """A function of PyTorch's tests that calls us wherever it called PyTorch."""
    if function in _RETOLD:  # they may be recursive
        return _RETOLD[function]
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    ours = types.FunctionType(
        function.__code__,
        _Globals(function.__globals__),
        function.__name__,
        _retold_all(function.__defaults__),
        cells,
    )
    _RETOLD[function] = ours
    for cell, theirs in zip(cells, function.__closure__ or (), strict=True):
        cell.cell_contents = _retold_value(theirs.cell_contents)
    return ours


def _retold_all(values: Any) -> Any:
    return None if values is None else tuple(_retold_value(v) for v in values)


def _retold_value(value: Any) -> Any:
    if value is torch:
        return _STAND
    if isinstance(value, types.ModuleType) and value.__name__.startswith("torch.nn.functional"):
        return dg.nn.functional
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType):
        if (value.__module__ or "").startswith("torch"):
            return counterpart(value)
        return value
    if isinstance(value, torch.dtype | torch.device):
        return translate(value)
    return value


class _Globals(dict[str, Any]):
    """Globals of a test's function, replaced one by one as far as it names them."""

    def __init__(self, theirs: dict[str, Any]) -> None:
        super().__init__(theirs)
        self["torch"] = _STAND
        if isinstance(theirs.get("F"), types.ModuleType):
            self["F"] = dg.nn.functional
        if "wrapper_set_seed" in theirs:
            self["wrapper_set_seed"] = _seeded


def _seeded(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The test suite's `wrapper_set_seed`: the same numbers at every call."""
    dg.manual_seed(42)
    name = getattr(function, "__module__", None) or ""
    return (counterpart(function) if name.startswith("torch") else function)(*args, **kwargs)

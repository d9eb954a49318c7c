"""Type promotion against PyTorch's whole table: tensors, 0-d tensors, Python numbers."""

from __future__ import annotations

import itertools
import operator
import warnings
from typing import Any

import pytest

import dualgraph.nn.functional as F
from dualgraph_compiler.errors import DTypeError

from .parity import dg, torch

NAMES = [
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
]
COMMON = [n for n in NAMES if not n.startswith("uint") or n == "uint8"]


def name_of(dtype: Any) -> str:
    return dtype.name if isinstance(dtype, dg.dtype) else str(dtype).removeprefix("torch.")


def outcome(f: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's about complex32
        try:
            return name_of(f())
        except (RuntimeError, TypeError):
            return "refused"


def agree(ours: Any, theirs: Any, what: Any) -> None:
    """The same dtype or refusal, but for complex32, which is complex64 here."""
    got, wanted = outcome(ours), outcome(theirs)
    if wanted == "complex32" or (wanted == "refused" and {"float16", "complex64"} <= set(what)):
        wanted = "complex64"
    assert got == wanted, what


@pytest.mark.parametrize("a", NAMES)
def test_promote_types(a: str) -> None:
    for b in NAMES:

        def result(module: Any, b: str = b) -> Any:
            return module.promote_types(getattr(module, a), getattr(module, b))

        if outcome(lambda: result(torch)) == "refused" and "uint" in a + b:
            continue  # PyTorch's newer unsigned types promote with nothing
        agree(lambda: result(dg), lambda: result(torch), (a, b))


@pytest.mark.parametrize("a", COMMON)
@pytest.mark.parametrize("shapes", list(itertools.product([(2,), ()], repeat=2)))
def test_result_type_of_tensors(a: str, shapes: Any) -> None:
    for b in COMMON:

        def result(module: Any, b: str = b) -> Any:
            x = module.ones(shapes[0], dtype=getattr(module, a))
            y = module.ones(shapes[1], dtype=getattr(module, b))
            return module.result_type(x, y)

        agree(lambda: result(dg), lambda: result(torch), (a, b, shapes))


@pytest.mark.parametrize("a", COMMON)
@pytest.mark.parametrize("shape", [(2,), ()])
def test_result_type_with_numbers(a: str, shape: Any) -> None:
    for number in (True, 3, 2.5, 1j):

        def result(module: Any, n: Any = number) -> Any:
            return module.result_type(module.ones(shape, dtype=getattr(module, a)), n)

        agree(lambda: result(dg), lambda: result(torch), (a, number))


@pytest.mark.parametrize("f", [operator.add, operator.mul, operator.truediv, operator.lt])
def test_operators_give_these_dtypes(f: Any) -> None:
    for a, b in itertools.product(COMMON, repeat=2):
        if f is operator.lt and "complex" in a + b:
            continue

        def result(module: Any, a: str = a, b: str = b) -> Any:
            x = module.ones(2, dtype=getattr(module, a))
            y = module.ones((), dtype=getattr(module, b))
            return f(x, y).dtype

        what = (a, "complex64" if b.startswith("complex") else b, f)
        agree(lambda: result(dg), lambda: result(torch), what)


def test_functions_of_several_dtypes() -> None:
    pairs = [("float32", "float64"), ("int32", "int64"), ("uint8", "int8"), ("int64", "float16")]
    for name in ("cat", "stack"):
        for a, b in pairs:

            def result(module: Any, a: str = a, b: str = b, name: str = name) -> Any:
                parts = [module.ones(2, dtype=getattr(module, n)) for n in (a, b)]
                return getattr(module, name)(parts).dtype

            agree(lambda: result(dg), lambda: result(torch), (name, a, b))


def test_in_place_keeps_the_dtype() -> None:
    x = dg.ones(2, dtype=dg.float16)
    x += dg.ones(2, dtype=dg.float64)
    assert x.dtype is dg.float16
    with pytest.raises(RuntimeError):
        dg.ones(2, dtype=dg.int32).mul_(0.5)


def test_default_dtype() -> None:
    assert dg.get_default_dtype() is dg.float32
    dg.set_default_dtype(dg.float64)
    try:
        assert dg.tensor(1.5).dtype is dg.float64
        assert (dg.tensor(1) / 2).dtype is dg.float64
        assert dg.zeros(2).dtype is dg.float64
        assert dg.tensor(1j).dtype is dg.complex128
        assert dg.arange(0, 1, 0.5).dtype is dg.float64
    finally:
        dg.set_default_dtype(dg.float32)
    with pytest.raises(TypeError):
        dg.set_default_dtype(dg.int64)


def test_can_cast() -> None:
    for a, b in itertools.product(COMMON, repeat=2):
        ours = dg.can_cast(getattr(dg, a), getattr(dg, b))
        assert ours == torch.can_cast(getattr(torch, a), getattr(torch, b)), (a, b)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_finfo(name: str) -> None:
    ours, theirs = dg.finfo(getattr(dg, name)), torch.finfo(getattr(torch, name))
    for field in ("bits", "max", "min", "eps", "tiny", "smallest_normal", "dtype"):
        assert getattr(ours, field) == getattr(theirs, field), field
    with pytest.raises(TypeError):
        dg.finfo(dg.int32)


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "int32", "int64"])
def test_iinfo(name: str) -> None:
    ours, theirs = dg.iinfo(getattr(dg, name)), torch.iinfo(getattr(torch, name))
    assert (ours.bits, ours.min, ours.max) == (theirs.bits, theirs.min, theirs.max)
    with pytest.raises(TypeError):
        dg.iinfo(dg.float32)


def test_dtype_names() -> None:
    aliases = {
        "half": "float16",
        "float": "float32",
        "double": "float64",
        "short": "int16",
        "int": "int32",
        "long": "int64",
        "cfloat": "complex64",
        "cdouble": "complex128",
        "bool": "bool",
    }
    for alias, name in aliases.items():
        assert getattr(dg, alias).name == name
    assert repr(dg.float32) == "dualgraph.float32"
    assert isinstance(dg.float32, dg.dtype)


@pytest.mark.parametrize(
    "call",
    {
        "linear": lambda x, d: F.linear(x, d(4, 3)),
        "bias of linear": lambda x, d: F.linear(x, dg.ones(4, 3), d(4)),
        "integers in linear": lambda x, d: F.linear(x.long(), dg.ones(4, 3)),
        "bias of conv": lambda x, d: F.conv1d(x[None], dg.ones(1, 2, 2), d(1)),
        "index_copy": lambda x, d: x.index_copy(0, dg.tensor([0]), d(1, 3)),
        "prelu": lambda x, d: F.prelu(x, d(1)),
    }.items(),
    ids=lambda item: item[0],
)
@pytest.mark.parametrize("wrap", [lambda f: f, dg.compile], ids=["eager", "compiled"])
def test_operands_of_one_dtype_are_asked_for(call, wrap) -> None:
    with pytest.raises(DTypeError, match="dtype"):
        wrap(call[1])(dg.ones(2, 3), lambda *shape: dg.ones(*shape, dtype=dg.float64))

"""Which element types an ONNX operator takes, and how to use it for the others.

Operators of ONNX leave types out here and there (`Max` has no bool, `Sin` before opset 22 no
bfloat16). `emit` reads the operator's schema and, where it does not take a type, computes in the
nearest type that it does take and converts back.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..dtypes import (
    ALL,
    BOOL,
    FLOAT,
    INT,
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int32,
    int64,
    uint8,
)
from ..errors import OnnxError
from .onnx_rules import Export

_ONNX_NAMES = {d.onnx_name: d for d in ALL}
_SUBSTITUTES: dict[int, tuple[DType, ...]] = {
    BOOL: (uint8, int32, float32),
    INT: (int32, int64, float32),
    FLOAT: (float32, float64, float16, bfloat16),
}


@lru_cache(maxsize=1024)
def signature(op_type: str, opset: int) -> tuple[tuple[bool, ...], frozenset[DType], bool]:
    """How the main type variable of an operator is used.

    Returns which inputs have it (the last entry repeats for variadic inputs), the types it ranges
    over, and whether the result has it. The main variable is the result's where some input shares
    it, else the first input's.
    """
    import onnx

    try:
        schema = onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        raise OnnxError(f"opset {opset} has no operator {op_type}") from None
    declared = [i.type_str for i in schema.inputs]
    result = schema.outputs[0].type_str
    main = result if result in declared else declared[0]
    allowed = next(
        (c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == main), [main]
    )
    names = [a.removeprefix("tensor(").removesuffix(")") for a in allowed]
    dtypes = frozenset(_ONNX_NAMES[n] for n in names if n in _ONNX_NAMES)
    return tuple(t == main for t in declared), dtypes, result == main


def main_operand(op_type: str, opset: int) -> int:
    """The position of the first input that has the operator's main type variable."""
    return signature(op_type, opset)[0].index(True)


def emit(ctx: Export, dtype: DType, op_type: str, *inputs: str, **attributes: Any) -> str:
    """Emit `op_type`, whose main operands are of `dtype`, through another type if it must be.

    Raises:
        OnnxError: the operator takes no type that could stand in (complex operands, mostly).
    """
    marks, _, returns = signature(op_type, ctx.opset)
    stand_in = carrier(ctx, dtype, op_type)
    if stand_in is dtype:
        return ctx.emit(op_type, *inputs, **attributes)  # type: ignore[no-any-return]
    cast = [
        ctx.emit("Cast", name, to=stand_in) if name and marks[min(i, len(marks) - 1)] else name
        for i, name in enumerate(inputs)
    ]
    result: str = ctx.emit(op_type, *cast, **attributes)
    return ctx.emit("Cast", result, to=dtype) if returns else result


def carrier(ctx: Export, dtype: DType, op_type: str) -> DType:
    """The type in which `op_type` computes on operands of `dtype`: `dtype` itself if it can.

    Raises:
        OnnxError: there is none.
    """
    _, allowed, _ = signature(op_type, ctx.opset)
    if dtype in allowed:
        return dtype
    for stand_in in _SUBSTITUTES.get(dtype.category, ()):
        if _holds(stand_in, dtype, allowed):
            return stand_in
    raise OnnxError(f"ONNX {op_type}-{ctx.opset} takes no {dtype.name} operands")


def _holds(wide: DType, narrow: DType, allowed: frozenset[DType]) -> bool:
    """Whether `wide` may be used and is no narrower than `narrow`."""
    return wide in allowed and wide.itemsize >= narrow.itemsize


class Writer:
    """Emits operators on operands of one type: ``w = Writer(ctx, dtype); w("Exp", x)``."""

    __slots__ = ("ctx", "dtype")

    def __init__(self, ctx: Export, dtype: DType) -> None:
        self.ctx = ctx
        self.dtype = dtype

    def __call__(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        return emit(self.ctx, self.dtype, op_type, *inputs, **attributes)

    def number(self, value: float) -> str:
        """The name of a 0-d constant of the type."""
        return self.ctx.constant(value, self.dtype)

    def logical(self, op_type: str, *inputs: str) -> str:
        """`And`, `Or`, `Xor` or `Not` of bool operands."""
        return emit(self.ctx, bool_, op_type, *inputs)

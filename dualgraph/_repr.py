"""Text form of tensors: the layout PyTorch prints.

`format_tensor` takes an array and facts about the tensor, so it knows nothing of `Tensor` or
autograd, and costs O(printed elements): a summarised tensor is never read as a whole, nor fetched
as a whole from a GPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dualgraph_compiler.dtypes import DType
from dualgraph_runtime.device import to_device

__all__ = ["format_tensor", "get_printoptions", "printoptions", "set_printoptions"]

_Array: TypeAlias = npt.NDArray[Any]

# A column changes to scientific notation when its values span more than this ratio, or when one
# of them lies outside these magnitudes.
_MAX_SPAN = 1.0e3
_MAX_FIXED = 1.0e8
_MIN_FIXED = 1.0e-4


@dataclasses.dataclass(slots=True)
class _PrintOptions:
    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}

_options = _PrintOptions()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors are printed, for the whole process. `None` leaves an option as it is.

    Args:
        precision: digits after the decimal point (default 4).
        threshold: number of elements above which a tensor is summarised (default 1000).
        edgeitems: elements kept at both ends of each dimension of a summary (default 3).
        linewidth: characters a line may take (default 80).
        profile: `"default"`, `"short"` or `"full"`; sets the four options above first.
        sci_mode: force scientific notation on or off. `None`, the default, chooses by the values
            (and is what every call without this argument returns to).

    Raises:
        ValueError: for a profile that does not exist.
    """
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(f"profile must be one of {sorted(_PROFILES)}, got {profile!r}")
        for name, value in _PROFILES[profile].items():
            setattr(_options, name, value)
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    for name, value in given.items():
        if value is not None:
            setattr(_options, name, value)
    _options.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    """Return the options in force, as keyword arguments for `set_printoptions`."""
    return dataclasses.asdict(_options)


@contextlib.contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """Change print options for the duration of a `with` block; arguments as `set_printoptions`."""
    saved = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        set_printoptions(**saved)


def format_tensor(
    array: Any,
    *,
    dtype_name: str,
    default_dtype: bool,
    device: str,
    requires_grad: bool,
    grad_fn: str | None,
    prefix: str = "tensor",
) -> str:
    """Return the text PyTorch prints for a tensor with this content.

    Args:
        array: the elements, any shape; a NumPy or CuPy array.
        dtype_name: name of the dtype within `dualgraph`, such as `"float32"`.
        default_dtype: whether the dtype is the default floating dtype, or the complex dtype made
            of two of it. Such a dtype, like int64 and bool, is left out of the text.
        device: such as `"cpu"` (left out) or `"cuda:0"`.
        requires_grad: whether to say so; `grad_fn` says it already.
        grad_fn: name of the node that produced the tensor, such as `"MulBackward0"`.
        prefix: the word before the parenthesis.
    """
    head = prefix + "("
    suffixes = []
    if device != "cpu":
        suffixes.append(f"device='{device}'")
    if array.size == 0:
        if array.ndim != 1:
            suffixes.append(f"size={array.shape}")
        # No element is there to tell an int64 from a float32, so only the default goes unsaid.
        show_dtype = not default_dtype or array.dtype.kind == "c"
        body = "[]"
    else:
        if _options.edgeitems == 0:
            suffixes.append(f"size={array.shape}")
        show_dtype = not (default_dtype or dtype_name in ("int64", "bool"))
        body = _body(array, len(head))
    if show_dtype:
        suffixes.append(f"dtype={DType.namespace}.{dtype_name}")
    if grad_fn is not None:
        suffixes.append(f"grad_fn=<{grad_fn}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    return _append_suffixes(head + body, suffixes, len(head))


def _append_suffixes(text: str, suffixes: list[str], indent: int) -> str:
    parts = [text]
    # PyTorch counts one character too many on the last line; the line breaks depend on it.
    column = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        # Lines break where they break in PyTorch, whose name is shorter.
        length = len(suffix.replace("dualgraph.", "torch."))
        if column + length + 2 > _options.linewidth:
            parts.append(",\n" + " " * indent + suffix)
            column = indent + length
        else:
            parts.append(", " + suffix)
            column += length + 2
    return "".join(parts) + ")"


def _body(array: Any, indent: int) -> str:
    """Render the nested brackets, with continuation lines indented by `indent` columns."""
    summarize = array.size > _options.threshold
    if summarize and array.ndim > 0 and _options.edgeitems == 0:
        return "[...]"
    shown = _edges(array) if summarize else array
    values: _Array = to_device(shown, "cpu")
    if values.dtype.kind not in "biufc":  # bfloat16 and its like: every value is a float32 too
        values = values.astype(np.float32)
    column = _ComplexColumn(values) if values.dtype.kind == "c" else _Column(values)
    cut = [summarize and size > 2 * _options.edgeitems for size in array.shape]
    return _nested(values, cut, indent, column)


def _edges(array: Any) -> Any:
    """Keep the elements a summary shows: the first and last `edgeitems` along each dimension."""
    edge = _options.edgeitems
    for axis, size in enumerate(array.shape):
        if size > 2 * edge:
            kept = [*range(edge), *range(size - edge, size)]
            array = array[(slice(None),) * axis + (kept,)]
    return array


class _Column:
    """Common width and notation for all printed elements of a real tensor."""

    def __init__(self, values: _Array) -> None:
        self.precision = _options.precision
        self.floating = values.dtype.kind == "f"
        self.integral = True  # floats that are all whole numbers print as `1.`
        self.scientific = False
        self.width = 1
        if self.floating:
            self._measure_floats(values)
        else:
            for value in values.reshape(-1).tolist():
                self.width = max(self.width, len(str(value)))

    def _measure_floats(self, values: _Array) -> None:
        finite = [v for v in values.reshape(-1).tolist() if v != 0 and math.isfinite(v)]
        if not finite:
            return
        smallest = min(abs(v) for v in finite)
        largest = max(abs(v) for v in finite)
        self.integral = all(v.is_integer() for v in finite)
        self.scientific = (
            (largest / smallest > _MAX_SPAN or largest > _MAX_FIXED or smallest < _MIN_FIXED)
            if _options.sci_mode is None
            else _options.sci_mode
        )
        self.width = max(1, *(len(self._render(v)) for v in finite))

    def _render(self, value: float) -> str:
        if self.scientific:
            return f"{value:.{self.precision}e}"
        if self.integral:
            return f"{value:.0f}." if math.isfinite(value) else f"{value:.0f}"
        return f"{value:.{self.precision}f}"

    def format(self, value: Any) -> str:
        text = self._render(value) if self.floating else str(value)
        return text.rjust(self.width)


class _ComplexColumn:
    """Real and imaginary parts, each with its own width and notation."""

    def __init__(self, values: _Array) -> None:
        self._real = _Column(values.real)
        self._imag = _Column(values.imag)
        self.width = self._real.width + self._imag.width + 1  # + 1 for the j

    def format(self, value: Any) -> str:
        real = self._real.format(value.real)
        imag = self._imag.format(value.imag).lstrip() + "j"
        return real + imag if imag[0] in "+-" else real + "+" + imag


def _nested(array: _Array, cut: list[bool], indent: int, column: _Column | _ComplexColumn) -> str:
    """Render `array`, with an ellipsis in the middle of each dimension that `cut` marks."""
    if array.ndim == 0:
        return column.format(array.item())
    edge = _options.edgeitems
    if array.ndim == 1:
        items = [column.format(value) for value in array.tolist()]
        if cut[0]:
            items.insert(edge, " ...")
        per_line = max(1, math.floor((_options.linewidth - indent) / (column.width + 2)))
        lines = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    slices = [_nested(row, cut[1:], indent + 1, column) for row in array]
    if cut[0]:
        slices.insert(edge, "...")
    separator = "," + "\n" * (array.ndim - 1) + " " * (indent + 1)
    return "[" + separator.join(slices) + "]"

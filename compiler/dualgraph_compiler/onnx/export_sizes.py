"""Writes symbolic sizes as ONNX nodes: Shape and Gather of a value, then integer arithmetic."""

from __future__ import annotations

from typing import Any, Protocol

from ..dims import Dim, DimLike, Monomial, Shape, Symbol, as_linear, bounds
from ..errors import OnnxError
from ..graph import Value


class _Writer(Protocol):
    """The part of the exporter used here."""

    def emit(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any: ...
    def constant(self, value: Any, dtype: Any = None) -> str: ...
    def ints(self, *values: int) -> str: ...
    def share(self, name: str) -> str: ...
    def input_name(self, value: Value) -> str: ...


class SizeWriter:
    """Emits each size once, however often it is asked for.

    `sources` says of which value and axis each symbol is the size, or a linear function of it is;
    symbols it does not have are asked of `outer`, the writer of the graph around.
    """

    def __init__(
        self, out: _Writer, sources: dict[str, tuple[Value, int]], outer: SizeWriter | None = None
    ) -> None:
        self._out = out
        self._outer = outer
        self._sources = sources
        self._dims: dict[DimLike, str] = {}
        self._shapes: dict[Shape, str] = {}
        self._input_shapes: dict[Value, str] = {}

    def shape(self, dims: Shape) -> str:
        """A 1-d int64 tensor of the sizes."""
        if all(isinstance(d, int) for d in dims):
            return self._out.ints(*dims)  # type: ignore[arg-type]
        found = self._shapes.get(dims)
        if found is None:
            found = self._shapes[dims] = self._out.share(self._shape(dims))
        return found

    def _shape(self, dims: Shape) -> str:
        whole = self._whole_input(dims)
        if whole is not None:
            return whole
        parts: list[str] = []
        run: list[int] = []  # neighbouring known sizes become one constant
        for d in (*dims, None):
            if isinstance(d, int):
                run.append(d)
                continue
            if run:
                parts.append(self._out.ints(*run))
                run = []
            if d is not None:
                parts.append(self._out.emit("Unsqueeze", self.dim(d), self._out.ints(0)))
        if len(parts) == 1:
            return parts[0]
        return self._out.emit("Concat", *parts, axis=0)  # type: ignore[no-any-return]

    def _whole_input(self, dims: Shape) -> str | None:
        """The Shape of a source that has exactly these sizes."""
        for value, _ in self._sources.values():
            if value.shape == dims:
                return self._shape_of(value)
        return None

    def _shape_of(self, value: Value) -> str:
        found = self._input_shapes.get(value)
        if found is None:
            found = self._out.share(self._out.emit("Shape", self._out.input_name(value)))
            self._input_shapes[value] = found
        return found

    def dim(self, dim: DimLike) -> str:
        """A 0-d int64 tensor of one size."""
        if isinstance(dim, int):
            return self._out.constant(dim, "int64")
        found = self._dims.get(dim)
        if found is None:
            found = self._dims[dim] = self._out.share(self._polynomial(dim))
        return found

    def _polynomial(self, dim: Dim) -> str:
        total = ""
        for monomial, coefficient in dim.terms:
            term = self._monomial(monomial, coefficient)
            total = self._out.emit("Add", total, term) if total else term
        return total

    def _monomial(self, monomial: Monomial, coefficient: int) -> str:
        product = self.dim(coefficient) if coefficient != 1 or not monomial else ""
        for atom in monomial:
            if isinstance(atom, Symbol):
                factor = self._symbol(atom.name)
            else:
                factor = self._apply(atom.function, atom.left, atom.right)
            product = self._out.emit("Mul", product, factor) if product else factor
        return product

    def _symbol(self, name: str) -> str:
        if name not in self._sources:
            if self._outer is not None:
                return self._outer._symbol(name)
            raise OnnxError(
                f"the symbolic size {name!r} is the size of no input, so the exported model could "
                f"not know it; give some input a dimension of this size, or of one like 2*{name}"
            )
        dim = Dim(name)
        if dim not in self._dims:
            value, axis = self._sources[name]
            index = self._out.constant(axis, "int64")
            size = self._out.emit("Gather", self._shape_of(value), index, axis=0)
            linear = as_linear(value.shape[axis])
            assert linear is not None
            _, factor, constant = linear
            if constant:
                size = self._out.emit("Sub", size, self._out.constant(constant, "int64"))
            if factor != 1:
                size = self._out.emit("Div", size, self._out.constant(factor, "int64"))
            self._dims[dim] = self._out.share(size)
        return self._dims[dim]

    def _apply(self, function: str, left: DimLike, right: DimLike) -> str:
        a, b = self.dim(left), self.dim(right)
        emit = self._out.emit
        if function in ("max", "min"):
            return emit(function.capitalize(), a, b)  # type: ignore[no-any-return]
        if function == "mod":
            return emit("Mod", a, b)  # type: ignore[no-any-return]
        if bounds(left)[0] >= 0:
            return emit("Div", a, b)  # type: ignore[no-any-return]
        # ONNX divides towards zero; Mod takes the divisor's sign, as Python's does.
        return emit("Div", emit("Sub", a, emit("Mod", a, b)), b)  # type: ignore[no-any-return]

"""Single steps of recurrent layers."""

from __future__ import annotations

import math
from typing import Any

from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.ops.base import shape_text

from ... import functions as fn
from ..._tensor import Tensor
from .. import functional as F
from .. import init
from ..parameter import Parameter
from .module import Module

__all__ = ["GRUCell", "LSTMCell", "RNNCell", "RNNCellBase"]


class RNNCellBase(Module):
    """Parameters and checks of the cells; `num_chunks` is the number of gates."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = num_chunks * hidden_size
        shapes = {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, hidden_size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }
        for name, shape in shapes.items():
            wanted = bias or not name.startswith("bias")
            empty = fn.empty(*shape, device=device, dtype=dtype)
            self.register_parameter(name, Parameter(empty) if wanted else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values: all from U(-b, b), b = 1 / sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        nonlinearity = self.__dict__.get("nonlinearity", "tanh")
        if nonlinearity != "tanh":
            text += f", nonlinearity={nonlinearity}"
        return text

    def _prepared(self, input: Tensor, states: Any) -> tuple[Tensor, list[Tensor], bool]:
        """The input and states [B, *], and whether the batch axis was added."""
        for t, what in [(input, "input"), *((s, "hidden") for s in states or ())]:
            if t.ndim not in (1, 2):
                raise ShapeError(
                    f"{type(self).__name__}: Expected {what} to be 1D or 2D, got "
                    f"{shape_text(tuple(t.shape))}"
                )
        single = input.ndim == 1
        x = input.unsqueeze(0) if single else input
        if states is None:
            zeros = fn.zeros((x.shape[0], self.hidden_size), dtype=x.dtype, device=x.device)
            return x, [zeros, zeros], single
        return x, [s.unsqueeze(0) if single else s for s in states], single

    def _halves(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The input's and the state's part of the gates."""
        return (
            F.linear(x, self.weight_ih, self.bias_ih),
            F.linear(h, self.weight_hh, self.bias_hh),
        )


class RNNCell(RNNCellBase):
    """``h' = tanh(w_ih x + b_ih + w_hh h + b_hh)``, or relu.

    Shapes: x [B, input_size], h [B, hidden_size].
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if self.nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(f"Unknown nonlinearity: {self.nonlinearity}")
        x, (h, *_), single = self._prepared(input, None if hx is None else (hx,))
        one, two = self._halves(x, h)
        out = F.tanh(one + two) if self.nonlinearity == "tanh" else F.relu(one + two)
        return out.squeeze(0) if single else out


class LSTMCell(RNNCellBase):
    """One step of an LSTM: x [B, input_size] and (h, c) [B, hidden_size] each -> the new (h, c)."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        x, (h, c), single = self._prepared(input, hx)
        one, two = self._halves(x, h)
        i, f, g, o = (one + two).chunk(4, 1)
        c = F.sigmoid(f) * c + F.sigmoid(i) * F.tanh(g)
        h = F.sigmoid(o) * F.tanh(c)
        return (h.squeeze(0), c.squeeze(0)) if single else (h, c)


class GRUCell(RNNCellBase):
    """One step of a GRU: x [B, input_size], h [B, hidden_size] -> the new h."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        x, (h, *_), single = self._prepared(input, None if hx is None else (hx,))
        one, two = self._halves(x, h)
        (r1, z1, n1), (r2, z2, n2) = one.chunk(3, 1), two.chunk(3, 1)
        r, z = F.sigmoid(r1 + r2), F.sigmoid(z1 + z2)
        n = F.tanh(n1 + r * n2)
        out = n + z * (h - n)
        return out.squeeze(0) if single else out

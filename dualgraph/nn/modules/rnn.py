"""Recurrent layers over sequences, which may differ in length.

Weights are named as in PyTorch: ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0``
of the first layer, with ``_reverse`` for its backward direction.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar

from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.ops import gru as gru_op
from dualgraph_compiler.ops import lstm as lstm_op
from dualgraph_compiler.ops import recurrent as rnn_op
from dualgraph_compiler.ops.base import Op, shape_text

from ... import functions as fn
from ..._dispatch import apply_many
from ..._tensor import Tensor
from .. import functional as F
from .. import init
from ..parameter import Parameter
from ..utils.rnn import PackedSequence
from ._projected import projected_lstm
from .module import Module

__all__ = ["GRU", "LSTM", "RNN", "RNNBase"]


class RNNBase(Module):
    """What RNN, LSTM and GRU share; `mode` names the kind of cell."""

    _gates: ClassVar[dict[str, int]] = {"RNN_TANH": 1, "RNN_RELU": 1, "GRU": 3, "LSTM": 4}

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if mode not in self._gates:
            raise ArgumentError(f"Unrecognized RNN mode: {mode}")
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ArgumentError(
                "dropout should be a number in range [0, 1] representing the probability of an "
                "element being zeroed"
            )
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero "
                f"dropout expects num_layers greater than 1, but got dropout={dropout} and "
                "num_layers=1",
                UserWarning,
                stacklevel=3,
            )
        if hidden_size <= 0:
            raise ArgumentError(f"hidden_size must be greater than zero, got {hidden_size}")
        if num_layers <= 0:
            raise ArgumentError(f"num_layers must be greater than zero, got {num_layers}")
        if proj_size < 0 or proj_size >= hidden_size:
            raise ArgumentError(
                "proj_size should be a positive integer, smaller than hidden_size, or zero to "
                f"disable projections, got {proj_size}"
            )
        if proj_size and mode != "LSTM":
            raise ArgumentError("proj_size argument is only supported for LSTM, not RNN or GRU")
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self._directions = 2 if bidirectional else 1
        rows = self._gates[mode] * hidden_size
        outputs = proj_size or hidden_size
        for layer in range(num_layers):
            features = outputs * self._directions if layer else input_size
            shapes = {
                "weight_ih": (rows, features),
                "weight_hh": (rows, outputs),
                "bias_ih": (rows,),
                "bias_hh": (rows,),
                "weight_hr": (proj_size, hidden_size),
            }
            for direction in range(self._directions):
                for name in self._names(layer, direction):
                    shape = shapes[name.partition("_l")[0]]
                    empty = fn.empty(*shape, device=device, dtype=dtype)
                    self.register_parameter(name, Parameter(empty))
        self.reset_parameters()

    def _names(self, layer: int, direction: int) -> list[str]:
        end = f"_l{layer}" + ("_reverse" if direction else "")
        kinds = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if self.bias else [])
        kinds += ["weight_hr"] if self.proj_size else []
        return [kind + end for kind in kinds]

    def reset_parameters(self) -> None:
        """Draw new initial values: all from U(-b, b), b = 1 / sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: weights need no particular place in memory here."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        return [
            [getattr(self, name) for name in self._names(layer, direction)]
            for layer in range(self.num_layers)
            for direction in range(self._directions)
        ]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.proj_size != 0:
            text += f", proj_size={self.proj_size}"
        if self.num_layers != 1:
            text += f", num_layers={self.num_layers}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if self.batch_first is not False:
            text += f", batch_first={self.batch_first}"
        if self.dropout != 0:
            text += f", dropout={self.dropout}"
        if self.bidirectional is not False:
            text += f", bidirectional={self.bidirectional}"
        return text

    # -- running ----------------------------------------------------------------------------------

    def _op(self, reverse: bool) -> Op:
        """The op of one layer in one direction."""
        if self.mode == "LSTM":
            return lstm_op.LSTM(reverse)
        if self.mode == "GRU":
            return gru_op.GRU(reverse)
        return rnn_op.RNN("tanh" if self.mode == "RNN_TANH" else "relu", reverse)

    def _run(self, input: Any, states: tuple[Tensor, ...] | None) -> tuple[Any, list[Tensor]]:
        """The output and the last states [layers * directions, B, H]."""
        lens: tuple[Tensor, ...] = ()
        single = False
        if isinstance(input, PackedSequence):
            x, lengths = input._steps()
            lens = (lengths.to(x.device),)
        else:
            x = input
            if x.ndim not in (2, 3):
                raise ShapeError(
                    f"{type(self).__name__}: Expected input to be 2D or 3D, got {x.ndim}D instead"
                )
            single = x.ndim == 2
            if single:
                x = x.unsqueeze(1)
            elif self.batch_first:
                x = x.transpose(0, 1)
        if x.shape[-1] != self.input_size:
            raise ShapeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got "
                f"{x.shape[-1]}"
            )
        begin = self._initial(x, states, single)
        out, ends = self._layers(x, begin, lens)
        if isinstance(input, PackedSequence):
            return input._like(out), ends
        if single:
            return out.squeeze(1), [e.squeeze(1) for e in ends]
        return (out.transpose(0, 1) if self.batch_first else out), ends

    def _initial(self, x: Tensor, states: tuple[Tensor, ...] | None, single: bool) -> list[Tensor]:
        count = 2 if self.mode == "LSTM" else 1
        lead = (self.num_layers * self._directions, x.shape[1])
        shapes = [(*lead, self.proj_size or self.hidden_size), (*lead, self.hidden_size)][:count]
        if states is None:
            zeros = fn.zeros(shapes[-1], dtype=x.dtype, device=x.device)
            if self.proj_size:
                return [fn.zeros(shapes[0], dtype=x.dtype, device=x.device), zeros]
            return [zeros] * count
        found = [s.unsqueeze(1) if single and s.ndim == 2 else s for s in states]
        names = ("hidden[0]", "hidden[1]") if count == 2 else ("hidden",)
        for s, name, shape in zip(found, names, shapes):
            if tuple(s.shape) != shape:
                raise ShapeError(f"Expected {name} size {shape}, got {shape_text(tuple(s.shape))}")
        return found

    def _layers(
        self, x: Tensor, begin: list[Tensor], lens: tuple[Tensor, ...]
    ) -> tuple[Tensor, list[Tensor]]:
        ends: list[list[Tensor]] = [[] for _ in begin]
        for layer in range(self.num_layers):
            outs = []
            for direction in range(self._directions):
                index = layer * self._directions + direction
                weights = [getattr(self, name) for name in self._names(layer, direction)]
                if not self.bias:
                    zeros = fn.zeros(weights[0].shape[0], dtype=x.dtype, device=x.device)
                    weights[2:2] = [zeros, zeros]
                states = [s[index] for s in begin]
                if self.proj_size:
                    out, *rest = projected_lstm(x, states, weights, lens, bool(direction))
                else:
                    op = self._op(bool(direction))
                    out, *rest = apply_many(op, x, *states, *weights, *lens)
                outs.append(out)
                for kept, last in zip(ends, rest):
                    kept.append(last)
            x = fn.cat(outs, -1) if len(outs) > 1 else outs[0]
            if self.dropout and layer + 1 < self.num_layers:
                x = F.dropout(x, self.dropout, self.training)
        return x, [fn.stack(kept, 0) for kept in ends]


class RNN(RNNBase):
    """Elman's recurrent layers: ``h' = tanh(w_ih x + b_ih + w_hh h + b_hh)``, or relu.

    Shapes: input [T, B, input_size] ([B, T, input_size] with `batch_first`), [T, input_size] or a
    PackedSequence; h_0 [layers * directions, B, hidden_size], zeros by default. Returns the output
    [T, B, directions * hidden_size] and h_n like h_0.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if len(args) > 3:
            nonlinearity = args[3]
            args = args[:3] + args[4:]
        else:
            nonlinearity = kwargs.pop("nonlinearity", "tanh")
        modes = {"tanh": "RNN_TANH", "relu": "RNN_RELU"}
        if nonlinearity not in modes:
            raise ArgumentError(
                f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."
            )
        super().__init__(modes[nonlinearity], *args, **kwargs)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        out, (h,) = self._run(input, None if hx is None else (hx,))
        return out, h


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter & Schmidhuber 1997).

    Shapes as RNN's; the state is a pair (h, c). Returns the output and (h_n, c_n). With `proj_size`
    h is projected to so many features (Sak et al. 2014).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def forward(
        self, input: Any, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        out, (h, c) = self._run(input, hx)
        return out, (h, c)


class GRU(RNNBase):
    """Gated recurrent units (Cho et al. 2014), the reset gate acting after the product.

    Shapes as RNN's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("GRU", *args, **kwargs)

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        out, (h,) = self._run(input, None if hx is None else (hx,))
        return out, h

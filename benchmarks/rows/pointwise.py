"""Single layers without matrix products: what fusion and vectors are worth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import dualgraph as dg
from dualgraph import nn

from .. import peers
from ..contenders import inference, normal
from ..harness import Row

SIZES = ((128, 768), (4096, 1024))


class Softmax(nn.Module):
    """Over the last axis."""

    def forward(self, x: Any) -> Any:
        return x.softmax(-1)


class LayerNorm(nn.Module):
    """Over the last axis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Any) -> Any:
        return self.norm(x)


class Gelu(nn.Module):
    """With erf."""

    def __init__(self) -> None:
        super().__init__()
        self.gelu = nn.GELU()

    def forward(self, x: Any) -> Any:
        return self.gelu(x)


class BiasGeluResidual(nn.Module):
    """gelu(x + bias) + y."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gelu = nn.GELU()
        self.bias = nn.Parameter(dg.tensor(normal(width)))

    def forward(self, x: Any, y: Any) -> Any:
        return self.gelu(x + self.bias) + y


LAYERS: dict[str, tuple[str, Callable[[int], Any], int]] = {
    "softmax": ("softmax", lambda _: Softmax(), 1),
    "layernorm": ("layer norm", LayerNorm, 1),
    "gelu": ("GELU", lambda _: Gelu(), 1),
    "bias-gelu-residual": ("bias + GELU + residual", BiasGeluResidual, 2),
}


def _row(layer: str, rows: int, width: int, threads: int) -> Row:
    title, build, count = LAYERS[layer]
    arrays = [normal(rows, width) for _ in range(count)]
    inputs = tuple(map(dg.tensor, arrays))
    model = build(width)
    row = inference(
        f"{title}, {rows} x {width}", model, inputs, threads, twin=partial(_twin, model)
    )
    jax = peers.jax(threads)
    if jax is not None:
        call = jax.jit(_with_jax(jax, layer, width))
        given = [jax.device_put(a) for a in arrays]
        row.contenders["jax.jit"] = lambda: jax.block_until_ready(call(*given))
    return row


def _twin(model: nn.Module, torch: Any) -> Any:
    """The same layer in PyTorch."""
    kind = type(model).__name__

    class Twin(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if kind == "LayerNorm":
                self.norm = torch.nn.LayerNorm(model.norm.normalized_shape)
            if "Gelu" in kind:
                self.gelu = torch.nn.GELU()
            if kind == "BiasGeluResidual":
                self.bias = torch.nn.Parameter(torch.zeros(model.bias.shape))

        forward = type(model).forward

    return Twin()


def _with_jax(jax: Any, layer: str, width: int) -> Callable[..., Any]:
    jnp, bias = jax.numpy, normal(width)

    def layer_norm(x: Any) -> Any:
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(var + 1e-5)

    return {
        "softmax": jax.nn.softmax,
        "layernorm": layer_norm,
        "gelu": partial(jax.nn.gelu, approximate=False),
        "bias-gelu-residual": lambda x, y: jax.nn.gelu(x + bias, approximate=False) + y,
    }[layer]


ROWS: dict[str, Callable[[int], Row]] = {
    f"{layer}-{rows}x{width}": partial(_row, layer, rows, width)
    for layer in LAYERS
    for rows, width in SIZES
}

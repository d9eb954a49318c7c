"""Reverse mode: grad, vjp, jacrev, hessian."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops import f as ops

from .. import functions
from .._tensor import Tensor
from ..autograd.grad_mode import local
from ..transforms.levels import transforms
from ._map import vmap
from ._tape import Own, recording
from ._tree import chosen, leaves, map_leaves, rebuilt, require_tensors, structure, with_aux

Function = Callable[..., Any]


def grad(func: Function, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Function:
    """The function that computes the gradient of `func`, which returns one 0-d tensor.

    Args:
        argnums: the argument to differentiate by, or several; each a tensor or nested tensors.
        has_aux: `func` returns ``(loss, aux)``; the result is ``(gradient, aux)``.
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        gradients, value = _grad_and_value("grad", func, argnums, has_aux, args, kwargs)
        return (gradients, value[1]) if has_aux else gradients

    return wrapper


def grad_and_value(
    func: Function, argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Function:
    """As :func:`grad`, for ``(gradient, value)``, or ``(gradient, (value, aux))``."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return _grad_and_value("grad_and_value", func, argnums, has_aux, args, kwargs)

    return wrapper


def _grad_and_value(
    name: str,
    func: Function,
    argnums: int | tuple[int, ...],
    has_aux: bool,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[Any, Any]:
    picked, put = chosen(name, argnums, args)
    own = Own(leaves(picked), name)
    with recording():
        out = func(*put(rebuilt(picked, own.tensors)), **kwargs)
        loss, aux = with_aux(name, out) if has_aux else (out, None)
        if not isinstance(loss, Tensor):
            raise RuntimeError(
                f"Expected the function returned by grad to return a Tensor, got {type(loss)}"
            )
        if loss.ndim:
            raise RuntimeError(
                "Expected f(*args) to return a scalar tensor, got tensor with "
                f"{loss.ndim} dims. Maybe you wanted to use the vjp or jacrev APIs instead?"
            )
        found = own.gradients([loss], [functions.ones_like(loss)], own.records([loss]))
    gradients = rebuilt(picked, _materialized(own, found))
    value = own.released(loss)
    return gradients, (value, map_leaves(own.released, aux)) if has_aux else value


def _materialized(own: Own, found: Sequence[Tensor | None]) -> list[Tensor]:
    """Gradients, zero where there is none, off the tape where that leads nowhere else."""
    return [
        functions.zeros_like(t.detach()) if g is None else own.released(g)
        for t, g in zip(own.tensors, found, strict=True)
    ]


def vjp(func: Function, *primals: Any, has_aux: bool = False) -> Any:
    """``(output, vjp_fn)`` or ``(output, vjp_fn, aux)``: `vjp_fn` multiplies by the Jacobian.

    ``vjp_fn(*cotangents)`` gives, for cotangents shaped as the output, the product with the
    Jacobian of `func` at `primals`: a tuple with one entry for each of `primals`. It may be called
    several times.
    """
    output, aux, pull, own = _pullback(func, primals, has_aux)

    def vjp_fn(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        if structure(cotangents) != structure(output):
            raise RuntimeError(
                f"Expected pytree structure of cotangents to be the same as pytree structure of "
                f"outputs to the function. cotangents: {structure(cotangents)}, primal output: "
                f"{structure(output)}"
            )
        weights = leaves(cotangents)
        record = local.grad if create_graph is None else create_graph
        return pull(weights, record and _needed(own, weights))

    released = map_leaves(own.released, output)
    return (released, vjp_fn, map_leaves(own.released, aux)) if has_aux else (released, vjp_fn)


def _needed(own: Any, weights: Sequence[Tensor]) -> bool:
    return bool(transforms.levels) or own.deep or any(w.requires_grad for w in weights)


def _pullback(func: Function, primals: tuple[Any, ...], has_aux: bool) -> Any:
    """The function's output (on our tape), its aux, and what multiplies by the Jacobian."""
    if not primals:
        raise RuntimeError("vjp: Expected at least one argument to differentiate by")
    own: Any = Own(leaves(primals), "vjp")
    with recording():
        out = func(*rebuilt(primals, own.tensors))
    out, aux = with_aux("vjp", out) if has_aux else (out, None)
    outputs = require_tensors("vjp(f, *primals)", out, "f")
    own.deep = own.records(outputs)

    def pull(weights: Sequence[Tensor], record: bool) -> Any:
        for y, w in zip(outputs, weights, strict=True):
            if tuple(y.shape) != tuple(w.shape):
                raise RuntimeError(
                    f"vjp_fn: expected a cotangent of shape {list(y.shape)}, got {list(w.shape)}"
                )
        found = own.gradients(outputs, weights, record)
        return rebuilt(primals, _materialized(own, found))

    return out, aux, pull, own


def jacrev(
    func: Function,
    argnums: int | tuple[int, ...] = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
    _preallocate_and_copy: bool = False,
) -> Function:
    """The function that computes the Jacobian of `func` by reverse mode, all rows at once.

    For each output, shaped ``[*output, *input]``; a tuple of these where `argnums` is one.

    Args:
        chunk_size: how many rows to compute at once (1: one after the other, without a batch).
    """
    if chunk_size is not None and chunk_size < 1:
        raise ArgumentError("jacrev: `chunk_size` should be greater than 0.")

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        picked, put = chosen("jacrev", argnums, args)
        out, aux, pull, own = _pullback(lambda x: func(*put(x), **kwargs), (picked,), has_aux)
        outputs = leaves(out)
        rows = _rows(outputs, lambda *basis: leaves(pull(basis, own.deep)), chunk_size)
        blocks = []
        for i, y in enumerate(outputs):
            parts = [
                r[i].reshape((*y.shape, *x.shape)) for r, x in zip(rows, own.tensors, strict=True)
            ]
            blocks.append(rebuilt(picked, parts))
        result = rebuilt(out, blocks)
        return (result, map_leaves(own.released, aux)) if has_aux else result

    return wrapper


def _rows(
    outputs: Sequence[Tensor], pull: Callable[..., list[Tensor]], chunk_size: int | None
) -> list[list[Tensor]]:
    """For each input, the Jacobian's rows of each output: [elements of the output, *input]."""
    basis = basis_of(outputs)
    counts = [y.numel() for y in outputs]
    if chunk_size == 1:
        each = [pull(*(b[i] for b in basis)) for i in range(sum(counts))]
        found = [functions.stack(column) for column in zip(*each, strict=True)]
    else:
        mapped = vmap(lambda *b: tuple(pull(*b)), chunk_size=chunk_size)
        found = list(mapped(*basis))
    return [list(functions.split(rows, counts, 0)) for rows in found]


def basis_of(tensors: Sequence[Tensor]) -> list[Tensor]:
    """For each tensor, [n, *shape]: the unit vectors of them all, n the number of elements."""
    counts = [t.numel() for t in tensors]
    total = sum(counts)
    out = []
    before = 0
    for t, n in zip(tensors, counts, strict=True):
        unit = functions.eye(n, dtype=t.dtype, device=t.device)
        unit = ops.pad(unit, ((before, total - before - n), (0, 0)))
        out.append(unit.reshape((total, *t.shape)))
        before += n
    return out


def hessian(func: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """The function that computes the second derivatives of `func`: forward over reverse mode."""
    from ._forward import jacfwd

    return jacfwd(jacrev(func, argnums), argnums)

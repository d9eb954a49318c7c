"""Forward mode: jvp, jacfwd, linearize."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .. import functions
from .._dispatch import make
from .._tensor import Tensor
from ..transforms.arguments import written_back
from ..transforms.dual import Dual, DualLevel
from ._map import vmap
from ._reverse import _pullback, basis_of
from ._tape import Own, recording
from ._tree import chosen, leaves, map_leaves, rebuilt, require_tensors, structure, with_aux

Function = Callable[..., Any]


def jvp(
    func: Function, primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False
) -> Any:
    """``(output, tangent)`` or ``(output, tangent, aux)``: the Jacobian of `func` times `tangents`.

    Args:
        primals, tangents: tuples of arguments and of their tangents, which are shaped alike.
        strict: raise where an output does not depend on the inputs.

    Raises:
        RuntimeError: the tangents do not fit, or with `strict`.
    """
    if not isinstance(primals, tuple) or not primals:
        raise RuntimeError(
            "jvp(f, primals, tangents): Expected primals to be a tuple, and non-empty. "
            "E.g. it should be valid to call f(*primals)."
        )
    if structure(primals) != structure(tangents):
        raise RuntimeError(
            "jvp(f, primals, tangents): Expected primals and tangents to have the same python "
            f"structure. For example, if primals is a tuple of 3 tensors, tangents also must be. "
            f"Got primals with structure {structure(primals)} and tangents with structure "
            f"{structure(tangents)}"
        )
    points, directions = leaves(primals), leaves(tangents)
    for p, t in zip(points, directions, strict=True):
        check_tangent(p, t)
    with DualLevel() as level:
        duals = [make(Dual(level, p, t)) for p, t in zip(points, directions, strict=True)]
        out = func(*rebuilt(primals, duals))
        written_back(points, duals)
        out, aux = with_aux("jvp", out) if has_aux else (out, None)
        require_tensors("jvp(f, primals, tangents)", out, "f")

        def value(y: Any) -> Any:
            return level.parts(y)[0] if isinstance(y, Tensor) else y

        def tangent(y: Tensor) -> Tensor:
            found = level.parts(y)[1]
            if found is None and strict:
                raise RuntimeError(
                    "jvp(f, primals, tangents, strict=True): The output of f is independent of "
                    "the inputs. This is not allowed with strict=True."
                )
            return functions.zeros_like(value(y).detach()) if found is None else found

        results = map_leaves(value, out), map_leaves(tangent, out)
        found = (*results, map_leaves(value, aux)) if has_aux else results
        del out, aux  # what was made inside is gone from here on
        level.give_back()
        return found


def check_tangent(p: Any, t: Any) -> None:
    """Raise unless `t` is a tangent of `p`."""
    for x, what in ((p, "primals"), (t, "tangents")):
        if not isinstance(x, Tensor):
            raise RuntimeError(
                f"jvp(f, primals, tangents): Expected {what} to be tensors, got {type(x)}"
            )
    if tuple(p.shape) != tuple(t.shape) or p.dtype is not t.dtype:
        raise RuntimeError(
            f"jvp(f, primals, tangents): expected a tangent {p.dtype} {list(p.shape)}, got "
            f"{t.dtype} {list(t.shape)}"
        )


def jacfwd(
    func: Function,
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    *,
    randomness: str = "error",
) -> Function:
    """The function that computes the Jacobian of `func` by forward mode, all columns at once.

    As :func:`jacrev`; cheaper where there are more outputs than inputs.
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        picked, put = chosen("jacfwd", argnums, args)
        points = leaves(picked)
        for p in points:
            if not isinstance(p, Tensor):
                raise RuntimeError(f"jacfwd: Expected all inputs to be tensors, got {type(p)}")
        kept: dict[str, Any] = {}

        def push(*directions: Tensor) -> Any:
            found = jvp(
                lambda *x: func(*put(rebuilt(picked, x)), **kwargs),
                tuple(points),
                directions,
                has_aux=has_aux,
            )
            kept["output"] = found[0]
            return (found[1], found[2]) if has_aux else (found[1],)

        outer = (-1, None) if has_aux else (-1,)
        columns, *aux = vmap(push, out_dims=outer, randomness=randomness)(*basis_of(points))
        counts = [p.numel() for p in points]

        def block(column: Tensor) -> Any:
            parts = functions.split(column, counts, -1)
            shape = column.shape[:-1]
            shaped = [c.reshape((*shape, *p.shape)) for c, p in zip(parts, points, strict=True)]
            return rebuilt(picked, shaped)

        jacobian = map_leaves(block, columns)
        return (jacobian, aux[0]) if has_aux else jacobian

    return wrapper


def linearize(func: Function, *primals: Any) -> tuple[Any, Function]:
    """``(output, jvp_fn)``: the output of `func` at `primals`, and its linear approximation there.

    ``jvp_fn(*tangents)`` is as the tangent of :func:`jvp`, without running `func` again: it reads
    the tape of one run backwards twice.
    """
    out, _, pull, own = _pullback(func, primals, False)
    outputs = leaves(out)
    zeros = [functions.zeros_like(y.detach()) for y in outputs]
    inner = Own(zeros, "linearize")
    with recording():
        rows = leaves(pull(inner.tensors, True))

    def jvp_fn(*tangents: Any) -> Any:
        if structure(tangents) != structure(primals):
            raise RuntimeError(
                f"expected tangents {tangents} to have the same structure as the primals {primals}"
            )
        directions = leaves(tangents)
        for p, t in zip(leaves(primals), directions, strict=True):
            check_tangent(p, t)
        found = inner.gradients(rows, directions, own.deep)
        results = [z if g is None else own.released(g) for z, g in zip(zeros, found, strict=True)]
        return rebuilt(out, results)

    return map_leaves(own.released, out), jvp_fn

"""Jacobians, Hessians and products with them, as ``torch.autograd.functional``.

All take a function of tensors that returns tensors, and one input or a tuple of them; a result has
the structure of what it belongs to. With `create_graph` results are on the tape themselves; with
`strict` an output that does not depend on an input is an error instead of a zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import ArgumentError

from .grad_mode import enable_grad

if TYPE_CHECKING:
    from .._tensor import Tensor

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Function = Callable[..., Any]


def _tuple(x: Any, what: str, where: str) -> tuple[bool, tuple[Tensor, ...]]:
    """Whether `x` is several tensors, and these."""
    from .._tensor import Tensor

    several = isinstance(x, tuple)
    found = x if several else tuple(x) if isinstance(x, list) else (x,)
    for i, t in enumerate(found):
        if not isinstance(t, Tensor):
            if several:
                raise TypeError(
                    f"The {what} given to {where} must be either a Tensor or a tuple of Tensors "
                    f"but the value at index {i} has type {type(t)}."
                )
            raise TypeError(
                f"The {what} given to {where} must be either a Tensor or a tuple of Tensors but "
                f"the given {what} has type {type(t)}."
            )
    return several, found


def _single(several: bool, results: Sequence[Any]) -> Any:
    return tuple(results) if several else results[0]


def _prepared(inputs: Sequence[Tensor], create_graph: bool) -> tuple[Tensor, ...]:
    """The inputs as tensors to differentiate by; on the tape of the given ones if wanted."""
    if create_graph:
        return tuple(t.view_as(t) if t.requires_grad else _fresh(t) for t in inputs)
    return tuple(map(_fresh, inputs))


def _fresh(t: Tensor) -> Tensor:
    return t.detach().requires_grad_()


def _finished(tensors: Sequence[Any], create_graph: bool) -> list[Any]:
    return list(tensors) if create_graph else [t.detach() for t in tensors]


def _checked(v: Any, like: Sequence[Tensor], several: bool, what: str, name: str) -> Any:
    """The vector `v`, of the shapes of `like`; ones where it is None and there is one element."""
    from .. import functions

    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(
                f"The vector v can only be None if {what} is a single Tensor with a single element."
            )
        return (functions.ones_like(like[0].detach()),)
    given, found = _tuple(v, "v", name)
    if len(found) != len(like) or (given != several and len(like) > 1):
        raise RuntimeError(f"v is not a tuple of the same length as {what}: {len(like)}")
    for i, (a, b) in enumerate(zip(found, like, strict=True)):
        if tuple(a.shape) != tuple(b.shape):
            raise RuntimeError(
                f"Entry {i} in v has size {list(a.shape)}; expected {list(b.shape)}, as {what}"
            )
    return found


def _require_dependence(outputs: Sequence[Tensor], name: str) -> None:
    for i, y in enumerate(outputs):
        if not y.requires_grad:
            raise RuntimeError(
                f"Output {i} of the user-provided function does not require gradients. The outputs "
                f"must be computed in a differentiable manner from the input when running {name} "
                "in strict mode."
            )


def _gradients(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    create_graph: bool,
    strict: bool,
    name: str,
) -> list[Tensor]:
    """Gradients of the outputs; zeros, or with `strict` an error, where there is none."""
    from .. import functions
    from . import grad

    taped = [(y, w) for y, w in zip(outputs, weights, strict=True) if y.requires_grad]
    found: Sequence[Any] = [None] * len(inputs)
    if taped:
        ys, ws = zip(*taped, strict=True)
        found = grad(
            ys, inputs, ws, retain_graph=True, create_graph=create_graph, allow_unused=True
        )
    if strict and any(g is None for g in found):
        i = next(i for i, g in enumerate(found) if g is None)
        raise RuntimeError(
            f"The output of the user-provided function is independent of input {i}. This is not "
            f"allowed in strict mode when computing the {name}."
        )
    return [
        functions.zeros_like(x.detach()) if g is None else g
        for g, x in zip(found, inputs, strict=True)
    ]


def vjp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The outputs, and `v`, which is shaped as they are, times the Jacobian."""
    with enable_grad():
        several, given = _tuple(inputs, "inputs", "vjp")
        xs = _prepared(given, create_graph)
        many, ys = _tuple(func(*xs), "outputs of the user-provided function", "vjp")
        if strict:
            _require_dependence(ys, "vjp")
        weights = _checked(v, ys, many, "the outputs", "vjp")
        found = _gradients(ys, xs, weights, create_graph, strict, "vjp")
    return _single(many, _finished(ys, create_graph)), _single(
        several, _finished(found, create_graph)
    )


def jvp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The outputs, and the Jacobian times `v`, which is shaped as the inputs are."""
    from .. import functions

    with enable_grad():
        several, given = _tuple(inputs, "inputs", "jvp")
        xs = _prepared(given, create_graph)
        directions = _checked(v, xs, several, "the user-provided function's input", "jvp")
        many, ys = _tuple(func(*xs), "outputs of the user-provided function", "jvp")
        if strict:
            _require_dependence(ys, "jvp")
        # The gradients are linear in the weights: differentiating them by these transposes back.
        weights = tuple(functions.zeros_like(y.detach()).requires_grad_() for y in ys)
        rows = _gradients(ys, xs, weights, True, strict, "jvp")
        found = _gradients(rows, weights, directions, create_graph, strict, "jvp")
    return _single(many, _finished(ys, create_graph)), _single(many, _finished(found, create_graph))


def jacobian(
    func: Function,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian: for each output and each input ``[*output, *input]``.

    Args:
        vectorize: compute all rows in one batch.
        strategy: "reverse-mode", or with `vectorize` also "forward-mode".
    """
    if strategy not in ("forward-mode", "reverse-mode"):
        raise ArgumentError(
            'Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your '
            'function has more outputs than inputs, "forward-mode" tends to be more performant. '
            'Otherwise, prefer to use "reverse-mode".'
        )
    if strategy == "forward-mode":
        if create_graph:
            raise NotImplementedError(
                "jacobian: `create_graph=True` and "
                '`strategy="forward-mode"` are not supported together (yet).'
            )
        if strict or not vectorize:
            raise RuntimeError(
                'jacobian: `strategy="forward-mode"` needs `vectorize=True` and `strict=False`.'
            )
        return _forward_jacobian(func, inputs)
    if vectorize and strict:
        raise RuntimeError(
            "jacobian: `strict=True` and `vectorize=True` are not supported together."
        )
    with enable_grad():
        several, given = _tuple(inputs, "inputs", "jacobian")
        xs = _prepared(given, create_graph)
        many, ys = _tuple(func(*xs), "outputs of the user-provided function", "jacobian")
        if strict:
            _require_dependence(ys, "jacobian")
        pull = _all_rows if vectorize else _each_row
        blocks = [pull(y, xs, create_graph, strict) for y in ys]
        table = [_finished(row, create_graph) for row in blocks]
    return _single(many, [_single(several, row) for row in table])


def _each_row(y: Tensor, xs: Sequence[Tensor], create_graph: bool, strict: bool) -> list[Tensor]:
    """The blocks of output `y`, one backward pass for each of its elements."""
    from .. import functions

    rows = []
    for element in y.reshape(-1):
        one = functions.ones_like(element.detach())
        rows.append(_gradients([element], xs, [one], create_graph, strict, "jacobian"))
    if not rows:
        return [functions.zeros((*y.shape, *x.shape), dtype=x.dtype) for x in xs]
    columns = zip(*rows, strict=True)
    return [
        functions.stack(column).reshape((*y.shape, *x.shape))
        for column, x in zip(columns, xs, strict=True)
    ]


def _all_rows(y: Tensor, xs: Sequence[Tensor], create_graph: bool, strict: bool) -> list[Tensor]:
    """The blocks of output `y`, all in one batch."""
    from ..func import vmap
    from ..func._reverse import basis_of

    if not y.requires_grad or y.numel() == 0:
        return _each_row(y, xs, create_graph, strict)
    rows = vmap(lambda g: tuple(_gradients([y], xs, [g], create_graph, False, "jacobian")))(
        *basis_of([y])
    )
    return [r.reshape((*y.shape, *x.shape)) for r, x in zip(rows, xs, strict=True)]


def _forward_jacobian(func: Function, inputs: Any) -> Any:
    from ..func import jacfwd

    several, xs = _tuple(inputs, "inputs", "jacobian")
    found = jacfwd(func, tuple(range(len(xs))))(*(x.detach() for x in xs))
    many = isinstance(found[0], tuple)
    table = [_single(several, [t.detach() for t in row]) for row in (found if many else (found,))]
    return _single(many, table)


def hessian(
    func: Function,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The second derivatives of a function with one element as its result."""
    several, given = _tuple(inputs, "inputs", "hessian")
    if outer_jacobian_strategy not in ("forward-mode", "reverse-mode"):
        raise ArgumentError('Expected strategy to be either "forward-mode" or "reverse-mode".')

    def slope(*xs: Tensor) -> Any:
        if outer_jacobian_strategy == "forward-mode":
            from ..func import grad

            found = grad(lambda *a: _scalar(func(*a)).reshape(()), tuple(range(len(xs))))(*xs)
            return tuple(found)
        return jacobian(
            lambda *a: _scalar(func(*a)).reshape(()), xs, create_graph=True, strict=strict
        )

    found = jacobian(
        slope,
        given,
        create_graph=create_graph,
        strict=strict,
        vectorize=vectorize,
        strategy=outer_jacobian_strategy,
    )
    return found if several else found[0][0]


def _scalar(y: Any) -> Tensor:
    several, ys = _tuple(y, "outputs of the user-provided function", "hessian")
    if several or len(ys) != 1:
        raise RuntimeError("The function given to hessian should return a single Tensor")
    if ys[0].numel() != 1:
        raise RuntimeError(
            "The Tensor returned by the function given to hessian should contain a single element"
        )
    return ys[0]


def vhp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The output, and `v` times the Hessian."""
    return _second("vhp", func, inputs, v, create_graph, strict)


def hvp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The output, and the Hessian, which is symmetric, times `v`."""
    return _second("hvp", func, inputs, v, create_graph, strict)


def _second(
    name: str, func: Function, inputs: Any, v: Any, create_graph: bool, strict: bool
) -> tuple[Any, Any]:
    from .. import functions

    with enable_grad():
        several, given = _tuple(inputs, "inputs", name)
        xs = _prepared(given, create_graph)
        directions = _checked(v, xs, several, "the user-provided function's input", name)
        _, ys = _tuple(func(*xs), "outputs of the user-provided function", name)
        if len(ys) != 1 or ys[0].numel() != 1:
            raise RuntimeError(
                f"The Tensor returned by the function given to {name} should contain a single "
                "element"
            )
        if strict:
            _require_dependence(ys, name)
        one = [functions.ones_like(ys[0].detach())]
        slopes = _gradients(ys, xs, one, True, strict, name)
        found = _gradients(slopes, xs, directions, create_graph, strict, name)
    return _finished(ys, create_graph)[0], _single(several, _finished(found, create_graph))

"""Checking gradients against central differences: gradcheck and gradgradcheck."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .forward_ad import dual_level, make_dual, unpack_dual

if TYPE_CHECKING:
    from .._tensor import Tensor

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]

Function = Callable[..., Any]


class GradcheckError(RuntimeError):
    """A gradient is not what differences say."""


def gradcheck(
    func: Function,
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Whether the gradients of `func` at `inputs` are those of central differences.

    Args:
        func: of tensors, returns a tensor or several.
        inputs: a tensor or several; those that require gradients are checked, in float64 or
            complex128.
        eps: the step of the differences.
        atol, rtol: what gradients may differ by.
        raise_exception: raise GradcheckError instead of returning False.
        nondet_tol: what two backward passes may differ by.
        check_undefined_grad: outputs without a gradient must count as outputs with gradient zero.
        check_grad_dtypes: gradients must have the inputs' dtypes.
        check_batched_grad: check gradients of batches of weights, by vmap.
        check_forward_ad, check_batched_forward_grad: check tangents, too.
        check_backward_ad: check gradients.
        fast_mode: one random direction instead of all elements.
        masked: accepted; there are no sparse tensors here.

    Raises:
        GradcheckError: see `raise_exception`.
        ValueError: no input requires a gradient.
    """
    if not (check_forward_ad or check_backward_ad):
        raise ValueError(
            "Expected at least one of check_forward_ad or check_backward_ad to be True"
        )
    if check_batched_grad and not check_backward_ad:
        raise ValueError("Setting check_batched_grad=True requires check_backward_ad to be True")
    if check_batched_forward_grad and not check_forward_ad:
        raise ValueError(
            "Setting check_batched_forward_grad=True requires check_forward_ad to be True"
        )
    check = _Check(func, _as_tuple(inputs), eps, atol, rtol, fast_mode)
    try:
        check.prepare()
        if check_forward_ad:
            check.forward()
        if check_backward_ad:
            check.backward(nondet_tol, check_grad_dtypes)
            if check_batched_grad:
                check.batched()
            if check_undefined_grad:
                check.undefined()
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, tuple | list) else (x,)


class _Check:
    """One function at one point."""

    def __init__(
        self,
        func: Function,
        inputs: tuple[Any, ...],
        eps: float,
        atol: float,
        rtol: float,
        fast: bool,
    ) -> None:
        self.func = func
        self.inputs = inputs
        self.eps = eps
        self.atol = atol
        self.rtol = rtol
        self.fast = fast
        self.at: list[int] = []  # which inputs are differentiated by

    def prepare(self) -> None:
        """Look at the inputs and outputs."""
        from .._tensor import Tensor

        for i, x in enumerate(self.inputs):
            if not isinstance(x, Tensor) or not x.requires_grad:
                continue
            if x.dtype.name not in ("float64", "complex128"):
                warnings.warn(
                    f"Input #{i} requires gradient and is not a double precision floating point or "
                    "complex. This check will likely fail if all the inputs are not of double "
                    "precision floating point or complex.",
                    stacklevel=4,
                )
            if x.is_leaf:
                x.grad = None
            self.at.append(i)
        if not self.at:
            raise ValueError(
                "gradcheck expects at least one input tensor to require gradient, but none of them "
                "have requires_grad=True."
            )
        self.outputs = self.call()

    def call(self, args: Sequence[Any] | None = None) -> list[Tensor]:
        """The outputs that may have a gradient."""
        outputs = _as_tuple(self.func(*(self.inputs if args is None else args)))
        return [y for y in outputs if y.dtype.is_differentiable]

    def values(self, i: int, data: Any) -> list[Any]:
        """The outputs' arrays with `data` as input `i`."""
        from .. import tensor
        from . import no_grad

        args = list(self.inputs)
        args[i] = tensor(np.asarray(data, args[i].dtype.np)).to(args[i].device)
        with no_grad():
            return [np.array(y.detach().cpu()._data) for y in self.call(args)]

    def _differences(self, i: int, direction: Any) -> list[Any]:
        """The change of each output along a direction of input `i`."""
        x = np.array(self.inputs[i].detach()._data)
        high = self.values(i, x + self.eps * direction)
        low = self.values(i, x - self.eps * direction)
        return [(a - b) / (2 * self.eps) for a, b in zip(high, low, strict=True)]

    def directions(self, i: int) -> list[Any]:
        """Real unit vectors, then imaginary ones where input `i` is complex; or one random one."""
        x = self.inputs[i]
        shape, complex_ = tuple(x.shape), x.dtype.is_complex
        if self.fast:
            rng = np.random.default_rng(0)
            v = rng.random(shape) + 0.1
            return [v + 1j * (rng.random(shape) + 0.1) if complex_ else v]
        n = int(np.prod(shape, dtype=int))
        units = list(np.eye(n).reshape((n, *shape)))
        return units + [1j * u for u in units] if complex_ else units

    # -- reverse mode ------------------------------------------------------------------------------

    def pull(self, k: int, weight: Any, outputs: Sequence[Tensor] | None = None) -> list[Any]:
        """The gradients of output `k`, weighted, as arrays; zeros where there is none."""
        from .. import tensor
        from . import grad

        y = (self.outputs if outputs is None else outputs)[k]
        ins = [self.inputs[i] for i in self.at]
        if not y.requires_grad:
            return [np.zeros(x.shape, x.dtype.np) for x in ins]
        w = tensor(np.asarray(weight, y.dtype.np)).to(y.device)
        found = grad(y, ins, w, retain_graph=True, allow_unused=True)
        self.raw = found
        return [
            np.zeros(x.shape, x.dtype.np) if g is None else np.array(g.detach().cpu()._data)
            for g, x in zip(found, ins, strict=True)
        ]

    def backward(self, nondet_tol: float, check_dtypes: bool) -> None:
        """Compare, for every output and weight, inner products with differences."""
        numeric = {i: [self._differences(i, d) for d in self.directions(i)] for i in self.at}
        for k, y in enumerate(self.outputs):
            weights = self._weights(y)
            pulled = [self.pull(k, w) for w in weights]
            if check_dtypes:
                self._check_dtypes()
            again = [self.pull(k, w) for w in weights[:1]]
            if pulled and any(
                np.abs(a - b).max(initial=0) > nondet_tol
                for a, b in zip(pulled[0], again[0], strict=True)
            ):
                raise GradcheckError(
                    "Backward is not reentrant, i.e., running backward with same input and "
                    "grad_output multiple times gives different values, although analytical "
                    f"gradient matches numerical gradient. The tolerance for nondeterminism was "
                    f"{nondet_tol}."
                )
            for position, i in enumerate(self.at):
                ours = [[_inner(g[position], d) for g in pulled] for d in self.directions(i)]
                theirs = [[_inner(w, change[k]) for w in weights] for change in numeric[i]]
                self._compare(np.array(ours), np.array(theirs), k, i, "backward")

    def _weights(self, y: Tensor) -> list[Any]:
        shape, complex_ = tuple(y.shape), y.dtype.is_complex
        if self.fast:
            rng = np.random.default_rng(1)
            v = rng.random(shape) + 0.1
            return [v + 1j * (rng.random(shape) + 0.1) if complex_ else v]
        n = int(np.prod(shape, dtype=int))
        units = list(np.eye(n).reshape((n, *shape)))
        return units + [1j * u for u in units] if complex_ else units

    def _check_dtypes(self) -> None:
        for i, g in zip(self.at, self.raw, strict=True):
            if g is not None and g.dtype is not self.inputs[i].dtype:
                raise GradcheckError(
                    f"grad is {g.dtype}, expected the dtype of input {i}, {self.inputs[i].dtype}"
                )

    def _compare(self, ours: Any, theirs: Any, k: int, i: int, mode: str) -> None:
        if ours.size and not np.allclose(ours, theirs, self.rtol, self.atol, equal_nan=True):
            kind = "" if mode == "backward" else " computed with forward mode"
            raise GradcheckError(
                f"Jacobian{kind} mismatch for output {k} with respect to input {i},\n"
                f"numerical:{theirs}\nanalytical:{ours}\n"
            )

    def undefined(self) -> None:
        """Outputs without a gradient count as zero."""
        from .. import ones_like, zeros_like
        from . import grad

        taped = [y for y in self.outputs if y.requires_grad]
        if len(taped) < 2:
            return
        ins = [self.inputs[i] for i in self.at]
        ones = [ones_like(y) for y in taped]
        for k in range(len(taped)):
            some = [y for n, y in enumerate(taped) if n != k]
            rest = [w for n, w in enumerate(ones) if n != k]
            partial = grad(some, ins, rest, retain_graph=True, allow_unused=True)
            filled = [zeros_like(w) if n == k else w for n, w in enumerate(ones)]
            whole = grad(taped, ins, filled, retain_graph=True, allow_unused=True)
            for a, b in zip(partial, whole, strict=True):
                zero = b if a is None else a
                if zero is None or (a is not None and b is not None and _same(a, b)):
                    continue
                if (a is None or b is None) and not float(abs(zero.detach()).sum()):
                    continue
                raise GradcheckError(
                    "Expected backward function to handle undefined output grads. Please look at "
                    'https://pytorch.org/docs/stable/notes/extending.html "Notes about undefined '
                    'output gradients"'
                )

    def batched(self) -> None:
        """Gradients of a batch of weights are those of its elements."""
        from .. import stack, tensor
        from . import grad

        ins = [self.inputs[i] for i in self.at]
        rng = np.random.default_rng(2)
        for k, y in enumerate(self.outputs):
            if not y.requires_grad:
                continue
            rows = [tensor(rng.random(tuple(y.shape)).astype(y.dtype.np)) for _ in range(2)]
            options = {"retain_graph": True, "allow_unused": True}
            want = [grad(y, ins, r, **options) for r in rows]
            got = grad(y, ins, stack(rows), is_grads_batched=True, **options)
            for i, (column, whole) in enumerate(zip(zip(*want, strict=True), got, strict=True)):
                if whole is not None and not _same(stack(list(column)), whole):
                    raise GradcheckError(
                        f"For output {k} and input {self.at[i]}: batched gradients are not those "
                        "of the elements of the batch"
                    )

    # -- forward mode ------------------------------------------------------------------------------

    def forward(self) -> None:
        """Compare tangents with differences."""
        for i in self.at:
            for direction in self.directions(i):
                theirs = self._differences(i, direction)
                ours = self._pushed(i, direction)
                for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
                    self._compare(np.zeros_like(b) if a is None else a, b, k, i, "forward")

    def _pushed(self, i: int, direction: Any) -> list[Any]:
        from .. import tensor
        from . import no_grad

        x = self.inputs[i]
        with no_grad(), dual_level():
            tangent = tensor(np.asarray(direction, x.dtype.np)).to(x.device)
            args = list(self.inputs)
            args[i] = make_dual(x.detach(), tangent)
            found = [
                unpack_dual(y).tangent
                for y in _as_tuple(self.func(*args))
                if y.dtype.is_differentiable
            ]
            return [None if t is None else np.array(t.detach().cpu()._data) for t in found]


def _inner(a: Any, b: Any) -> float:
    """The real inner product, in which gradients are transposes."""
    return float(np.real(np.vdot(np.asarray(a), np.asarray(b))))


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(np.allclose(a.detach().cpu()._data, b.detach().cpu()._data, 1e-6, 1e-8))


def gradgradcheck(
    func: Function,
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """As :func:`gradcheck`, of the gradients of `func`.

    Args:
        grad_outputs: what to weight the outputs with; random numbers if left out.
        gen_non_contig_grad_outputs: let those not be contiguous.
        check_fwd_over_rev, check_rev_over_rev: check tangents and gradients of gradients.
    """
    from .. import tensor
    from . import grad

    ins = _as_tuple(inputs)
    ys = [y for y in _as_tuple(func(*ins)) if y.dtype.is_differentiable and y.requires_grad]
    if grad_outputs is None:
        weights = []
        for y in ys:
            rng = np.random.default_rng(3)
            w = rng.random((*y.shape, 2) if gen_non_contig_grad_outputs else tuple(y.shape))
            w = w[..., 0] if gen_non_contig_grad_outputs else w
            weights.append(tensor(w.astype(y.dtype.np)).to(y.device).requires_grad_())
    else:
        weights = [w for w in _as_tuple(grad_outputs) if w is not None]
    wanted = [i for i, x in enumerate(ins) if getattr(x, "requires_grad", False)]

    def gradients(*args: Any) -> tuple[Any, ...]:
        points, ws = list(args[: len(ins)]), args[len(ins) :]
        for i in wanted:
            if not points[i].requires_grad:  # differences and tangents are taken off the tape
                points[i] = points[i].view_as(points[i]).requires_grad_()
        outputs = [
            y for y in _as_tuple(func(*points)) if y.dtype.is_differentiable and y.requires_grad
        ]
        found = grad(outputs, [points[i] for i in wanted], ws, create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(
        lambda *args: _recorded(gradients, args),
        (*ins, *weights),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad,
        check_forward_ad=check_fwd_over_rev,
        check_backward_ad=check_rev_over_rev,
        fast_mode=fast_mode,
        masked=masked,
    )


def _recorded(function: Function, args: Sequence[Any]) -> Any:
    from . import enable_grad

    with enable_grad():
        return function(*args)

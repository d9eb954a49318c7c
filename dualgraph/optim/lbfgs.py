"""L-BFGS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dualgraph as dg
from dualgraph._tensor import Tensor
from dualgraph.optim._line_search import Point, strong_wolfe
from dualgraph.optim.optimizer import Optimizer, ParamsT, check_nonnegative
from dualgraph_compiler.errors import ArgumentError

__all__ = ["LBFGS"]


class LBFGS(Optimizer):
    """A quasi-Newton method that keeps the last changes instead of a matrix of curvature.

    A step needs a closure, which it calls many times: it clears gradients, computes the loss, calls
    `backward` and returns the loss. There is one group of parameters only, real ones.

    Args:
        params: parameters, as for `Optimizer`, in one group.
        lr: length of a step along the found direction.
        max_iter: directions tried in one `step`.
        max_eval: calls of the closure in one `step`; None for 1.25 * `max_iter`.
        tolerance_grad: stop where no element of the gradient is larger.
        tolerance_change: stop where loss or parameters change by less.
        history_size: how many changes are kept.
        line_search_fn: None, or "strong_wolfe" to look for the length of each step.

    Raises:
        ArgumentError: more than one group, or an unknown line search.

    Source: Liu and Nocedal, "On the Limited Memory BFGS Method for Large Scale Optimization", 1989;
    Nocedal and Wright, "Numerical Optimization", 2006, algorithms 7.4 and 7.5.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        check_nonnegative("learning rate", lr)
        if line_search_fn not in (None, "strong_wolfe"):
            raise ArgumentError(f"only 'strong_wolfe' is supported, got {line_search_fn!r}")
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ArgumentError("LBFGS doesn't support per-parameter options (parameter groups)")

    @property
    def _params(self) -> list[Tensor]:
        found: list[Tensor] = self.param_groups[0]["params"]
        return found

    def _gradient(self) -> Tensor:
        """All gradients as one vector."""
        parts = [
            dg.zeros(p.numel(), dtype=p.dtype) if p.grad is None else p.grad.reshape(-1)
            for p in self._params
        ]
        return dg.cat(parts)

    def _move(self, length: float, along: Tensor) -> None:
        """Add `length * along` to the parameters."""
        start = 0
        for p in self._params:
            stop = start + p.numel()
            p.add_(along[start:stop].view_as(p), alpha=length)
            start = stop

    @dg.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Descend until a tolerance or a limit is met.

        Args:
            closure: computes the loss anew, with gradients; called several times.

        Returns:
            The loss that the first call of `closure` returned.
        """
        if closure is None:
            raise ArgumentError("LBFGS.step() needs a closure that computes the loss anew")
        return _Descent(self, dg.enable_grad()(closure)).run()


class _Descent:
    """One `step`: the options, the state that lasts between steps, and where we are."""

    def __init__(self, owner: LBFGS, closure: Callable[[], Any]) -> None:
        self.owner = owner
        self.closure = closure
        self.options = owner.param_groups[0]
        self.state = owner.state[owner._params[0]]
        self.evaluations = 0

    def run(self) -> Any:
        state, options = self.state, self.options
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first = self.closure()
        loss, gradient = float(first), self.owner._gradient()
        self.evaluations = 1
        state["func_evals"] += 1
        if self._is_flat(gradient):
            return first
        for iteration in range(1, options["max_iter"] + 1):
            state["n_iter"] += 1
            along = self._direction(gradient)
            state["prev_flat_grad"], before = gradient.clone(), loss
            state["prev_loss"] = loss
            slope = float(gradient.dot(along))
            length = self._first_length(gradient)
            if slope > -options["tolerance_change"]:
                break
            last = iteration == options["max_iter"]
            length, loss, gradient = self._advance(length, along, slope, loss, gradient, last)
            state["t"] = length
            small = float((along * length).abs().max()) <= options["tolerance_change"]
            done = self.evaluations >= options["max_eval"] or self._is_flat(gradient)
            if done or small or abs(loss - before) < options["tolerance_change"]:
                break
        return first

    def _is_flat(self, gradient: Tensor) -> bool:
        return float(gradient.abs().max()) <= float(self.options["tolerance_grad"])

    def _first_length(self, gradient: Tensor) -> float:
        lr = float(self.options["lr"])
        if self.state["n_iter"] > 1:
            return lr
        return min(1.0, 1.0 / float(gradient.abs().sum())) * lr

    def _direction(self, gradient: Tensor) -> Tensor:
        """Where to go: the two-loop recursion (Nocedal and Wright, algorithm 7.4)."""
        state = self.state
        if state["n_iter"] == 1:
            state.update(d=-gradient, old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
            return state["d"]  # type: ignore[no-any-return]
        change = gradient - state["prev_flat_grad"]
        moved = state["d"] * state["t"]
        curvature = float(change.dot(moved))
        kept = state["old_dirs"], state["old_stps"], state["ro"]
        if curvature > 1e-10:
            if len(kept[0]) == self.options["history_size"]:
                for values in kept:
                    values.pop(0)
            for values, new in zip(kept, (change, moved, 1.0 / curvature), strict=True):
                values.append(new)
            state["H_diag"] = curvature / float(change.dot(change))
        # PyTorch's scratch memory, which its checkpoints have.
        state.setdefault("al", [None] * self.options["history_size"])
        q: Tensor = -gradient
        shares = []
        for y, s, rho in zip(*(reversed(values) for values in kept), strict=True):
            share = float(s.dot(q)) * rho
            shares.append(share)
            q = q.add(y, alpha=-share)
        r: Tensor = q * state["H_diag"]
        for y, s, rho, share in zip(*kept, reversed(shares), strict=True):
            r = r.add(s, alpha=share - float(y.dot(r)) * rho)
        state["d"] = r
        return r

    def _advance(
        self,
        length: float,
        along: Tensor,
        slope: float,
        loss: float,
        gradient: Tensor,
        last: bool,
    ) -> tuple[float, float, Tensor]:
        """Move the parameters; the length of the step, the loss and the gradient there."""
        owner, options = self.owner, self.options
        count = 0
        if options["line_search_fn"] == "strong_wolfe":
            start = [p.clone() for p in owner._params]

            def at(t: float) -> Point:
                owner._move(t, along)
                value, there = float(self.closure()), owner._gradient()
                for p, kept in zip(owner._params, start, strict=True):
                    p.copy_(kept)
                return Point(t, value, there, float(there.dot(along)))

            here = Point(0.0, loss, gradient, slope)
            size = float(along.abs().max())
            left = options["max_eval"] - self.evaluations
            found, count = strong_wolfe(at, here, length, size, left)
            owner._move(found.t, along)
            length, loss, gradient = found.t, found.value, found.gradient
        else:
            owner._move(length, along)
            if not last:  # the next call of `step` computes it anyway
                loss, gradient = float(self.closure()), owner._gradient()
                count = 1
        self.evaluations += count
        self.state["func_evals"] += count
        return length, loss, gradient

"""The base class of all optimizers: parameter groups, state, and the loop of one step.

A subclass supplies `_rule`, the op of one parameter's step (``dualgraph_compiler.ops.optimizer``).
Eagerly its kernel runs in place; in a capture the op becomes a node. The layout of `state_dict` is
PyTorch's, so checkpoints of optimizer state carry over.
"""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeAlias

import numpy as np

import dualgraph as dg
from dualgraph import _changes
from dualgraph._dispatch import captures
from dualgraph._tensor import Tensor
from dualgraph.optim._group import Entries, Group, Listed, State
from dualgraph.optim._hooks import (
    HOOKS,
    Hooked,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
    with_hooks,
)
from dualgraph.optim._traced import traced_step
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.kernels.optimizers import Workspace
from dualgraph_compiler.ops.base import SMALLEST, array_module
from dualgraph_compiler.ops.optimizer import OptimizerUpdate

__all__ = [
    "Optimizer",
    "ParamsT",
    "check_nonnegative",
    "register_optimizer_step_post_hook",
    "register_optimizer_step_pre_hook",
]

ParamsT: TypeAlias = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


class Optimizer(Hooked):
    """Holds parameters in groups, each with its own options, and the state of each parameter.

    Args:
        params: parameters, pairs (name, parameter), or groups: dicts with a `"params"` entry and
            the options that differ from `defaults`.
        defaults: options of groups that do not give them.

    Attributes:
        param_groups: list of dicts; options may be changed there between steps.
        state: dict from parameter to its state, a dict of Tensors and numbers.

    Raises:
        TypeError: `params` is a single Tensor or holds something other than Tensors.
        ArgumentError: no parameters, or a parameter that is in two groups or is not a leaf.
    """

    _opt_called: bool = False  # read by schedulers, which must come after the first step
    _scalars: ClassVar[tuple[str, ...]] = ("step",)  # entries of the state that are 0-d float32

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = with_hooks(cls.__dict__["step"])  # type: ignore[method-assign]

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        self._without_hooks()
        self.defaults = defaults
        self.state: Any = State()
        self.param_groups: list[dict[str, Any]] = Listed()
        self._workspace = Workspace()
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or "
                f"dicts, but got {type(params).__name__}"
            )
        if defaults.get("differentiable"):
            raise ArgumentError("differentiable=True: steps through an optimizer are not recorded")
        if defaults.get("fused") and defaults.get("foreach"):
            raise ArgumentError("`fused` and `foreach` cannot be `True` together.")
        groups: list[Any] = list(params)
        if not groups:
            raise ArgumentError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, for instance layers that thaw during fine-tuning.

        Args:
            param_group: `"params"` (a Tensor, or an iterable as for the constructor) and options.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        given = param_group["params"]
        if isinstance(given, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the "
                "ordering of tensors in sets will change between runs. Please use a list instead."
            )
        params = [given] if isinstance(given, Tensor) else list(given)
        group = dict(param_group)
        if params and all(isinstance(p, tuple) for p in params):
            group["param_names"] = [name for name, _ in params]
            params = [param for _, param in params]
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(
                    "optimizer can only optimize Tensors, but one of the params is "
                    f"{type(param).__name__}"
                )
            if not param.is_leaf:
                raise ArgumentError(
                    "can't optimize a non-leaf Tensor; "
                    f"this one of shape {list(param.shape)} was computed"
                )
        group["params"] = Listed(params)
        for name, default in self.defaults.items():
            group.setdefault(name, default)
        if self.param_groups and ("param_names" in group) != (
            "param_names" in self.param_groups[0]
        ):
            raise ArgumentError(
                "all optimizer param groups should be with/without names. cannot add a param "
                "group to the optimizer that differs from the others in that"
            )
        if len({id(p) for p in params}) != len(params):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; each would be "
                "updated more than once a step",
                stacklevel=3,
            )
        known = {id(p) for g in self.param_groups for p in g["params"]}
        if any(id(p) in known for p in params):
            raise ArgumentError("some parameters appear in more than one parameter group")
        self.param_groups.append(Group(group))

    @with_hooks
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: clears gradients, computes the loss, calls `backward` and returns the loss.
                It runs with gradients enabled.

        Returns:
            What `closure` returned, or `None` without one.
        """
        capture = captures.current
        if capture is None:
            self._opt_called = True
        loss = None
        if closure is not None:
            with dg.enable_grad():
                loss = closure()
        if capture is not None:
            traced_step(self, capture)
            return loss
        # Overflow and 0/0 are results, as everywhere, and nothing to warn of.
        with np.errstate(all="ignore"):
            self._step()
        return loss

    def _step(self) -> None:
        for group in self.param_groups:
            rule = self._rule(group)
            numbers = [self.number(group, name) for name in rule.numbers]
            for param in group["params"]:
                grad = param.grad
                if grad is None:
                    continue
                param._concrete("Optimizer.step()")
                self._update(self._rule_for(rule, param), numbers, param, grad)
                param._bump_version()

    def _rule(self, options: dict[str, Any]) -> OptimizerUpdate:
        """The op of one parameter's step under these options."""
        raise NotImplementedError

    def _rule_for(self, rule: OptimizerUpdate, param: Tensor) -> OptimizerUpdate:
        """The op for one parameter, where its form depends on the parameter's shape."""
        return rule

    def number(self, options: dict[str, Any], name: str) -> float:
        """Operand `name` of the op, of those that may change from step to step.

        "beta1" and "beta2" are the two decay rates that option "betas" holds.
        """
        if name in ("beta1", "beta2"):
            return float(options["betas"][name == "beta2"])
        return float(options[name])

    def fresh_state(self, param: Tensor, name: str) -> Tensor:
        """What entry `name` of the state of `param` starts from."""
        return dg.tensor(0.0, dtype=dg.float32) if name == "step" else _zeros_like(param)

    def _update(
        self, op: OptimizerUpdate, numbers: list[float], param: Tensor, grad: Tensor
    ) -> None:
        """Change `param` and its state in place."""
        arrays = []
        if op.state:  # plain gradient descent leaves none
            state = self.state[param]
            if not state:
                state.update((name, self.fresh_state(param, name)) for name in op.state)
            arrays = [state[name]._data for name in op.state]
        xp = array_module(param._data)
        accelerator = op.accelerator
        if accelerator is not None and xp is np and param._data.size >= SMALLEST:
            accelerator.update(op, self._workspace, param._data, grad._data, arrays, numbers)
        else:
            op.update(xp, self._workspace, param._data, grad._data, arrays, numbers)

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Tensor | None, Tensor]]) -> None:
        """Make a step with these gradients, whatever gradients the parameters hold.

        What a :class:`dualgraph.GradientTape` gives is applied with it:
        ``optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))``.

        Args:
            grads_and_vars: pairs of gradient and parameter. Parameters without a pair, or with
                None for a gradient, stay as they are.

        Raises:
            ArgumentError: no gradients at all, or a parameter that is not this optimizer's.

        Source: ``tf.keras.optimizers.Optimizer.apply_gradients``.
        """
        given = {id(param): grad for grad, param in grads_and_vars if grad is not None}
        if not given:
            raise ArgumentError("no gradients provided for any variable")
        params = [p for group in self.param_groups for p in group["params"]]
        if unknown := given.keys() - {id(p) for p in params}:
            raise ArgumentError(f"{len(unknown)} of the variables are not this optimizer's")
        before = [p.grad for p in params]
        try:
            for param in params:
                param.grad = given.get(id(param))
            self.step()
        finally:
            for param, grad in zip(params, before, strict=True):
                param.grad = grad

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero in place."""
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none or param.grad is None:
                    param.grad = None
                    continue
                if param.grad.grad_fn is not None:
                    param.grad = param.grad.detach()
                if captures.current is None:
                    param.grad._data.fill(0)
                    param.grad._bump_version()
                else:
                    with dg.no_grad():
                        param.grad.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Return state and options, with parameters replaced by their running number.

        Returns:
            `{"state": {0: {...}, ...}, "param_groups": [{..., "params": [0, ...]}, ...]}`. State
            Tensors are the optimizer's own, not copies.
        """
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for param in group["params"]:
                numbers.setdefault(id(param), len(numbers))
            options = {k: v for k, v in group.items() if k != "params"}
            options["params"] = [numbers[id(param)] for param in group["params"]]
            groups.append(options)
        state = {
            numbers[id(key)] if isinstance(key, Tensor) else key: value
            for key, value in self.state.items()
        }
        packed = {"state": state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            changed = hook(self, packed)
            packed = packed if changed is None else changed
        return packed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over state and options from `state_dict`, which is copied.

        State Tensors are converted to the dtype and moved to the device of their parameter,
        except for step counters.

        Raises:
            ArgumentError: the groups differ in number or size from this optimizer's.
        """
        state_dict = dict(state_dict)
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        saved_groups = state_dict["param_groups"]
        if len(saved_groups) != len(self.param_groups):
            raise ArgumentError(
                "loaded state dict has a different number of parameter groups: "
                f"{len(saved_groups)} instead of {len(self.param_groups)}"
            )
        for index, (own, saved) in enumerate(zip(self.param_groups, saved_groups, strict=True)):
            if len(own["params"]) != len(saved["params"]):
                raise ArgumentError(
                    "loaded state dict contains a parameter group that doesn't match the size of "
                    f"optimizer's group: group {index} has {len(saved['params'])} parameters "
                    f"instead of {len(own['params'])}"
                )
        numbers = itertools.chain.from_iterable(g["params"] for g in saved_groups)
        params = itertools.chain.from_iterable(g["params"] for g in self.param_groups)
        by_number = dict(zip(numbers, params, strict=True))
        state = State()
        for key, value in state_dict["state"].items():
            param = by_number.get(key)
            if param is None:
                state[key] = copy.deepcopy(value)
            else:
                state[param] = Entries(
                    (k, _adopt(v, param, k in self._scalars)) for k, v in value.items()
                )
        for own, saved in zip(self.param_groups, saved_groups, strict=True):
            group = copy.deepcopy({k: v for k, v in saved.items() if k != "params"})
            group["params"] = own["params"]
            if "param_names" in own:
                group.setdefault("param_names", own["param_names"])
            own.clear()
            own.update(group)
        self.state = state
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def __getstate__(self) -> dict[str, Any]:
        left_out = ("_workspace", "_stepping", *HOOKS)
        return {k: v for k, v in self.__dict__.items() if k not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._without_hooks()
        self.__dict__["state"] = State.of(self.state)
        self.__dict__["param_groups"] = Listed(self.param_groups)
        for group in self.param_groups:
            group["params"] = Listed(group["params"])
        self._workspace = Workspace()

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__
        if name in held and held[name] is value:
            return
        object.__setattr__(self, name, value)
        _changes.optimizers.note()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        _changes.optimizers.note()

    def __repr__(self) -> str:
        text = f"{type(self).__name__} ("
        for index, group in enumerate(self.param_groups):
            options = (f"    {key}: {group[key]}\n" for key in sorted(group) if key != "params")
            text += f"\nParameter Group {index}\n{''.join(options)}"
        return f"{text})"


def _zeros_like(param: Tensor) -> Tensor:
    return dg.zeros_like(param, requires_grad=False)


def _adopt(value: Any, param: Tensor, scalar: bool) -> Any:
    """Copy one entry of saved state so that it goes with `param`."""
    if scalar:
        # Old checkpoints of PyTorch count in plain numbers.
        return dg.tensor(float(value), dtype=dg.float32)
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    if param.is_floating_point():
        value = value.to(param.dtype)
    return value.to(param.device).detach().clone()


def check_nonnegative(label: str, value: Any) -> None:
    """Raise `ArgumentError` unless `value`, a number or one-element Tensor, is at least zero."""
    if not float(value) >= 0.0:
        raise ArgumentError(f"Invalid {label}: {value}")

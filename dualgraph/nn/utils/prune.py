"""Setting some elements of a parameter to zero, for good: masks that a forward pre-hook applies.

A pruned parameter is kept as ``<name>_orig``, the mask as the buffer ``<name>_mask``, and the
product is the attribute ``<name>``.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from dualgraph import functions as fn
from dualgraph._tensor import Tensor
from dualgraph.nn.modules.module import Module
from dualgraph_compiler.errors import ArgumentError

__all__ = [
    "BasePruningMethod",
    "CustomFromMask",
    "Identity",
    "L1Unstructured",
    "LnStructured",
    "PruningContainer",
    "RandomStructured",
    "RandomUnstructured",
    "custom_from_mask",
    "global_unstructured",
    "identity",
    "is_pruned",
    "l1_unstructured",
    "ln_structured",
    "random_structured",
    "random_unstructured",
    "remove",
]


class BasePruningMethod(ABC):
    """A way to choose what is pruned; a subclass defines `compute_mask` and `PRUNING_TYPE`.

    That type says what a further pruning of one tensor chooses from: "unstructured" from the
    elements left, "structured" from the channels left along `dim`, "global" from all.
    """

    PRUNING_TYPE: ClassVar[str] = "unstructured"
    _tensor_name: str

    @abstractmethod
    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask, 1 to keep and 0 to prune: where `default_mask` is 0 it stays so.

        Args:
            t: how important each element is.
            default_mask: the mask so far.
        """

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self._tensor_name, self.apply_mask(module))

    def apply_mask(self, module: Any) -> Tensor:
        """The original times the mask."""
        name = self._tensor_name
        mask, original = getattr(module, f"{name}_mask"), getattr(module, f"{name}_orig")
        return mask.to(original.dtype) * original  # type: ignore[no-any-return]

    @classmethod
    def apply(
        cls,
        module: Module,
        name: str,
        *args: Any,
        importance_scores: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Prune the parameter `name` of a module by ``cls(*args, **kwargs)``.

        A parameter that is pruned already is pruned further.

        Args:
            importance_scores: what to choose by, in the parameter's shape; by default itself.
        """
        method: Any = cls(*args, **kwargs)
        method._tensor_name = name
        method = _joined(module, method)
        original: Any = getattr(module, name)
        scores = original if importance_scores is None else importance_scores
        _same_shape(scores, original)
        first = not isinstance(method, PruningContainer)
        if first:
            before = fn.ones_like(original)
        else:
            before = getattr(module, f"{name}_mask").detach().clone()
        mask = method.compute_mask(scores, default_mask=before)
        if first:
            module.register_parameter(f"{name}_orig", original)
            del module._parameters[name]
        module.register_buffer(f"{name}_mask", mask)
        setattr(module, name, method.apply_mask(module))
        module.register_forward_pre_hook(method)
        return method

    def prune(
        self,
        t: Tensor,
        default_mask: Tensor | None = None,
        importance_scores: Tensor | None = None,
    ) -> Tensor:
        """`t` with what this method chooses set to zero."""
        scores = t if importance_scores is None else importance_scores
        _same_shape(scores, t)
        before = fn.ones_like(t) if default_mask is None else default_mask
        return t * self.compute_mask(scores, default_mask=before)

    def remove(self, module: Module) -> None:
        """Make the pruned tensor the parameter; what was pruned stays zero."""
        name = self._tensor_name
        weight = self.apply_mask(module)
        original: Any = module._parameters.pop(f"{name}_orig")
        original.data = weight.detach()
        delattr(module, name)
        delattr(module, f"{name}_mask")
        setattr(module, name, original)


def _same_shape(scores: Tensor, t: Tensor) -> None:
    if tuple(scores.shape) != tuple(t.shape):
        raise AssertionError(
            f"importance_scores should have the same shape as the parameter, got "
            f"{list(scores.shape)} vs {list(t.shape)}"
        )


def _joined(module: Module, method: BasePruningMethod) -> BasePruningMethod:
    """`method`, or a container of those before on the same tensor and it; their hook is removed."""
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == method._tensor_name:
            del module._forward_pre_hooks[key]
            container = hook if isinstance(hook, PruningContainer) else PruningContainer(hook)
            container.add_pruning_method(method)
            return container
    return method


class PruningContainer(BasePruningMethod):
    """Several methods on one tensor, in the order in which they were applied."""

    def __init__(self, *args: BasePruningMethod) -> None:
        self._pruning_methods: tuple[BasePruningMethod, ...] = ()
        for method in args:
            if not hasattr(self, "_tensor_name"):
                self._tensor_name = method._tensor_name
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod) -> None:
        """Add a method, which is to act on the same tensor."""
        if not isinstance(method, BasePruningMethod):
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if method._tensor_name != self._tensor_name:
            raise ArgumentError(
                "Can only add pruning methods acting on the parameter named "
                f"'{self._tensor_name}' to PruningContainer {self}. Found '{method._tensor_name}'"
            )
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._pruning_methods)

    def __getitem__(self, index: int) -> BasePruningMethod:
        return self._pruning_methods[index]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask so far, and what the last method prunes of what is left."""
        method, mask = self._pruning_methods[-1], default_mask.to(t.dtype)
        if method.PRUNING_TYPE == "global":
            return method.compute_mask(t, default_mask=mask)
        if method.PRUNING_TYPE == "structured":
            dim = method.dim % t.ndim  # type: ignore[attr-defined]
            others = tuple(i for i in range(t.ndim) if i != dim)
            left = (mask != 0).to(mask.dtype).sum(others) != 0
            at: Any = (*(slice(None) for _ in range(dim)), left)
        elif method.PRUNING_TYPE == "unstructured":
            at = mask != 0
        else:
            raise ArgumentError(f"Unrecognized PRUNING_TYPE {method.PRUNING_TYPE}")
        new = mask.clone()
        new[at] = method.compute_mask(t[at], default_mask=mask[at]).to(new.dtype)
        return new


# -- how many -------------------------------------------------------------------------------------


def _check_amount(amount: Any) -> None:
    if not isinstance(amount, numbers.Real):
        raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
    whole = isinstance(amount, numbers.Integral)
    if not 0 <= float(amount) <= (math.inf if whole else 1):
        raise ArgumentError(
            f"amount={amount} should either be a float in the range [0.0, 1.0] or a non-negative "
            "integer"
        )


def _count(amount: Any, size: int) -> int:
    """How many of `size` to prune: a number of them, or a share."""
    count = int(amount) if isinstance(amount, numbers.Integral) else round(amount * size)
    if count > size:
        raise ArgumentError(
            f"amount={count} should be smaller than the number of parameters to prune={size}"
        )
    return count


def _check_structured(t: Tensor, dim: int) -> None:
    if t.ndim <= 1:
        raise ArgumentError(
            "Structured pruning can only be applied to multidimensional tensors. Found tensor of "
            f"shape {tuple(t.shape)} with {t.ndim} dims"
        )
    if dim >= t.ndim:
        raise IndexError(f"Invalid index {dim} for tensor of size {tuple(t.shape)}")


def _without(mask: Tensor, scores: Tensor, count: int) -> Tensor:
    """The mask without the `count` elements of the lowest scores."""
    new = mask.clone()
    if count:
        lowest = scores.reshape(-1).topk(count, largest=False)[1]
        new = new.reshape(-1).index_fill(0, lowest, 0).reshape(mask.shape)
    return new


def _channels(t: Tensor, mask: Tensor, dim: int, kept: Tensor) -> Tensor:
    """The mask without the channels along `dim` that are not `kept` (bool)."""
    shape = [1] * t.ndim
    shape[dim] = t.shape[dim]
    return mask * kept.to(mask.dtype).reshape(shape)


# -- methods --------------------------------------------------------------------------------------


class Identity(BasePruningMethod):
    """Prunes nothing."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return default_mask


class _Amount(BasePruningMethod):
    """Prunes `amount` elements or channels: a number of them, or a share from 0 to 1."""

    def __init__(self, amount: Any) -> None:
        _check_amount(amount)
        self.amount = amount


class RandomUnstructured(_Amount):
    """Prunes elements at random."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        count = _count(self.amount, t.numel())
        return _without(default_mask, fn.rand_like(t), count)


class L1Unstructured(_Amount):
    """Prunes the elements of smallest magnitude."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        return _without(default_mask, t.detach().abs(), _count(self.amount, t.numel()))


class RandomStructured(_Amount):
    """Prunes channels along `dim` at random."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: Any, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        _check_structured(t, self.dim)
        size = t.shape[self.dim]
        count = _count(self.amount, size)
        kept = fn.randperm(size, device=t.device) >= count
        return _channels(t, default_mask, self.dim, kept)


class LnStructured(_Amount):
    """Prunes the channels along `dim` of the lowest n-norm."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: Any, n: Any, dim: int = -1) -> None:
        super().__init__(amount)
        self.n = n
        self.dim = dim

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        _check_structured(t, self.dim)
        size = t.shape[self.dim]
        count = _count(self.amount, size)
        others = tuple(i for i in range(t.ndim) if i != self.dim % t.ndim)
        norms = t.detach().norm(self.n, dim=others)
        kept = fn.zeros(size, dtype=norms.dtype, device=t.device)
        kept = kept.index_fill(0, norms.topk(size - count)[1], 1) != 0
        return _channels(t, default_mask, self.dim, kept)


class CustomFromMask(BasePruningMethod):
    """Prunes where a given mask is 0."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        _same_shape(self.mask, default_mask)
        return default_mask * self.mask.to(default_mask.dtype)


# -- functions ------------------------------------------------------------------------------------


def identity(module: Module, name: str) -> Module:
    """Give the parameter `name` a mask of ones."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Module, name: str, amount: Any) -> Module:
    """Prune `amount` elements (a number, or a share from 0 to 1) at random."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(
    module: Module, name: str, amount: Any, importance_scores: Tensor | None = None
) -> Module:
    """Prune the `amount` elements of smallest magnitude."""
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: Module, name: str, amount: Any, dim: int) -> Module:
    """Prune `amount` channels along `dim` at random."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(
    module: Module,
    name: str,
    amount: Any,
    n: Any,
    dim: int,
    importance_scores: Tensor | None = None,
) -> Module:
    """Prune the `amount` channels along `dim` of the lowest n-norm."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Module, name: str, mask: Tensor) -> Module:
    """Prune where `mask` is 0."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Module, str]],
    pruning_method: type[BasePruningMethod],
    importance_scores: dict[tuple[Module, str], Tensor] | None = None,
    **kwargs: Any,
) -> None:
    """Prune several parameters, (module, name) pairs, as if they were one.

    Args:
        pruning_method: an "unstructured" one, made with `kwargs`.
        importance_scores: what to choose by, for some of the pairs.
    """
    pairs = list(parameters)
    if not isinstance(parameters, Iterable) or not pairs:
        raise TypeError("global_unstructured(): parameters is not an Iterable of pairs")
    given = importance_scores or {}
    tensors = [getattr(module, name) for module, name in pairs]
    scores = [given.get(pair, t) for pair, t in zip(pairs, tensors)]
    masks = [
        getattr(module, f"{name}_mask", fn.ones_like(t))
        for (module, name), t in zip(pairs, tensors)
    ]
    container = PruningContainer()
    container._tensor_name = "temp"
    method = pruning_method(**kwargs)
    method._tensor_name = "temp"
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError(
            'Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method '
            f"{pruning_method} of type {method.PRUNING_TYPE}"
        )
    container.add_pruning_method(method)
    flat = fn.cat([s.detach().reshape(-1) for s in scores])
    mask = container.compute_mask(flat, fn.cat([m.reshape(-1) for m in masks]))
    parts = mask.split([t.numel() for t in tensors])
    for (module, name), t, part in zip(pairs, tensors, parts):
        custom_from_mask(module, name, part.reshape(t.shape))


def remove(module: Module, name: str) -> Module:
    """Make a pruned tensor an ordinary parameter again; what was pruned stays zero."""
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            hook.remove(module)
            del module._forward_pre_hooks[key]
            return module
    raise ArgumentError(
        f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed"
    )


def is_pruned(module: Module) -> bool:
    """Whether a module, or one below it, has pruned tensors."""
    return any(
        isinstance(hook, BasePruningMethod)
        for m in module.modules()
        for hook in m._forward_pre_hooks.values()
    )

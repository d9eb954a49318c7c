"""What to say about a name of PyTorch's that is not here: why, and what there is instead."""

from __future__ import annotations

import difflib

from .absent import reason
from .vocabulary import VERSION, vocabulary

__all__ = ["explain", "explanation", "hint"]


def explanation(module: str, name: str, existing: list[str]) -> str:
    """The message of the error for ``module.name``.

    Args:
        module: the module's name as the program knows it, such as ``torch.nn.functional``.
        name: what was asked for.
        existing: the names that the module has.
    """
    return f"{module}.{name} is missing: {hint(module, name, existing)}"


def hint(module: str, name: str, existing: list[str]) -> str:
    """Why ``module.name`` is not there, and names near it that are."""
    full = f"{module}.{name}"
    why = reason(full)
    known = name in vocabulary().get(module, ()) or full in vocabulary()
    if why is None:
        ours = "dualgraph does not have it (yet)"
        why = ours if known else f"PyTorch {VERSION} has no such public name either"
    elsewhere = _elsewhere(name, module)
    if elsewhere:
        return f"{why}. There is {elsewhere}."
    near = difflib.get_close_matches(name, existing, 3, 0.75)
    if not near:
        return f"{why}."
    return f"{why}. Near it: {', '.join(near)}."


def _elsewhere(name: str, module: str) -> str | None:
    """The same name in another module, where dualgraph has it."""
    from .finder import has

    places = ("torch", "torch.nn", "torch.nn.functional", "torch.linalg", "torch.special")
    for place in places:
        if place != module and name in vocabulary().get(place, ()) and has(place, name):
            return f"{place}.{name}"
    return None


def explain(error: BaseException) -> None:
    """Add to an AttributeError about one of our objects what would have been said of a module's."""
    if not isinstance(error, AttributeError) or not isinstance(error.name, str):
        return
    from dualgraph._tensor import Tensor
    from dualgraph.nn import Module

    kind = error.obj if isinstance(error.obj, type) else type(error.obj)
    said = None
    if issubclass(kind, Tensor):
        existing = [n for n in dir(Tensor) if not n.startswith("_")]
        said = f"torch.Tensor.{error.name}: {hint('torch.Tensor', error.name, existing)}"
    elif issubclass(kind, Module) and (why := reason(f"torch.nn.Module.{error.name}")):
        said = f"torch.nn.Module.{error.name}: {why}."
    if said and getattr(error, "__notes__", None) is None:
        error.add_note(said)

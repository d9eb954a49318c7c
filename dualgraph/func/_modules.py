"""Modules as functions of their parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dualgraph_compiler.errors import ArgumentError

from .. import functions
from .._dispatch import captures
from .._tensor import Tensor
from ..nn import Module
from ..tracing.places import Attribute

State = Mapping[str, Tensor]


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: State | Sequence[State],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """``module(*args, **kwargs)`` with other parameters and buffers, given by dotted name.

    Args:
        parameter_and_buffer_dicts: the tensors, in one dict or several without common names; those
            that are not named stay.
        args: a tuple, or the only argument.
        tie_weights: a tensor that the module has under several names is replaced under all.
        strict: raise unless exactly the module's own names are given.

    Raises:
        ArgumentError: a name is given twice, two for one tied tensor differ, or with `strict`.
        AttributeError: the module has no such tensor.
    """
    state = _merged(parameter_and_buffer_dicts)
    if args is None:
        args = ()
    elif not isinstance(args, tuple):
        args = (args,)
    with _replaced(module, state, tie_weights, strict):
        return module(*args, **(kwargs or {}))


def _merged(dicts: State | Sequence[State]) -> dict[str, Tensor]:
    if isinstance(dicts, Mapping):
        return dict(dicts)
    merged: dict[str, Tensor] = {}
    for each in dicts:
        if not isinstance(each, Mapping):
            raise ArgumentError(
                "Expected all elements of parameter_and_buffer_dicts to be dictionaries"
            )
        repeated = merged.keys() & each.keys()
        if repeated:
            raise ArgumentError(
                f"{sorted(repeated)} appeared in multiple dictionaries; behavior of functional "
                "call is ambiguous"
            )
        merged.update(each)
    return merged


@contextmanager
def _replaced(
    module: Module, state: Mapping[str, Tensor], tie_weights: bool, strict: bool
) -> Iterator[None]:
    """The module's tensors are those of `state` inside."""
    own: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    own.update(module.named_buffers(remove_duplicate=False))
    if strict:
        _check_names(own.keys(), state.keys())
    wanted = _tied(own, state) if tie_weights else dict(state)
    before: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for name, value in wanted.items():
            owner, held, last = _holder(module, name)
            _note(owner, last, held[last])
            before.append((held, last, held[last]))
            held[last] = value
        yield
    finally:
        for held, last, value in reversed(before):
            held[last] = value


def _check_names(own: Any, given: Any) -> None:
    missing, unexpected = sorted(own - given), sorted(given - own)
    if missing or unexpected:
        lines = [f"Missing key(s): {', '.join(missing)}."] if missing else []
        lines += [f"Unexpected key(s): {', '.join(unexpected)}."] if unexpected else []
        raise ArgumentError(
            "Error(s) in replacing the tensors of a module:\n\t" + "\n\t".join(lines)
        )


def _tied(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state`, with the other names of the tensors that it replaces."""
    names: dict[int, list[str]] = {}
    for name, t in own.items():
        names.setdefault(id(t), []).append(name)
    wanted = dict(state)
    for name, value in state.items():
        same = names.get(id(own[name]), [name]) if name in own else [name]
        for other in same:
            if state.get(other, value) is not value:
                raise ArgumentError(
                    f"functional_call got multiple values for keys {sorted(same)}, which are tied. "
                    "Consider using tie_weights=False"
                )
            wanted[other] = value
    return wanted


def _note(owner: Module, name: str, value: Any) -> None:
    """Let a trace know what the module has itself, before it has something else for a while."""
    capture = captures.current
    watch = None if capture is None else capture.root.watch
    if watch is not None:
        watch.see(Attribute(owner, name, f"{type(owner).__name__}.{name}"), value, set())


def _holder(module: Module, name: str) -> tuple[Module, dict[str, Any], str]:
    """The module and its dict that hold the tensor of a dotted name, and its name there."""
    path, _, last = name.rpartition(".")
    try:
        owner = module.get_submodule(path) if path else module
    except AttributeError:
        raise AttributeError(f"{type(module).__name__} has no submodule {path!r}") from None
    for held in (owner._parameters, owner._buffers):
        if last in held:
            return owner, held, last
    raise AttributeError(f"{type(owner).__name__} has no parameter or buffer {last!r} ({name!r})")


def stack_module_state(
    models: Sequence[Module],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters and the buffers of several modules of one kind, stacked by name.

    For :func:`vmap` over :func:`functional_call`: an ensemble in one call. Stacked parameters are
    leaves of their own, which require gradients where the modules' do.
    """
    modules = list(models)
    if not modules:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({m.training for m in modules}) > 1:
        raise RuntimeError(
            "stack_module_state: Expected all models to have the same training/eval mode."
        )
    if len({type(m) for m in modules}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    parameters = {
        name: _stacked(name, [dict(m.named_parameters())[name] for m in modules])
        for name, _ in modules[0].named_parameters()
    }
    buffers = {
        name: functions.stack([dict(m.named_buffers())[name] for m in modules])
        for name, _ in modules[0].named_buffers()
    }
    return parameters, buffers


def _stacked(name: str, tensors: Sequence[Tensor]) -> Tensor:
    wanted = {t.requires_grad for t in tensors}
    if len(wanted) > 1:
        raise RuntimeError(
            f"Expected {name} from each model to have the same .requires_grad attribute"
        )
    return functions.stack([t.detach() for t in tensors]).requires_grad_(wanted.pop())


def functionalize(func: Callable[..., Any], *, remove: str = "mutations") -> Callable[..., Any]:
    """Not provided: a trace has no in-place operations to begin with.

    Raises:
        NotImplementedError: always; the message says what to use.
    """
    raise NotImplementedError(
        "functionalize is not provided: dg.trace(func, *args) gives a graph without in-place "
        "operations or views, and dg.compile(func) runs it with the writes carried out"
    )

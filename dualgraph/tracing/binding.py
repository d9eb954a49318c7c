"""The arguments of a traced call by name, and the names of the tensors that it reads."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from dualgraph_compiler.errors import ArgumentError

from .._tensor import Tensor
from . import tree
from .objects import target_of


def spec_for(spec: Any, index: int) -> Mapping[int, Any]:
    """Dimension names by axis for the `index`-th tensor under one parameter."""
    if spec is None:
        return {}
    if isinstance(spec, Mapping):
        return spec
    if spec and isinstance(spec[0], Mapping | tuple | list):
        return spec_for(spec[index] if index < len(spec) else None, 0)
    return {i: d for i, d in enumerate(spec) if d is not None and not isinstance(d, int)}


def dynamic(
    spec: Mapping[str, Any] | Sequence[Any] | None, parameters: list[str]
) -> Mapping[str, Any]:
    """`dynamic_shapes` by the name of the parameter."""
    if spec is None:
        return {}
    if not isinstance(spec, Mapping):
        spec = dict(zip(parameters, spec, strict=False))
    unknown = [k for k in spec if k not in parameters]
    if unknown:
        raise ArgumentError(
            f"dynamic_shapes names {', '.join(map(repr, unknown))}; the parameters are "
            f"{', '.join(map(repr, parameters))}"
        )
    return spec


def bind(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by parameter name; positional-only and unnamed ones as arg0, arg1, ..."""
    target = target_of(function)
    try:
        bound = inspect.signature(target).bind(*args, **kwargs)
    except ValueError:  # a builtin without a signature
        return {**{f"arg{i}": a for i, a in enumerate(args)}, **kwargs}
    except TypeError:  # a decorator may take other arguments than what it wraps
        bound = inspect.signature(target, follow_wrapped=False).bind(*args, **kwargs)
    out: dict[str, Any] = {}
    for key, value in bound.arguments.items():
        kind = bound.signature.parameters[key].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            out.update({f"{key}{i}": v for i, v in enumerate(value)})
        elif kind is inspect.Parameter.VAR_KEYWORD:
            out.update(value)
        else:
            out[key] = value
    return out


def argument_names(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """What the graph's inputs for the tensors among these arguments are called."""
    found: dict[int, str] = {}
    for key, value in bind(function, args, kwargs).items():
        for path, leaf in tree.flatten(value, key):
            if isinstance(leaf, Tensor):
                found.setdefault(id(leaf), path)
    return list(found.values())


def unbind(
    function: Any, named: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The symbolic arguments in the positions and under the keywords of the original call."""
    positional = [v for k, v in named.items() if k not in kwargs][: len(args)]
    return positional, {k: named[k] for k in kwargs}


def name_of(function: Any) -> str:
    """What the graph of a function is called."""
    name = getattr(function, "__name__", None) or type(function).__name__
    return "".join(c if c.isalnum() or c == "_" else "_" for c in name).strip("_") or "graph"


def state_names(function: Any) -> dict[int, str]:
    """Dotted names of a module's tensors; of the modules in a function's closure as well.

    By the identity of the tensors' arrays.
    """
    names: dict[int, str] = {}
    found = [("", function)]
    closure = getattr(function, "__closure__", None) or ()
    variables = getattr(getattr(function, "__code__", None), "co_freevars", ())
    found += list(zip(variables, [_cell(c) for c in closure], strict=True))
    if hasattr(function, "__self__"):
        found.append(("", function.__self__))
        if not hasattr(type(function.__self__), "named_parameters"):
            found += list(getattr(function.__self__, "__dict__", {}).items())
    code = getattr(function, "__code__", None)
    if code is not None:
        found += [(n, function.__globals__.get(n)) for n in code.co_names]
    several = sum(hasattr(type(x), "named_parameters") for _, x in found) > 1
    for prefix, x in found:
        if isinstance(x, Tensor):
            names.setdefault(id(x._data), prefix)
        if hasattr(type(x), "named_parameters"):
            for items in (x.named_parameters(), x.named_buffers()):
                for key, t in items:
                    names.setdefault(id(t._data), f"{prefix}.{key}" if several and prefix else key)
    return names


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None

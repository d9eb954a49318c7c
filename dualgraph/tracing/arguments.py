"""The arguments of a compiled call, taken apart and described by keys."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeAlias

from .._dispatch import current_fn, symbolic
from .._tensor import Tensor
from ..autograd.grad_mode import local
from ..autograd.tape import Leaf
from ..transforms.levels import transforms
from . import tree
from .keys import Same, key_of
from .places import Constants

# Takes the arguments of a call; gives the tensors among them if it is a call like the one known.
Accepts: TypeAlias = Callable[[Sequence[Any]], "list[Tensor] | None"]
# Of these, one object has one key for ever.
KEYED_BY_VALUE = (int, float, bool, str, type(None))


def taken_apart(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Hashable, Hashable, tuple[tuple[int, ...], ...], list[Tensor]]:
    """A key for the kind of call, one for its Python values, the tensors' shapes, the tensors.

    A tensor passed twice is listed once.

    Raises:
        Unkeyed: an argument cannot be compared.
    """
    kind: list[Any] = [local.grad]
    if symbolic.open_graphs and transforms.autocast is not None:
        kind.append(transforms.autocast.key)
    leaves: Any = args
    if kwargs or not all([isinstance(a, Tensor) for a in args]):  # noqa: C419 - faster
        whole = (args, kwargs)
        kind.append(tree.structure(whole))
        leaves = [leaf for _, leaf in tree.flatten(whole)]
        made = [*map(id, tree.containers(whole))]
        if len(set(made)) < len(made):
            kind.append(("containers", *map(made.index, made)))
    tensors: list[Tensor] = []
    shapes = []
    values: list[Any] = []
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            if tensors and (at := [*map(id, tensors)]).count(id(leaf)):
                kind.append(("same", at.index(id(leaf))))
                continue
            tensors.append(leaf)
            data = leaf._data
            wants: Any = leaf._fn is not None if leaf._base is None else leaf.requires_grad
            if wants and not leaf.is_leaf:
                wants = "non-leaf"  # in-place operations on it are legal
            kind.append((data.dtype, len(data.shape), wants))
            shapes.append(data.shape)
        else:
            key = key_of(leaf)
            kind.append(key if type(key) is Same else type(leaf))
            values.append(key)
    return tuple(kind), tuple(values), tuple(shapes), tensors


def acceptance(args: Sequence[Any]) -> Accepts | None:
    """A quick test for calls that have the keys and shapes of a call with these arguments.

    It may say no to such a call, and to one without keywords only it says yes. None where there is
    no such test: for nested arguments, say.
    """
    constants = Constants()
    constants.update(local=local, leaf=Leaf, current_fn=current_fn)
    names = [f"a{i}" for i in range(len(args))]
    lines = [
        f"if len(args) != {len(args)} or local.grad is not {local.grad}: return None",
        *([f"{', '.join(names)}, = args"] if names else []),
    ]
    tensors: list[str] = []
    for i, (name, x) in enumerate(zip(names, args, strict=True)):
        if type(x) in KEYED_BY_VALUE:
            lines.append(f"if {name} is not {constants.name(x)}: return None")
            continue
        if not isinstance(x, Tensor) or any(x is y for y in args[:i]):
            return None
        lines += _like(name, x, constants)
        lines += [f"if {name} is {other}: return None" for other in tensors]
        tensors.append(name)
    body = "\n".join(f"    {line}" for line in lines)
    code = f"def accepts(args):\n{body}\n    return [{', '.join(tensors)}]\n"
    space: dict[str, Any] = constants
    exec(compile(code, "<arguments>", "exec"), space)
    return space["accepts"]  # type: ignore[no-any-return]


def _like(name: str, x: Tensor, constants: Constants) -> list[str]:
    """Code that returns None where `name` is no tensor like `x`."""
    data = x._data
    fn = x._fn if x._base is None else current_fn(x)
    lines = [
        f"if type({name}) is not {constants.name(type(x))}: return None",
        f"d = {name}._data",
        f"if d.dtype is not {constants.name(data.dtype)} or d.shape != {data.shape}: return None",
        f"f = {name}._fn if {name}._base is None else current_fn({name})",
    ]
    if fn is None:
        return [*lines, "if f is not None: return None"]
    if type(fn) is Leaf:
        return [*lines, "if type(f) is not leaf: return None"]
    return [*lines, "if f is None or type(f) is leaf: return None"]

"""Whether a run fits into memory, once its sizes are known and before anything is computed.

A file of a few bytes can ask for any number of elements. Systems promise more memory than they
have, and end a process that uses what it was promised, so waiting for an error is no way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..dims import evaluate, symbols
from ..errors import OutOfMemory
from ..types import TensorType
from .core import Node, Value


def nbytes_of(t: TensorType, env: Mapping[str, int]) -> int | None:
    """The bytes of a value for these sizes; None where they do not tell."""
    count = int(t.dtype.itemsize)
    for d in t.shape:
        if isinstance(d, int):
            count *= d
        elif all(s.name in env for s in symbols(d)):
            count *= max(evaluate(d, env), 0)
        else:
            return None
    return count


def require_fits(
    nodes: Sequence[Node], outputs: Sequence[Value], env: Mapping[str, int], limit: int
) -> None:
    """Raise OutOfMemory if these nodes, in this order, need more than `limit` bytes.

    Neither may one value have more, even one that a view only pretends: who reads it would not
    come to an end. Values of sizes that `env` does not tell do not count.
    """
    last = {v: i for i, node in enumerate(nodes) for v in node.inputs}
    last.update((v, len(nodes)) for v in outputs)
    ending: list[int] = [0] * (len(nodes) + 1)
    alive = 0
    for i, node in enumerate(nodes):
        view = node.op.is_view or node.op.may_alias
        for v in node.outputs:
            size = nbytes_of(v.type, env)
            if size is None:
                continue
            if size > limit:
                raise OutOfMemory(_message(node, f"its result {v.type} takes", size, env, limit))
            if not view:
                alive += size
                ending[last.get(v, i)] += size
        if alive > limit:
            raise OutOfMemory(_message(node, "by then values take", alive, env, limit))
        alive -= ending[i]


def _message(node: Node, what: str, size: int, env: Mapping[str, int], limit: int) -> str:
    where = f" at {node.loc.file}:{node.loc.line}" if node.loc is not None else ""
    name = node.outputs[0].name or node.op.name
    names = {s.name for v in node.outputs for d in v.shape for s in symbols(d)}
    given = ", ".join(f"{n} = {env[n]}" for n in sorted(names) if n in env)
    return (
        f"node {name!r} ({node.op.name}){where}: {what} {size:,} bytes, more than the {limit:,} "
        f"that there are{f'; {given}' if given else ''}"
    )

"""What a piece of a function binds, and where it jumps to."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_LOOPS = (ast.For, ast.While, ast.AsyncFor)


def walk(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes and all below, but nothing of the functions and classes they define."""
    for node in nodes:
        yield node
        if not isinstance(node, _SCOPES):
            yield from walk(ast.iter_child_nodes(node))


def assigned(nodes: Iterable[ast.AST]) -> set[str]:
    """The names of the enclosing function that these nodes bind or delete."""
    return set(_bindings(nodes))


def _bindings(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
                continue
            case ast.Lambda():
                continue
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                # Its targets are its own, but not what ``:=`` binds in it.
                yield from (
                    n.target.id
                    for n in walk(ast.iter_child_nodes(node))
                    if isinstance(n, ast.NamedExpr)
                )
                continue
            case ast.Name(ctx=ast.Store() | ast.Del()):
                yield node.id
            case ast.alias():
                name = node.asname or node.name.partition(".")[0]
                if name != "*":
                    yield name
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() if node.name:
                yield node.name
            case ast.MatchMapping() if node.rest:
                yield node.rest
        yield from _bindings(ast.iter_child_nodes(node))


def declared(nodes: Iterable[ast.AST], kind: type[ast.Global] | type[ast.Nonlocal]) -> set[str]:
    """The names that ``global`` or ``nonlocal`` statements list."""
    return {name for n in walk(nodes) if isinstance(n, kind) for name in n.names}


def jumps(nodes: Iterable[ast.AST]) -> bool:
    """Whether control may leave these statements by return, break or continue."""
    for node in nodes:
        if isinstance(node, ast.Return | ast.Break | ast.Continue):
            return True
        if isinstance(node, _LOOPS):  # whose breaks are their own, but not those of their else
            if returns(node.body) or jumps(node.orelse):
                return True
        elif not isinstance(node, (*_SCOPES, ast.expr)) and jumps(ast.iter_child_nodes(node)):
            return True
    return False


def returns(nodes: Iterable[ast.AST]) -> bool:
    """Whether there is a return statement."""
    return any(isinstance(n, ast.Return) for n in walk(nodes))


def jumps_deeper(block: Iterable[ast.stmt]) -> bool:
    """Whether a jump stands in a compound statement of the block, so that it may not happen."""
    return any(
        not isinstance(s, ast.Return | ast.Break | ast.Continue) and jumps([s]) for s in block
    )


def falls_through(block: list[ast.stmt]) -> bool:
    """Whether control may reach the end of a block, as far as its last statement tells."""
    if not block:
        return True
    last = block[-1]
    if isinstance(last, ast.Return | ast.Break | ast.Continue | ast.Raise):
        return False
    if isinstance(last, ast.If):
        return falls_through(last.body) or falls_through(last.orelse)
    if isinstance(last, ast.With):
        return falls_through(last.body)
    return True


def yields(nodes: Iterable[ast.AST]) -> bool:
    """Whether the statements make their function a generator or coroutine."""
    return any(isinstance(n, ast.Yield | ast.YieldFrom | ast.Await) for n in walk(nodes))


def binds_in_expression(node: ast.AST) -> bool:
    """Whether an expression contains ``:=``."""
    return any(isinstance(n, ast.NamedExpr) for n in walk([node]))

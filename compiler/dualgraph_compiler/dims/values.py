"""Values of sizes: put in for symbols, solved for, read from text."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Mapping

from ..errors import ShapeError
from .expressions import Atom, Dim, DimLike, Symbol
from .functions import floordiv, maximum, minimum, mod

_FUNCTIONS: dict[str, Callable[[DimLike, DimLike], DimLike]] = {
    "floordiv": floordiv,
    "mod": mod,
    "max": maximum,
    "min": minimum,
}
_LARGEST_POWER = 8  # that text may ask for


def evaluate(x: DimLike, env: Mapping[str, int]) -> int:
    """The value of an expression given the values of its symbols.

    Raises:
        ShapeError: a symbol has no value in `env`.
    """
    if isinstance(x, int):
        return x
    return sum(c * math.prod([_atom_value(a, env) for a in m]) for m, c in x.terms)


def _atom_value(atom: Atom, env: Mapping[str, int]) -> int:
    if isinstance(atom, Symbol):
        try:
            return env[atom.name]
        except KeyError:
            raise ShapeError(f"the dimension {atom.name!r} has no value yet") from None
    left, right = evaluate(atom.left, env), evaluate(atom.right, env)
    return left // right if atom.function == "floordiv" else max(left, right)


def substitute(x: DimLike, env: Mapping[str, DimLike]) -> DimLike:
    """`x` with symbols replaced by sizes; symbols that `env` does not name stay."""
    if isinstance(x, int):
        return x
    if x.name is not None:
        return env.get(x.name, x)
    total: DimLike = 0
    for monomial, c in x.terms:
        product: DimLike = c
        for atom in monomial:
            product = product * _atom_substitute(atom, env)
        total = total + product
    return total


def _atom_substitute(atom: Atom, env: Mapping[str, DimLike]) -> DimLike:
    if isinstance(atom, Symbol):
        return env[atom.name] if atom.name in env else Dim._of((((atom,), 1),))
    left, right = substitute(atom.left, env), substitute(atom.right, env)
    return _FUNCTIONS[atom.function](left, right)


def symbols(x: DimLike) -> set[Symbol]:
    """Every symbol that occurs in an expression."""
    found: set[Symbol] = set()
    if isinstance(x, Dim):
        for monomial, _ in x.terms:
            for atom in monomial:
                if isinstance(atom, Symbol):
                    found.add(atom)
                else:
                    found |= symbols(atom.left) | symbols(atom.right)
    return found


def solve(sizes: Iterable[tuple[DimLike, int]]) -> dict[str, int]:
    """The values of symbols for which expressions have the given sizes, as far as these tell.

    A symbol gets its value from a size that it is by itself, or else from one that is linear in it
    and in symbols known by then: ``2*half`` of size 6 gives ``half`` 3. That sizes fit is the
    caller's to check.
    """
    env: dict[str, int] = {}
    waiting = []
    for d, n in sizes:
        if isinstance(d, Dim):
            if d.name is not None:
                env.setdefault(d.name, n)
            else:
                waiting.append((d, n))
    found = True
    while found and waiting:
        found = False
        for d, n in waiting:
            unknown = {s.name for s in symbols(d)} - env.keys()
            if len(unknown) == 1:
                value = _solve_linear(d, n, unknown.pop(), env)
                if value is not None:
                    env.update(value)
                    found = True
    return env


def _solve_linear(d: Dim, n: int, name: str, env: Mapping[str, int]) -> dict[str, int] | None:
    found = as_linear(substitute(d, env) - n)
    return None if found is None else {name: -found[2] // found[1]}


def as_linear(d: DimLike) -> tuple[Symbol, int, int] | None:
    """Symbol, factor and constant of a size ``factor * symbol + constant``; None for others."""
    if not isinstance(d, Dim):
        return None
    (monomial, c), *_ = d.terms
    if len(d.terms) > 2 or len(monomial) != 1 or not isinstance(monomial[0], Symbol):
        return None
    if len(d.terms) == 2 and not d.constant:
        return None
    return monomial[0], c, d.constant


def parse_dim(text: str, named: Mapping[str, Dim] | None = None) -> DimLike:
    """A Dim from its printed form; `named` gives symbols that have bounds.

    Raises:
        ShapeError: the text is not dimension arithmetic.
    """
    try:
        return _from_ast(ast.parse(text.strip(), mode="eval").body, named or {})
    except (SyntaxError, ZeroDivisionError):
        raise ShapeError(f"expected a size such as 3 or 2*batch + 1, got {text!r}") from None


def _from_ast(node: ast.expr, named: Mapping[str, Dim]) -> DimLike:
    match node:
        case ast.Constant(value=int(v)):
            return v
        case ast.Name(id=name):
            return named[name] if name in named else Dim(name)
        case ast.UnaryOp(op=ast.USub(), operand=x):
            return -_from_ast(x, named)
        case ast.BinOp(left=a, op=ast.Pow(), right=ast.Constant(value=int(p))):
            if 0 <= p <= _LARGEST_POWER:
                return _from_ast(a, named) ** p  # type: ignore[no-any-return]
        case ast.BinOp(left=a, op=op, right=b) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_from_ast(a, named), _from_ast(b, named))
        case ast.Call(func=ast.Name(id=f), args=[a, b]) if f in _FUNCTIONS:
            return _FUNCTIONS[f](_from_ast(a, named), _from_ast(b, named))
    raise ShapeError(f"expected a size such as 3 or 2*batch + 1, got {ast.unparse(node)!r}")


_OPERATORS: dict[type[ast.operator], Callable[[DimLike, DimLike], DimLike]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: floordiv,
    ast.Mod: mod,
}

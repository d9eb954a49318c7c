"""From a function to the piece of its source file that defines it."""

from __future__ import annotations
import __future__

import ast
import copy
import functools
import linecache
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import TypeAlias

Definition: TypeAlias = ast.FunctionDef | ast.Lambda

_FUTURE = __future__.annotations.compiler_flag  # the one feature that is optional still


class Unconvertible(Exception):
    """A function whose control flow cannot be rewritten; the message says why."""


def definition(function: FunctionType) -> Definition:
    """The syntax tree of `function`, a copy that may be changed.

    Raises:
        Unconvertible: there is no source, or it is not the source of this function.
    """
    code = function.__code__
    lines = linecache.getlines(code.co_filename, function.__globals__)
    if not lines:
        raise Unconvertible(f"the source of {code.co_qualname!r} is not known")
    text = "".join(lines)
    found = [
        node
        for name, node in _definitions(text, code.co_filename).get(code.co_firstlineno, ())
        if name == code.co_name
    ]
    if not found or not _unchanged(code, text, any(map(_asserts, found))):
        raise Unconvertible(
            f"line {code.co_firstlineno} of {code.co_filename} is not the source of "
            f"{code.co_qualname!r} (any longer)"
        )
    if len(found) > 1:
        found = [node for node in found if _spans(node, code)]
        if len(found) != 1:
            raise Unconvertible(
                f"several functions at {code.co_filename}:{code.co_firstlineno} look like "
                f"{code.co_qualname!r}; put them on lines of their own"
            )
    return copy.deepcopy(found[0])  # the tree is shared by all functions of the file


@functools.lru_cache(maxsize=64)
def _definitions(text: str, file: str) -> dict[int, list[tuple[str, Definition]]]:
    """The functions and lambdas of a file, by their first lines."""
    found: dict[int, list[tuple[str, Definition]]] = {}
    try:
        tree = ast.parse(text, file)
    except (SyntaxError, ValueError) as error:
        raise Unconvertible(f"the source in {file} cannot be parsed: {error}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            line = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            found.setdefault(line, []).append((node.name, node))
        elif isinstance(node, ast.Lambda):
            found.setdefault(node.lineno, []).append(("<lambda>", node))
    return found


def _asserts(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Assert) for n in ast.walk(node))


def _unchanged(code: CodeType, text: str, asserts: bool) -> bool:
    """Whether a file still holds the source of this code.

    Asserts may have been rewritten, as pytest does: then names have to do.
    """
    for found in _codes_of(text, code.co_filename).get((code.co_firstlineno, code.co_name), ()):
        if asserts and found.co_varnames == code.co_varnames[: len(found.co_varnames)]:
            return True
        if _equal(found, code):
            return True
    return False


@functools.lru_cache(maxsize=64)
def _codes_of(text: str, file: str) -> dict[tuple[int, str], list[CodeType]]:
    """All code of a file, by first line and name."""
    out: dict[tuple[int, str], list[CodeType]] = {}

    def collect(code: CodeType) -> None:
        for c in _codes(code):
            out.setdefault((c.co_firstlineno, c.co_name), []).append(c)
            collect(c)

    collect(compile(text, file, "exec", dont_inherit=True))
    return out


def _equal(a: CodeType, b: CodeType) -> bool:
    if (a.co_code, a.co_names, a.co_varnames, a.co_freevars, a.co_cellvars) != (
        b.co_code,
        b.co_names,
        b.co_varnames,
        b.co_freevars,
        b.co_cellvars,
    ):
        return False
    return len(a.co_consts) == len(b.co_consts) and all(
        _equal(x, y)
        if isinstance(x, CodeType) and isinstance(y, CodeType)
        else repr(x) == repr(y) or isinstance(x, frozenset)
        for x, y in zip(a.co_consts, b.co_consts, strict=True)
    )


def _spans(node: Definition, code: CodeType) -> bool:
    """Whether the code stands where the definition does."""
    body = node.body if isinstance(node, ast.Lambda) else node
    inside = [
        (line, column)
        for line, _, column, _ in code.co_positions()
        if line is not None and column is not None and line > 0
    ]
    first = (body.lineno, body.col_offset)
    last = (body.end_lineno or 0, body.end_col_offset or 0)
    own = [p for p in inside if p != (code.co_firstlineno, 0)]
    return all(first <= p <= last for p in own)


# -- compiling ------------------------------------------------------------------------------------


def owner(code: CodeType) -> str | None:
    """The class in whose body a function stands, if any: it decides what ``__x`` means."""
    parts = code.co_qualname.split(".")[:-1]
    while parts:
        if parts[-1] != "<locals>":
            return parts[-1]
        parts = parts[:-2]
    return None


def compiled(
    node: Definition, code: CodeType, free: tuple[str, ...], class_name: str | None
) -> CodeType:
    """`node` compiled as `code` was: in its file, as part of its class, with these free names."""
    function: ast.stmt
    if isinstance(node, ast.Lambda):
        plain = ast.Lambda(args=_bare(node.args), body=node.body)
        function = ast.Expr(ast.copy_location(plain, node))
    else:
        # Not by its own name, which its body may mean something else by.
        function = define("_dualgraph_function", _bare(node.args), node.body)
    ast.copy_location(function, node)
    body: list[ast.stmt] = [function]
    if class_name is not None:
        held = ast.parse(f"class {class_name}: pass").body[0]
        assert isinstance(held, ast.ClassDef)
        held.body = body
        body = [held]
        if class_name not in free:
            body.insert(0, ast.Global([class_name]))
    names = [ast.arg(name) for name in free if name != "__class__" or class_name is None]
    outer = define("_factory", ast.arguments([], names, None, [], [], None, []), body)
    module = ast.fix_missing_locations(ast.Module([outer], []))
    made = compile(module, code.co_filename, "exec", code.co_flags & _FUTURE, dont_inherit=True)
    found = _only_code(made)
    if class_name is not None:
        found = _only_code(found)
    return _only_code(found)


def define(name: str, args: ast.arguments, body: list[ast.stmt]) -> ast.FunctionDef:
    """``def name(args): body``."""
    made = ast.parse(f"def {name}(): pass").body[0]
    assert isinstance(made, ast.FunctionDef)
    made.args, made.body = args, body
    return made


def _bare(args: ast.arguments) -> ast.arguments:
    """Parameters without annotations and defaults, which belong to the function object."""

    def bare(a: ast.arg | None) -> ast.arg | None:
        return None if a is None else ast.copy_location(ast.arg(a.arg), a)

    return ast.arguments(
        posonlyargs=[bare(a) for a in args.posonlyargs],  # type: ignore[misc]
        args=[bare(a) for a in args.args],  # type: ignore[misc]
        vararg=bare(args.vararg),
        kwonlyargs=[bare(a) for a in args.kwonlyargs],  # type: ignore[misc]
        kw_defaults=[None for _ in args.kwonlyargs],
        kwarg=bare(args.kwarg),
        defaults=[],
    )


def _only_code(code: CodeType) -> CodeType:
    return next(_codes(code))


def _codes(code: CodeType) -> Iterator[CodeType]:
    return (c for c in code.co_consts if isinstance(c, CodeType))

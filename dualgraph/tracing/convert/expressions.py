"""Expressions, rewritten so that what decides on a value asks :mod:`.runtime` first.

Calls go through it (so that the called function is rewritten, too), and whatever changes an object
(so that a branch which may not be taken changes none).
"""

from __future__ import annotations

import ast
from typing import Any

from .analysis import binds_in_expression
from .source import Unconvertible

HELPER = "_dualgraph_"  # the name under which rewritten code finds the runtime

THUNK = "_dualgraph_nothing"

# Functions that look at the frame they are called from.
_FRAME = {"locals", "eval", "exec"}
_FRAME_WITHOUT_ARGUMENTS = {"vars", "dir"}
_LEFT_ALONE = {"globals", "super", "breakpoint"}


def name(id: str, ctx: ast.expr_context | None = None) -> ast.Name:
    """A name, read unless `ctx` says otherwise."""
    return ast.Name(id, ctx or ast.Load())


def helper(function: str, *args: ast.expr, at: ast.AST | None = None, **keywords: Any) -> ast.Call:
    """A call of a function of the runtime, in the place of `at`."""
    function_ = ast.Attribute(name(HELPER), function, ast.Load())
    options = [ast.keyword(k, ast.Constant(v)) for k, v in keywords.items()]
    made = ast.Call(function_, list(args), options)
    return ast.copy_location(made, at) if at is not None else made


def thunk(body: ast.expr) -> ast.Lambda:
    """``lambda: body``, recognised by a parameter that nothing is passed for."""
    nothing = ast.arguments([], [], ast.arg(THUNK), [], [], None, [])
    return ast.copy_location(ast.Lambda(nothing, body), body)


class Expressions(ast.NodeTransformer):
    """Rewrites expressions of one function; `first` is the name of its first parameter."""

    def __init__(self, first: str | None = None) -> None:
        self.first = first

    def test(self, node: ast.expr) -> ast.expr:
        """An expression of which only the truth matters."""
        match node:
            case ast.BoolOp() if not any(map(binds_in_expression, node.values[1:])):
                values = [self.test(v) for v in node.values]
                return self._connected(node, values, "_test")
            case ast.UnaryOp(ast.Not(), operand):
                return helper("not_", self.test(operand), at=node)
        return self.visit(node)  # type: ignore[no-any-return]

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        if any(map(binds_in_expression, node.values[1:])):
            return self.generic_visit(node)
        return self._connected(node, [self.visit(v) for v in node.values], "")

    def _connected(self, node: ast.BoolOp, values: list[ast.expr], suffix: str) -> ast.expr:
        which = "and_" if isinstance(node.op, ast.And) else "or_"
        return helper(
            which.rstrip("_") + (suffix or "_"), values[0], *map(thunk, values[1:]), at=node
        )

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        return self.test(node) if isinstance(node.op, ast.Not) else self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        if binds_in_expression(node.body) or binds_in_expression(node.orelse):
            return self.generic_visit(node)
        arms = [thunk(self.visit(x)) for x in (node.body, node.orelse)]
        made = helper("choose", self.test(node.test), *arms, at=node.test)
        return made

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if len(node.ops) == 1:
            if not isinstance(node.ops[0], ast.In | ast.NotIn):
                return self.generic_visit(node)
            pair = [self.visit(node.left), self.visit(node.comparators[0])]
            return helper("contains", *pair, at=node, negated=isinstance(node.ops[0], ast.NotIn))
        if any(map(binds_in_expression, node.comparators)):
            return self.generic_visit(node)
        parts: list[ast.expr] = [self.visit(node.left)]
        for op, right in zip(node.ops, node.comparators, strict=True):
            parts += [ast.Constant(type(op).__name__), thunk(self.visit(right))]
        return helper("chain", *parts, at=node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name):
            called, bare = node.func.id, not node.args and not node.keywords
            if called in _FRAME or (called in _FRAME_WITHOUT_ARGUMENTS and bare):
                raise Unconvertible(f"line {node.lineno} calls {called}()")
            if called == "super" and bare and self.first is not None:
                node.args = [name("__class__"), name(self.first)]
                return node
            if called in _LEFT_ALONE:
                return self.generic_visit(node)
        self.generic_visit(node)
        function = ast.Attribute(name(HELPER), "call", ast.Load())
        made = ast.Call(function, [node.func, *node.args], node.keywords)
        return ast.copy_location(made, node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        node.args = self.visit(node.args)
        first, self.first = self.first, None
        node.body = self.visit(node.body)
        self.first = first
        return node

    # -- objects that are made or changed ---------------------------------------------------------

    def visit_List(self, node: ast.List) -> ast.AST:
        self.generic_visit(node)
        return helper("new", node, at=node) if isinstance(node.ctx, ast.Load) else node

    def _made(self, node: ast.expr) -> ast.AST:
        self.generic_visit(node)
        return helper("new", node, at=node)

    visit_Dict = visit_Set = visit_ListComp = visit_DictComp = visit_SetComp = _made

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            node.value = helper("target", node.value, ast.Constant(f".{node.attr}"), at=node)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            node.value = helper("target", node.value, ast.Constant("[...]"), at=node)
        return node

    def augment(self, node: ast.AugAssign) -> ast.stmt:
        """``target op= value`` as a call that checks the target, and what it made of it stored."""
        op = ast.Constant(type(node.op).__name__)
        target, value = node.target, self.visit(node.value)
        made: ast.stmt
        if isinstance(target, ast.Name):
            result = helper("augment", op, name(target.id), value, at=node)
            made = ast.Assign([target], result)
        elif binds_in_expression(node.value) or _is_private(target):
            made = ast.AugAssign(self.visit(target), node.op, value)
        elif isinstance(target, ast.Attribute):
            held = [self.visit(target.value), ast.Constant(target.attr)]
            made = ast.Expr(helper("augment_attribute", op, *held, thunk(value), at=node))
        else:
            held = [self.visit(target.value), self.visit(_index(target.slice))]
            made = ast.Expr(helper("augment_item", op, *held, thunk(value), at=node))
        return ast.copy_location(made, node)


def _is_private(target: ast.expr) -> bool:
    return isinstance(target, ast.Attribute) and target.attr.startswith("__")


def _index(node: ast.expr) -> ast.expr:
    """An index as an expression that can stand anywhere: ``a:b`` as ``slice(a, b, None)``."""
    if isinstance(node, ast.Slice):
        parts = [x or ast.Constant(None) for x in (node.lower, node.upper, node.step)]
        return helper("slice", *parts, at=node)
    if isinstance(node, ast.Tuple):
        return ast.copy_location(ast.Tuple([_index(x) for x in node.elts], ast.Load()), node)
    return node

"""Statements, rewritten so that a tensor may decide what runs.

The pieces of an ``if`` or loop become local functions that share the variables of the function
around them (``nonlocal``), and a call of :mod:`.runtime` runs one of them, or several, or records
both in the graph. The runtime reads and writes the variables through the cells of a lambda that
mentions them::

    if x.sum() > 0:                         def then():
        y = x                                   nonlocal y; y = x
    else:                          ->       def orelse():
        y = -x                                  nonlocal y; y = -x
                                            rt.if_(rt.call(x.sum) > 0, then, orelse, lambda: (y,))

Jumps. In such a function ``return v``, ``break`` and ``continue`` return a *signal* that says so;
None is the end of the block. Where an ``if`` may jump, the statements after it move into its
branches, so that what it gives is what the whole block gives.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TypeVar

from . import analysis
from .analysis import assigned, falls_through, jumps, jumps_deeper, returns
from .expressions import Expressions, helper, name, thunk
from .source import Definition, Unconvertible, define

_N = TypeVar("_N", bound=ast.AST)
PREFIX = "_dualgraph_"  # of the names of generated functions


class Mode(Enum):
    """What stands around a block: what its jumps become."""

    FUNCTION = "the function itself: return is return"
    TAIL = "a piece of the function at whose end the function ends: return gives a signal"
    PIECE = "any other piece: return, break and continue give a signal"

    @property
    def below(self) -> Mode:
        """The mode of a piece that takes over the rest of a block in this mode."""
        return Mode.PIECE if self is Mode.PIECE else Mode.TAIL


class _Rest(ast.stmt):
    """Stands for the statements after an ``if``, which are in a function of their own."""

    _fields = ()

    def __init__(self, function: str, names: set[str]) -> None:
        self.function = function
        self.names = names


def rewrite(node: Definition) -> None:
    """Rewrite a function in place.

    Raises:
        Unconvertible: it does something that cannot be rewritten.
    """
    if isinstance(node, ast.Lambda):
        node.body = Expressions().visit(node.body)
        return
    if analysis.yields(node.body):
        raise Unconvertible(f"{node.name!r} is a generator")
    _Function(node).rewrite()


class _Function:
    def __init__(self, node: ast.FunctionDef) -> None:
        self.node = node
        a = node.args
        parameters = [*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg]
        self.parameters = [p.arg for p in parameters if p is not None]
        positional = [*a.posonlyargs, *a.args]
        self.expressions = Expressions(positional[0].arg if positional else None)
        self.globals = analysis.declared(node.body, ast.Global)
        self.nonlocals = analysis.declared(node.body, ast.Nonlocal)
        self.counter = itertools.count()

    def rewrite(self) -> None:
        body = self.node.body
        own = assigned(body) - {*self.parameters} - self.globals - self.nonlocals
        first: list[ast.stmt] = []
        if self.globals:
            first.append(ast.Global(sorted(self.globals)))
        if self.nonlocals:
            first.append(ast.Nonlocal(sorted(self.nonlocals)))
        if own:  # never runs, but makes them variables of this function
            targets: list[ast.expr] = [name(n, ast.Store()) for n in sorted(own)]
            bound = ast.Assign(targets, ast.Constant(None))
            first.append(ast.If(ast.Constant(False), [bound], []))
        made = [ast.copy_location(s, body[0]) for s in first]
        self.node.body = [*made, *self.block(body, Mode.FUNCTION)]

    # -- blocks -----------------------------------------------------------------------------------

    def block(self, statements: Sequence[ast.stmt], mode: Mode) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for i, s in enumerate(statements):
            rest = list(statements[i + 1 :])
            if isinstance(s, ast.If) and jumps([s]):
                return [*out, *self.jumping_if(s, rest, mode)]
            if isinstance(s, ast.While | ast.For):
                made, signal = self.loop(s)
                out += made
                if not returns(s.body) and not jumps(s.orelse):
                    out.append(_at(ast.Expr(signal), s))
                    continue
                return [*out, *self.after(signal, s, rest, mode)]
            if isinstance(s, ast.With | ast.Try | ast.Match) and any(
                jumps_deeper(b) for b in _blocks(s)
            ):
                return [*out, *self.jumping_compound(s, rest, mode)]
            out += self.statement(s, mode)
        return out

    def statement(self, s: ast.stmt, mode: Mode) -> list[ast.stmt]:
        """A statement after which the next one runs, unless it is a jump itself."""
        e = self.expressions
        match s:
            case _Rest():
                return [_at(ast.Return(ast.Call(name(s.function), [], [])), s)]
            case ast.Return():
                value = e.visit(s.value) if s.value is not None else ast.Constant(None)
                if mode is not Mode.FUNCTION:
                    value = helper("Return", value, at=s)
                return [_at(ast.Return(value), s)]
            case ast.Break():
                return [_at(ast.Return(helper("break_", at=s)), s)]
            case ast.Continue():
                return [_at(ast.Return(helper("continue_", at=s)), s)]
            case ast.If():
                return self.plain_if(s)
            case ast.With():
                for item in s.items:
                    item.context_expr = e.visit(item.context_expr)
                    if item.optional_vars is not None:
                        item.optional_vars = e.visit(item.optional_vars)
                written = [i.optional_vars for i in s.items if i.optional_vars is not None]
                s.body = self.block(s.body, mode)
                return [*self.checks(written, s), s]
            case ast.Try():
                for part in ("body", "orelse", "finalbody"):
                    setattr(s, part, self.block(getattr(s, part), mode))
                for handler in s.handlers:
                    handler.type = e.visit(handler.type) if handler.type is not None else None
                    handler.body = self.block(handler.body, mode)
                return [s]
            case ast.Match():
                s.subject = e.visit(s.subject)
                for case in s.cases:
                    case.guard = e.visit(case.guard) if case.guard is not None else None
                    case.body = self.block(case.body, mode)
                return [s]
            case ast.Global() | ast.Nonlocal():
                return [_at(ast.Pass(), s)]  # declared at the top
            case ast.FunctionDef():
                return self.inner_function(s)
            case ast.ClassDef():
                s.decorator_list = [e.visit(d) for d in s.decorator_list]
                return [*self.checks([s], s), s]
            case ast.AsyncFunctionDef():
                return [*self.checks([s], s), s]
            case ast.AsyncWith() | ast.AsyncFor() | ast.TryStar():
                raise Unconvertible(f"line {s.lineno} has a statement that is not supported")
            case ast.Assert():
                message = thunk(e.visit(s.msg)) if s.msg is not None else ast.Constant(None)
                return [_at(ast.Expr(helper("assert_", e.test(s.test), message, at=s.test)), s)]
            case ast.AugAssign():
                return [*self.checks([s], s), e.augment(s)]
            case ast.AnnAssign():
                return self.annotated(s)
        return [*self.checks([s], s), e.visit(s)]

    def annotated(self, s: ast.AnnAssign) -> list[ast.stmt]:
        """Without the annotation, which a shared variable cannot have."""
        if s.value is None:
            return [_at(ast.Pass(), s)]
        made = ast.Assign([self.expressions.visit(s.target)], self.expressions.visit(s.value))
        return [*self.checks([s], s), _at(made, s)]

    def checks(self, nodes: Iterable[ast.AST], at: ast.stmt) -> list[ast.stmt]:
        """For variables that live longer than the call: nothing that may not run writes to them."""
        names = assigned(nodes) & (self.globals | self.nonlocals)
        return [_at(ast.Expr(helper("outer", ast.Constant(n), at=at)), at) for n in sorted(names)]

    def inner_function(self, s: ast.FunctionDef) -> list[ast.stmt]:
        s.decorator_list = [self.expressions.visit(d) for d in s.decorator_list]
        s.args.defaults = [self.expressions.visit(d) for d in s.args.defaults]
        s.args.kw_defaults = [d and self.expressions.visit(d) for d in s.args.kw_defaults]
        if not analysis.yields(s.body):
            _Function(s).rewrite()
        return [*self.checks([s], s), s]

    # -- branches ---------------------------------------------------------------------------------

    def plain_if(self, s: ast.If) -> list[ast.stmt]:
        then, orelse = self.new("then"), self.new("else")
        cells = self.cells(self.names([s]))
        test = self.expressions.test(s.test)
        call = helper("if_", test, name(then), name(orelse), cells, at=s.test)
        return [
            self.piece(then, s.body, Mode.PIECE, s),
            self.piece(orelse, s.orelse, Mode.PIECE, s),
            _at(ast.Expr(call), s),
        ]

    def jumping_if(self, s: ast.If, rest: list[ast.stmt], mode: Mode) -> list[ast.stmt]:
        """An ``if`` that takes the rest of its block into its branches."""
        out: list[ast.stmt] = []
        then, orelse = self.new("then"), self.new("else")
        cells = self.cells(self.names([s, *rest]))
        branches = [list(s.body), list(s.orelse)]
        reaching = [b for b in branches if falls_through(b)]
        if len(reaching) == 2 and len(rest) > 0:
            after = self.new("rest")
            marker = _at(_Rest(after, self.names(rest)), rest[0])
            out.append(self.piece(after, rest, mode.below, rest[0]))
            rest = [marker]
        for b in reaching:
            b.extend(rest)
        test = self.expressions.test(s.test)
        call = helper(
            "if_", test, name(then), name(orelse), cells, at=s.test, final=mode is not Mode.PIECE
        )
        out += [
            self.piece(then, branches[0], mode.below, s),
            self.piece(orelse, branches[1], mode.below, s),
        ]
        return [*out, self.end(call, s, mode)]

    # -- loops and other statements with blocks ----------------------------------------------------

    def loop(self, s: ast.While | ast.For) -> tuple[list[ast.stmt], ast.expr]:
        """Definitions, and the expression that runs the loop and gives its signal."""
        body, orelse = self.new("body"), self.new("else")
        names = self.names([s])
        out: list[ast.stmt] = []
        if isinstance(s, ast.While):
            test = self.new("test")
            value = ast.Return(self.expressions.test(s.test))
            out.append(self.defined(test, [_at(value, s.test)], assigned([s.test]), s))
            out.append(self.piece(body, s.body, Mode.PIECE, s))
            given: list[ast.expr] = [name(test), name(body)]
            which, at = "while_", s.test
        else:
            item = self.new("item")
            target = _at(ast.Assign([s.target], name(item)), s.target)
            out.append(self.piece(body, [target, *s.body], Mode.PIECE, s, item))
            given = [self.expressions.visit(s.iter), name(body)]
            which, at = "for_", s.iter
        given.append(self.cells(names))
        if s.orelse:
            out.append(self.piece(orelse, s.orelse, Mode.PIECE, s))
            given.append(name(orelse))
        return out, helper(which, *given, at=at)

    def jumping_compound(
        self, s: ast.With | ast.Try | ast.Match, rest: list[ast.stmt], mode: Mode
    ) -> list[ast.stmt]:
        """A statement whose blocks may jump: each gives a signal, looked at afterwards."""
        if isinstance(s, ast.Try) and ((s.orelse and jumps(s.body)) or jumps(s.finalbody)):
            raise Unconvertible(f"line {s.lineno} jumps out of a try statement with an else")
        signal = self.new("signal")
        begin = _at(ast.Assign([name(signal, ast.Store())], ast.Constant(None)), s)
        out: list[ast.stmt] = [begin]
        owners: list[tuple[ast.AST, str]] = []
        if isinstance(s, ast.Match):
            owners = [(case, "body") for case in s.cases]
        else:
            owners = [(s, "body")]
            if isinstance(s, ast.Try):
                owners += [(h, "body") for h in s.handlers]
                owners += [(s, "orelse")] if s.orelse else []
        after = self.after(name(signal), s, rest, mode)
        for owner, part in owners:
            piece = self.new("block")
            made = self.piece(piece, getattr(owner, part), Mode.PIECE, s)
            call = ast.Assign([name(signal, ast.Store())], ast.Call(name(piece), [], []))
            setattr(owner, part, [made, _at(call, s)])
        out += self.shell(s)
        return [*out, *after]

    def shell(self, s: ast.With | ast.Try | ast.Match) -> list[ast.stmt]:
        """The statement whose blocks are rewritten already."""
        e = self.expressions
        if isinstance(s, ast.With):
            for item in s.items:
                item.context_expr = e.visit(item.context_expr)
                if item.optional_vars is not None:
                    item.optional_vars = e.visit(item.optional_vars)
        elif isinstance(s, ast.Try):
            for handler in s.handlers:
                handler.type = e.visit(handler.type) if handler.type is not None else None
            s.finalbody = self.block(s.finalbody, Mode.FUNCTION)
        else:
            s.subject = e.visit(s.subject)
            for case in s.cases:
                case.guard = e.visit(case.guard) if case.guard is not None else None
        return [s]

    def after(
        self, signal: ast.expr, s: ast.stmt, rest: list[ast.stmt], mode: Mode
    ) -> list[ast.stmt]:
        """The rest of a block, unless `signal` says that control is elsewhere."""
        following = self.new("rest")
        cells = self.cells(self.names(rest))
        final = mode is not Mode.PIECE
        call = helper("after", signal, name(following), cells, at=s, final=final)
        return [self.piece(following, rest, mode.below, s), self.end(call, s, mode)]

    # -- parts ------------------------------------------------------------------------------------

    def new(self, stem: str) -> str:
        return f"{PREFIX}{stem}{next(self.counter)}"

    def names(self, statements: Sequence[ast.stmt]) -> set[str]:
        """The variables that statements write to."""
        found = assigned(statements) - self.globals
        for n in analysis.walk(statements):
            if isinstance(n, _Rest):
                found |= n.names
        return found

    def cells(self, names: set[str]) -> ast.expr:
        if not names:
            return ast.Constant(None)
        return thunk(ast.Tuple([name(n) for n in sorted(names)], ast.Load()))

    def piece(
        self, function: str, block: list[ast.stmt], mode: Mode, at: ast.AST, parameter: str = ""
    ) -> ast.stmt:
        """A local function of a block's statements."""
        names = assigned(block)
        return self.defined(function, self.block(block, mode), names, at, parameter)

    def defined(
        self, function: str, body: list[ast.stmt], names: set[str], at: ast.AST, parameter: str = ""
    ) -> ast.stmt:
        own, shared = names - self.globals, names & self.globals
        first: list[ast.stmt] = []
        if own:
            first.append(ast.Nonlocal(sorted(own)))
        if shared:
            first.append(ast.Global(sorted(shared)))
        args = ast.arguments([], [ast.arg(parameter)] if parameter else [], None, [], [], None, [])
        return _at(define(function, args, [*first, *body] or [ast.Pass()]), at)

    def end(self, signal: ast.expr, at: ast.stmt, mode: Mode) -> ast.stmt:
        """Give a signal; the function itself gives what it says is returned."""
        if mode is Mode.FUNCTION:
            signal = helper("result", signal, at=at)
        return _at(ast.Return(signal), at)


def _blocks(s: ast.With | ast.Try | ast.Match) -> list[list[ast.stmt]]:
    if isinstance(s, ast.With):
        return [s.body]
    if isinstance(s, ast.Match):
        return [case.body for case in s.cases]
    return [s.body, *(h.body for h in s.handlers), s.orelse, s.finalbody]


def _at(made: _N, place: ast.AST) -> _N:
    return ast.copy_location(made, place)

"""What Python data the code of a function may read and write, found in its bytecode.

A *path* starts at an argument, a free variable or a global and goes on by attributes and constant
indices: ``self.cfg["p"]``. Attributes of anything else (of a loop variable, of what a call gave)
are *loose*: only their name is known.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from inspect import CO_OPTIMIZED
from types import CodeType
from typing import Any, Literal, NamedTuple, TypeAlias

from .opcodes import KNOWN, Instruction, instructions

Kind: TypeAlias = Literal["local", "free", "global", "import", "attr", "item"]


class Step(NamedTuple):
    """One step of a path: where it starts, or an attribute or index."""

    kind: Kind
    key: Any


Path: TypeAlias = tuple[Step, ...]

VALUE = "value"  # the value itself is used: a number computed with, a list iterated over
BASE = "base"  # only attributes or elements of it are used
STORE = "store"  # it is assigned to
INCREMENT = "increment"  # it is added to (``+= 1``) and not looked at otherwise
IDENTITY = "identity"  # it may be compared by ``is``
METHOD = "."  # followed by the name: a method of it is called

# Names that reach attributes by strings that may be computed.
_BY_STRING = frozenset(("getattr", "setattr", "hasattr", "delattr"))
_WILD = frozenset(
    (
        *("vars", "__dict__", "__getattribute__", "attrgetter", "__setattr__", "dir", "__dir__"),
        *("getattr_static", "getmembers"),
    )
)
# ... that reach all globals, any module, and variables of the environment.
_SCOPES = frozenset(("globals", "__globals__"))
_MODULES = frozenset(("import_module", "__import__"))
_ENVIRONMENT = frozenset(("environ", "getenv", "environb", "getenvb"))
# A format that looks into what it is given: "{0.name}", "{[key]}".
_LOOKS_INSIDE = re.compile(r"\{[^{}:!]*[.\[]")


@dataclass
class CodeFacts:
    """What the code of a function (not of functions inside it) reads and writes.

    `uses` says of every path how it is used; `loose` and `loose_methods` are names of attributes
    read of unknown objects, `loose_stores` of those assigned to. With `wild`, attributes are
    reached by names that are not in the code; with `scopes`, globals are, with `modules`, modules,
    and with `environment`, variables of the environment. `compares_identity`: there is an ``is``
    other than ``is None``.
    """

    uses: dict[Path, set[str]] = field(default_factory=dict)
    loose: set[str] = field(default_factory=set)
    loose_methods: set[str] = field(default_factory=set)
    loose_stores: set[str] = field(default_factory=set)
    wild: bool = False
    scopes: bool = False
    modules: bool = False
    environment: bool = False
    compares_identity: bool = False

    @functools.cached_property
    def roots(self) -> list[str]:
        """The variables of the function that paths start at."""
        return list({path[0].key for path in self.uses if path[0].kind in ("local", "free")})

    def use(self, path: Path, how: str) -> None:
        """Note a use of a path, and that the paths before it are bases."""
        self.uses.setdefault(path, set()).add(how)
        for end in range(1, len(path)):
            self.uses.setdefault(path[:end], set()).add(BASE)


_known: dict[CodeType, CodeFacts] = {}


def facts_of(code: CodeType) -> CodeFacts:
    """What `code` reads and writes; asked once for each code object."""
    found = _known.get(code)
    if found is None:
        found = _known[code] = _Reader(code).read()
    return found


class _Reader:
    """Goes once through the instructions of a code object."""

    def __init__(self, code: CodeType) -> None:
        self.code = code
        self.list = list(instructions(code))
        self.facts = CodeFacts()
        flags = bool(code.co_flags & 4) + bool(code.co_flags & 8)
        count = code.co_argcount + code.co_kwonlyargcount + flags
        arguments = set(code.co_varnames[:count])
        stored: dict[str, int] = {}
        for i in self.list:
            if i.op in ("STORE_FAST", "STORE_DEREF", "DELETE_FAST", "DELETE_DEREF"):
                stored[i.arg] = stored.get(i.arg, 0) + 1
        # A name that always means what was passed, or what one assignment gave it.
        self.arguments = {a for a in arguments if a not in stored}
        self.once = {n for n, count in stored.items() if count == 1 and n not in arguments}
        self.aliases: dict[str, Path] = {}
        self.consumed: set[int] = set()
        self.loaded: set[str] = set()  # names of variables loaded so far
        for name in arguments & stored.keys():  # a comprehension may store to it, and put it back
            self.facts.use((Step("local", name),), BASE)

    def read(self) -> CodeFacts:
        facts, code = self.facts, self.code
        for at, i in enumerate(self.list):
            if i.op in ("LOAD_GLOBAL", "LOAD_ATTR", "IMPORT_FROM"):
                self._reach(at, i)
            root = self._root(i)
            if i.op == "LOAD_FAST":
                self.loaded.add(i.arg)
            if root is not None:
                self._follow(at, root)
            elif i.op == "MATCH_CLASS":
                self._matched(at)
            elif i.op == "IS_OP" and self._at(at - 1).op != "LOAD_CONST":
                facts.compares_identity = True
            elif i.op == "LOAD_ATTR":
                if at not in self.consumed or i.target:
                    (facts.loose_methods if i.method else facts.loose).add(i.arg)
            elif i.op in ("STORE_ATTR", "DELETE_ATTR") and at not in self.consumed:
                facts.loose_stores.add(i.arg)
            elif at in self.consumed:
                continue
            elif i.op in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                facts.use((Step("global", i.arg),), STORE)
            elif i.op in ("STORE_DEREF", "DELETE_DEREF") and i.arg in code.co_freevars:
                facts.use((Step("free", i.arg),), STORE)
        for i in self.list:
            if i.op not in KNOWN:
                self._unknown(i)
        if (Step("global", "super"),) in facts.uses and code.co_argcount:
            facts.use((Step("local", code.co_varnames[0]),), BASE)  # it may not be loaded
        for inner in code.co_consts:
            if isinstance(inner, CodeType) and not inner.co_flags & CO_OPTIMIZED:
                self._class_body(facts_of(inner))
        return facts

    def _reach(self, at: int, i: Instruction) -> None:
        """Note a name that leads to more than the code says."""
        facts = self.facts
        facts.wild |= i.arg in _WILD
        facts.scopes |= i.arg in _SCOPES
        facts.environment |= i.arg in _ENVIRONMENT
        facts.modules |= i.arg in _MODULES
        before = self._at(at - 1) if at else Instruction("", None, False)
        if i.arg == "modules" and before.op == "LOAD_GLOBAL" and before.arg == "sys":
            facts.modules = True
        if i.arg in ("format", "format_map") and i.op == "LOAD_ATTR":
            known = before.op == "LOAD_CONST" and isinstance(before.arg, str)
            facts.wild |= not known or _LOOKS_INSIDE.search(before.arg) is not None

    def _unknown(self, i: Instruction) -> None:
        """Note all that an instruction may do of which nothing is known but the name in it."""
        facts, code = self.facts, self.code
        facts.wild = facts.compares_identity = True
        roots: list[Step] = []
        if i.arg in code.co_names:
            facts.loose.add(i.arg)
            facts.loose_stores.add(i.arg)
            roots += [Step("global", i.arg), Step("import", i.arg)]
        if i.arg in code.co_freevars:
            roots.append(Step("free", i.arg))
        for root in roots:
            facts.use((root,), VALUE)
            facts.use((root,), STORE)
        for name in (*self.arguments, *self.aliases):  # it may load any of them
            facts.use(self.aliases.get(name, (Step("local", name),)), VALUE)

    def _matched(self, at: int) -> None:
        """Note the attributes that ``case Class(0, name=0)`` reads."""
        facts, names = self.facts, self._at(at - 1)
        facts.loose.add("__match_args__")
        if self._at(at).arg or names.op != "LOAD_CONST":
            facts.wild = True  # those in __match_args__
        else:
            facts.loose.update(names.arg)

    def _class_body(self, inner: CodeFacts) -> None:
        """Note what the body of a class made here reads of the variables around it."""
        for path, uses in inner.uses.items():
            name = path[0].key
            if path[0].kind != "free":
                continue
            if name in self.code.co_freevars or name in self.arguments:
                kind: Kind = "free" if name in self.code.co_freevars else "local"
                for how in uses:
                    self.facts.use((Step(kind, name), *path[1:]), how)
            else:
                self.facts.loose.update(step.key for step in path if step.kind == "attr")

    def _root(self, i: Instruction) -> Path | None:
        if i.op == "LOAD_FAST":
            if i.arg in self.arguments:
                return (Step("local", i.arg),)
            return self.aliases.get(i.arg)
        if i.op == "LOAD_DEREF":
            if i.arg in self.code.co_freevars:
                return (Step("free", i.arg),)
            return (Step("local", i.arg),) if i.arg in self.arguments else None
        if i.op == "IMPORT_NAME":
            return (Step("import", i.arg),)
        if i.op == "LOAD_GLOBAL":
            return (Step("global", i.arg),)
        return None

    def _at(self, at: int) -> Instruction:
        return self.list[at] if at < len(self.list) else Instruction("", None, False)

    def _ops(self, at: int, count: int) -> list[str]:
        return [self._at(at + k).op for k in range(count)]

    def _follow(self, start: int, path: Path) -> None:
        """Take steps from a path that was just loaded, and note how what it ends at is used."""
        facts = self.facts
        if self._added_to(start, path):
            return
        at = start + 1
        while True:
            i = self._at(at)
            if i.op == "LOAD_ATTR":
                self.consumed.add(at)
                if i.method:
                    facts.use(path, METHOD + i.arg)
                    facts.use((*path, Step("attr", i.arg)), BASE)
                    return
                path = (*path, Step("attr", i.arg))
                facts.uses.setdefault(path, set())
                at += 1
            elif i.op == "IMPORT_FROM":
                facts.use((*path, Step("attr", i.arg)), VALUE)
                at += 2
            elif self._ops(at, 2) == ["COPY", "LOAD_ATTR"] and i.arg == 1:
                self._augmented(at, path)
                return
            elif self._ops(at, 2) == ["LOAD_CONST", "BINARY_SUBSCR"] and type(i.arg) is not slice:
                path = (*path, Step("item", i.arg))
                at += 2
            elif self._ops(at, 2) == ["LOAD_CONST", "STORE_SUBSCR"]:
                facts.use((*path, Step("item", i.arg)), STORE)
                return
            elif self._ops(at, 4) == ["LOAD_CONST", "COPY", "COPY", "BINARY_SUBSCR"]:
                self._augmented_item(at, path)
                return
            elif i.op in ("STORE_ATTR", "DELETE_ATTR"):
                self.consumed.add(at)
                facts.use((*path, Step("attr", i.arg)), STORE)
                return
            elif i.op == "STORE_FAST" and i.arg in self.once:
                self.aliases[i.arg] = path
                facts.use(path, VALUE if i.arg in self.loaded else BASE)  # loaded in a loop
                return
            else:
                if not self._by_string(start, at, path):
                    facts.use(path, VALUE)
                return

    def _by_string(self, start: int, at: int, path: Path) -> bool:
        """Note ``getattr(path, "name")`` and the like; whether it is that, with a constant name."""
        before = self._at(start - 1) if start else Instruction("", None, False)
        if before.op != "LOAD_GLOBAL" or before.arg not in _BY_STRING:
            # The function itself is loaded: it is judged by the argument after it.
            return len(path) == 1 and path[0].kind == "global" and path[0].key in _BY_STRING
        name = self._at(at)
        if name.op == "LOAD_CONST" and isinstance(name.arg, str) and self._is_passed(at):
            how = STORE if before.arg in ("setattr", "delattr") else VALUE
            self.facts.use((*path, Step("attr", name.arg)), how)
            return True
        self.facts.wild = True
        return False

    def _is_passed(self, at: int) -> bool:
        """Whether what is loaded here is itself an argument of the next call that takes it."""
        above = 0  # things on the stack on top of it
        for i in self.list[at + 1 :]:
            if i.target or "JUMP" in i.op:
                return False
            if i.pops > above:
                return i.op.startswith("CALL")
            above += i.effect
        return False

    def _augmented(self, at: int, path: Path) -> None:
        """``path.name op= ...``, whose object is on the stack."""
        name = self._at(at + 1).arg
        self.consumed.add(at + 1)
        whole = (*path, Step("attr", name))
        for end in range(at + 3, len(self.list)):
            if self._ops(end, 2) == ["SWAP", "STORE_ATTR"] and self._at(end + 1).arg == name:
                self.consumed.add(end + 1)
                if self._at(end - 1).arg in ("+=", "-="):
                    self.facts.use(whole, INCREMENT)
                    return
                break
        self.facts.use(whole, VALUE)
        self.facts.use(whole, STORE)

    def _augmented_item(self, at: int, path: Path) -> None:
        """``path[key] op= ...``, whose container and key are on the stack."""
        whole = (*path, Step("item", self._at(at).arg))
        if self._ops(at + 4, 2) == ["LOAD_CONST", "BINARY_OP"] and self._adds(at + 4):
            self.facts.use(whole, INCREMENT)
        else:
            self.facts.use(whole, VALUE)
            self.facts.use(whole, STORE)

    def _added_to(self, at: int, path: Path) -> bool:
        """Whether this is ``name += 1`` of a global or free variable."""
        if path[0].kind not in ("global", "free") or len(path) > 1:
            return False
        store = "STORE_GLOBAL" if path[0].kind == "global" else "STORE_DEREF"
        ends = self._ops(at + 1, 3) == ["LOAD_CONST", "BINARY_OP", store]
        if not ends or not self._adds(at + 1) or self._at(at + 3).arg != path[0].key:
            return False
        self.consumed.add(at + 3)
        self.facts.use(path, INCREMENT)
        return True

    def _adds(self, at: int) -> bool:
        """Whether a constant int is loaded here and then added or subtracted in place."""
        return type(self._at(at).arg) is int and self._at(at + 1).arg in ("+=", "-=")

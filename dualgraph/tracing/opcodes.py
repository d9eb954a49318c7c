"""The instructions of a code object in one vocabulary, whichever version of Python compiled it."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType
from typing import Any, NamedTuple

# The opcodes, of all versions of Python, that are understood or cannot matter, in the vocabulary of
# `instructions`. One that is not here may read anything: then more is guarded.
KNOWN = frozenset(
    """
    LOAD_FAST STORE_FAST DELETE_FAST LOAD_DEREF STORE_DEREF DELETE_DEREF LOAD_GLOBAL STORE_GLOBAL
    DELETE_GLOBAL STORE_NAME DELETE_NAME LOAD_CONST LOAD_COMMON_CONSTANT LOAD_SPECIAL
    LOAD_ATTR STORE_ATTR DELETE_ATTR LOAD_BUILD_CLASS LOAD_ASSERTION_ERROR LOAD_CLOSURE
    IMPORT_NAME IMPORT_FROM BINARY_SUBSCR STORE_SUBSCR DELETE_SUBSCR BINARY_SLICE STORE_SLICE
    BINARY_OP UNARY_NEGATIVE UNARY_NOT UNARY_INVERT UNARY_POSITIVE COMPARE_OP CONTAINS_OP IS_OP
    BUILD_LIST BUILD_TUPLE BUILD_SET BUILD_MAP BUILD_CONST_KEY_MAP BUILD_SLICE BUILD_STRING
    LIST_APPEND LIST_EXTEND LIST_TO_TUPLE SET_ADD SET_UPDATE MAP_ADD DICT_MERGE DICT_UPDATE
    FORMAT_VALUE FORMAT_SIMPLE FORMAT_WITH_SPEC CONVERT_VALUE UNPACK_SEQUENCE UNPACK_EX
    TO_BOOL CALL CALL_KW KW_NAMES CALL_FUNCTION_EX CALL_INTRINSIC_1 CALL_INTRINSIC_2
    MAKE_FUNCTION SET_FUNCTION_ATTRIBUTE
    COPY SWAP POP_TOP POP_ITER GET_ITER GET_YIELD_FROM_ITER FOR_ITER END_FOR GET_LEN
    MATCH_CLASS MATCH_KEYS MATCH_MAPPING MATCH_SEQUENCE
    RETURN_VALUE RETURN_CONST YIELD_VALUE SEND END_SEND CLEANUP_THROW INTERPRETER_EXIT
    JUMP_FORWARD JUMP_BACKWARD JUMP_BACKWARD_NO_INTERRUPT JUMP_IF_FALSE_OR_POP JUMP_IF_TRUE_OR_POP
    POP_JUMP_IF_FALSE POP_JUMP_IF_TRUE POP_JUMP_IF_NONE POP_JUMP_IF_NOT_NONE
    POP_JUMP_FORWARD_IF_FALSE POP_JUMP_FORWARD_IF_TRUE
    POP_JUMP_FORWARD_IF_NONE POP_JUMP_FORWARD_IF_NOT_NONE
    POP_JUMP_BACKWARD_IF_FALSE POP_JUMP_BACKWARD_IF_TRUE
    POP_JUMP_BACKWARD_IF_NONE POP_JUMP_BACKWARD_IF_NOT_NONE
    RAISE_VARARGS RERAISE PREP_RERAISE_STAR PUSH_EXC_INFO POP_EXCEPT
    CHECK_EXC_MATCH CHECK_EG_MATCH
    BEFORE_WITH BEFORE_ASYNC_WITH WITH_EXCEPT_START ASYNC_GEN_WRAP
    GET_AITER GET_ANEXT GET_AWAITABLE END_ASYNC_FOR
    """.split()  # noqa: SIM905 - a list would be a page long
)
_LOAD_FAST = ("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_AND_CLEAR", "LOAD_FAST_BORROW")
# Those left out: no pattern of instructions is about them.
_NOTHING = frozenset(
    """
    RESUME CACHE EXTENDED_ARG NOP PRECALL PUSH_NULL NOT_TAKEN COPY_FREE_VARS MAKE_CELL
    RETURN_GENERATOR LOAD_LOCALS SETUP_ANNOTATIONS
    """.split()  # noqa: SIM905
)


class Instruction(NamedTuple):
    """An opcode and the name, constant or the like that it is about.

    `target`: it is jumped to. `method`: the attribute that it loads is called. `effect`: by how
    much the stack is higher after it.
    """

    op: str
    arg: Any
    target: bool
    method: bool = False
    effect: int = 1

    @property
    def pops(self) -> int:
        """How many things it takes off the stack, if it puts one there."""
        return 1 if self.op == "LOAD_ATTR" else max(0, 1 - self.effect)


def instructions(code: CodeType) -> Iterator[Instruction]:
    """The instructions in the vocabulary of one Python version, without those that do nothing."""
    left_out = 0  # the effect of those
    for i in dis.get_instructions(code):
        effect = dis.stack_effect(i.opcode, i.arg, jump=False)
        if i.opname in _NOTHING:
            left_out += effect
            continue
        yield from _converted(i, effect + left_out)
        left_out = 0


def _converted(i: dis.Instruction, effect: int) -> Iterator[Instruction]:
    op, arg, target = i.opname, i.argval, i.is_jump_target
    if op.startswith(("LOAD_FAST_", "STORE_FAST_")) and isinstance(arg, tuple):
        first, second = op.removesuffix("_BORROW").rsplit("_FAST_", 1)[0], op
        loads = "LOAD" in first
        yield Instruction(
            "LOAD_FAST" if loads else "STORE_FAST", arg[0], target, effect=1 if loads else -1
        )
        stores = second.endswith("STORE_FAST")
        yield Instruction(
            "STORE_FAST" if stores else "LOAD_FAST", arg[1], False, effect=-1 if stores else 1
        )
    elif op in _LOAD_FAST:
        yield Instruction("LOAD_FAST", arg, target)
    elif op == "LOAD_SMALL_INT":
        yield Instruction("LOAD_CONST", arg, target)
    elif op == "LOAD_METHOD" or (op == "LOAD_ATTR" and _calls(i)):
        yield Instruction("LOAD_ATTR", arg, target, True, effect)
    elif op in ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
        yield Instruction("LOAD_GLOBAL", arg, target, effect=effect)
    elif op in ("LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"):
        yield Instruction("LOAD_DEREF", arg, target, effect=effect)
    elif op == "LOAD_SUPER_ATTR":  # an attribute of no object that was loaded
        yield Instruction("CALL", None, target, effect=-2)
        yield Instruction("LOAD_ATTR", arg, False, _calls(i), effect + 2)
    elif op == "BINARY_OP" and i.argrepr == "[]":
        yield Instruction("BINARY_SUBSCR", None, target, effect=effect)
    else:
        yield Instruction(op, i.argrepr if op == "BINARY_OP" else arg, target, effect=effect)


def _calls(i: dis.Instruction) -> bool:
    return "NULL|self" in i.argrepr

"""What rewritten code calls (see :mod:`.rewrite`)."""

from .branches import (
    after,
    and_,
    and_test,
    assert_,
    chain,
    choose,
    contains,
    if_,
    not_,
    or_,
    or_test,
    result,
)
from .calls import call
from .effects import augment, augment_attribute, augment_item, new, outer, target
from .loops import for_, while_
from .signals import Return, break_, continue_

slice = slice

__all__ = [
    "Return",
    "after",
    "and_",
    "and_test",
    "assert_",
    "augment",
    "augment_attribute",
    "augment_item",
    "break_",
    "call",
    "chain",
    "choose",
    "contains",
    "continue_",
    "for_",
    "if_",
    "new",
    "not_",
    "or_",
    "or_test",
    "outer",
    "result",
    "slice",
    "target",
    "while_",
]

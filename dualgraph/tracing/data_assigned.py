"""``t.data = value`` in a trace: the tensor lets go of its memory instead of writing to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualgraph_compiler.graph import Value

from .phases import Written

if TYPE_CHECKING:
    from .._tensor import Tensor
    from .capture import Capture


def replace_data(capture: Capture, t: Tensor, value: Tensor) -> None:
    """``t.data = value``: views of `t`, and what else shares its memory, keep the old data."""
    new = capture.value_of(value)
    made = new.node is not None or new.is_constant
    own = made and type(value._data) is Value and value._base is None
    if (
        capture is not capture.root
        or (t._base is not None and (t._fn is not None or type(t._data) is Value))
        or not own
        or value.dtype is not t.dtype
        or value.shape != t.shape
        or id(t) in capture.held
        or capture.earlier.reads
        or capture.repeat is not None
    ):
        raise capture.failure(
            "data is assigned in a branch or hook, to a recorded view or an optimizer's state, "
            "from the memory of another tensor, or of another dtype or shape",
            "Use copy_() in a no_grad block, or assign a clone.",
        )
    capture.value_of(t)  # what shows the old data reads it as this one's
    capture.require_own_memory(t)
    capture.entangle(value)  # a write to it would be one to `t`
    kept = capture.replaced.setdefault(id(t), (t, t._data, t._ver, t._base))
    before = t._fn, t._ver[0]
    t._ver, t._base = [t._ver[0]], None
    if type(t._data) is Value:
        t._data = new
    else:
        t._data = kept[1].copy()  # an identity of its own while tracing
        capture.stand_ins.append(t._data)
        capture.writes[id(t._data)] = Written(t, new, *before)

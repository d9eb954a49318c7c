"""In-place methods that change a tensor's own shape: ``x.unsqueeze_(0)``, ``x.t_()``.

The tensor becomes a view of what it was. Its memory is what it was, and so is what other views of
it show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec
from typing import cast as cast_type

from dualgraph_compiler.errors import AutogradError

from .. import _changes
from .._dispatch import captures, make
from ..autograd.grad_mode import local
from ..autograd.tape import Leaf

if TYPE_CHECKING:
    from .._tensor import Tensor

_P = ParamSpec("_P")


def in_own_shape(view: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """The in-place method that goes with a function that makes views.

    Raises (when called):
        AutogradError: the tensor is a leaf that requires a gradient.
        CaptureFailure: a graph is being captured.
    """
    call: Callable[..., Tensor] = view

    def method(self: Tensor, *args: object, **kwargs: object) -> Tensor:
        if local.grad and type(self._fn) is Leaf:
            raise AutogradError(
                "a leaf Variable that requires grad is being used in an in-place operation."
            )
        if captures.current is not None:
            raise captures.current.failure(
                f"{view.__name__}_ changes the shape of a tensor in place",
                f"Use x = x.{view.__name__}(...) instead.",
            )
        before = make(self._data, self._fn)
        before._ver, before._base = self._ver, self._base
        shown = call(before, *args, **kwargs)
        if self._base is None:
            self.__dict__["_was"] = before  # what other views of this tensor show part of
        self._data, self._fn, self._base = shown._data, shown._fn, shown._base
        _changes.tensors.note()
        return self

    method.__name__ = method.__qualname__ = f"{view.__name__}_"
    method.__doc__ = f"In-place version of `{view.__name__}`."
    vars(method)["__wrapped__"] = view  # whose arguments `help` shows
    return cast_type("Callable[_P, Tensor]", method)

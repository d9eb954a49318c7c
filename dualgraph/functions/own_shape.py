"""In-place methods that change a tensor's own shape: ``x.unsqueeze_(0)``, ``x.t_()``.

Off the tape the memory stays and is seen in another way. A tensor that is recorded gets memory of
its own, so that what shared its memory before keeps the old values for good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec
from typing import cast as cast_type

from dualgraph_compiler.errors import AutogradError

from .. import _changes
from .._dispatch import captures

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
        if captures.current is not None:
            raise captures.current.failure(
                f"{view.__name__}_ changes the shape of a tensor in place",
                f"Use x = x.{view.__name__}(...) instead.",
            )
        if not self.requires_grad:
            self.data = call(self, *args, **kwargs)
            return self
        if self.is_leaf:
            raise AutogradError(
                "a leaf Variable that requires grad is being used in an in-place operation."
            )
        result = call(self, *args, **kwargs).clone()
        self._data, self._fn, self._ver = result._data, result._fn, result._ver
        self._base = None
        _changes.tensors.note()
        return self

    method.__name__ = method.__qualname__ = f"{view.__name__}_"
    method.__doc__ = f"In-place version of `{view.__name__}`."
    vars(method)["__wrapped__"] = view  # whose arguments `help` shows
    return cast_type("Callable[_P, Tensor]", method)

"""Whether operations are recorded on the tape: a setting of the thread, as in PyTorch."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


class _Local(threading.local):
    grad = True
    inference = False


local = _Local()


def is_grad_enabled() -> bool:
    """Whether operations on tensors that require gradients are recorded in this thread."""
    return local.grad


class _GradMode:
    """Sets grad mode for a block or, as a decorator, for each call of a function."""

    def __init__(self, mode: bool) -> None:
        self._mode = mode
        self._saved: list[bool] = []

    def __enter__(self) -> None:
        self._saved.append(local.grad)
        local.grad = self._mode

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        local.grad = self._saved.pop()

    def __call__(self, function: _F) -> _F:
        mode = self._mode
        if inspect.isgeneratorfunction(function):
            return _each_step(mode, function)  # type: ignore[return-value]

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with _GradMode(mode):
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


def _each_step(mode: bool, function: Callable[..., Any]) -> Callable[..., Any]:
    """A generator function whose code runs in a mode, while its caller keeps its own."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        step, given = generator.send, None
        while True:
            try:
                with _GradMode(mode):
                    found = step(given)
            except StopIteration as end:
                return end.value
            try:
                step, given = generator.send, (yield found)
            except GeneratorExit:
                with _GradMode(mode):
                    generator.close()
                raise
            except BaseException as error:
                step, given = generator.throw, error

    return wrapped


class _Bare(_GradMode):
    """A mode that also decorates without being called: ``@dg.no_grad``."""

    _sets = False

    def __new__(cls, function: Any = None) -> Any:
        made = object.__new__(cls)
        if function is None or isinstance(function, bool):
            return made
        _GradMode.__init__(made, cls._sets)
        return made(function)

    def __init__(self, function: Any = None) -> None:
        self._mode = self._sets
        self._saved = []


class no_grad(_Bare):
    """Nothing inside is recorded: ``with dg.no_grad(): ...`` or ``@dg.no_grad()``."""


class enable_grad(_Bare):
    """Recording inside a `no_grad` block."""

    _sets = True


class set_grad_enabled(_GradMode):
    """Sets grad mode at once, and undoes it when used as a context manager."""

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)
        self._outer = local.grad
        local.grad = mode

    def __enter__(self) -> None:
        self._saved.append(self._outer)
        local.grad = self._mode

    def __call__(self, function: _F) -> _F:
        local.grad = self._outer
        return super().__call__(function)


class inference_mode(_Bare):
    """As `no_grad` (mode=True); PyTorch's stricter variant has nothing more to gain here.

    With mode=False inside, recording is on again.
    """

    def __init__(self, mode: Any = True) -> None:
        _GradMode.__init__(self, not mode)
        self._inference = bool(mode)
        self._outer: list[bool] = []

    def __call__(self, function: _F) -> _F:
        if inspect.isgeneratorfunction(function):
            return super().__call__(function)
        mode = self._inference

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with inference_mode(mode):
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]

    def __enter__(self) -> None:
        self._outer.append(local.inference)
        local.inference = self._inference
        super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        local.inference = self._outer.pop()


def is_inference_mode_enabled() -> bool:
    """Whether this is inside of an `inference_mode` block."""
    return local.inference

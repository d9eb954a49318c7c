"""Settings that PyTorch has as functions: threads, determinism, precision, warnings."""

from __future__ import annotations

import warnings
from typing import Any

from dualgraph_compiler.errors import ArgumentError

__all__ = [
    "are_deterministic_algorithms_enabled",
    "get_deterministic_debug_mode",
    "get_float32_matmul_precision",
    "get_num_threads",
    "is_deterministic_algorithms_warn_only_enabled",
    "is_warn_always_enabled",
    "set_deterministic_debug_mode",
    "set_float32_matmul_precision",
    "set_num_threads",
    "set_warn_always",
    "use_deterministic_algorithms",
]


class _Settings:
    deterministic = False
    warn_only = False
    matmul_precision = "highest"
    warn_always = False


def get_num_threads() -> int:
    """How many threads compiled code may use. Source: ``torch.get_num_threads``."""
    from dualgraph_runtime.native.threads import default_threads

    return default_threads()


def set_num_threads(num: int) -> None:
    """Let code that is compiled from now on use `num` threads.

    Eager code runs in one thread, but for what NumPy's BLAS does, which has settings of its own
    (``OMP_NUM_THREADS``, threadpoolctl).

    Raises:
        ArgumentError: `num` is not positive.

    Source: ``torch.set_num_threads``.
    """
    from dualgraph_runtime.native.threads import set_default_threads

    set_default_threads(num)


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Note that results must be the same in every run, which on a CPU they always are.

    On a GPU sums by index (``scatter_add``, gradients of indexing) depend on the order in which
    threads arrive, whatever is said here.

    Source: ``torch.use_deterministic_algorithms``.
    """
    _Settings.deterministic = bool(mode)
    _Settings.warn_only = bool(warn_only)


def are_deterministic_algorithms_enabled() -> bool:
    """What :func:`use_deterministic_algorithms` was told."""
    return _Settings.deterministic


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """The `warn_only` that :func:`use_deterministic_algorithms` was told."""
    return _Settings.warn_only


_MODES = ("default", "warn", "error")


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """:func:`use_deterministic_algorithms` by number or name: 0 default, 1 warn, 2 error.

    Raises:
        ArgumentError: another number or name.
    """
    numbered = isinstance(debug_mode, int) and 0 <= debug_mode < len(_MODES)
    named = _MODES[int(debug_mode)] if numbered else debug_mode
    if named not in _MODES:
        raise ArgumentError(f"debug_mode must be one of {_MODES} or 0, 1, 2, got {debug_mode!r}")
    use_deterministic_algorithms(named != "default", warn_only=named == "warn")


def get_deterministic_debug_mode() -> int:
    """The number that :func:`set_deterministic_debug_mode` knows the present mode by."""
    return (1 if _Settings.warn_only else 2) if _Settings.deterministic else 0


def set_float32_matmul_precision(precision: str) -> None:
    """Note how exact products of float32 matrices must be; here they always are "highest".

    Raises:
        ArgumentError: not "highest", "high" or "medium".
    """
    if precision not in ("highest", "high", "medium"):
        raise ArgumentError(
            f"expected precision 'highest', 'high' or 'medium', but got {precision!r}"
        )
    _Settings.matmul_precision = precision


def get_float32_matmul_precision() -> str:
    """What :func:`set_float32_matmul_precision` was told."""
    return _Settings.matmul_precision


def set_warn_always(b: bool, /) -> None:
    """Whether warnings that are given once are given every time."""
    _Settings.warn_always = bool(b)
    action: Any = "always" if b else "default"
    warnings.filterwarnings(action, module=r"dualgraph(_compiler|_runtime)?\.")


def is_warn_always_enabled() -> bool:
    """What :func:`set_warn_always` was told."""
    return _Settings.warn_always

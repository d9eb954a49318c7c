"""The import finder: ``torch`` and what is below it, made of dualgraph's modules."""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import multiprocessing.spawn
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.errors import DualGraphError

from . import missing
from .tables import HIDDEN, MODULES, NAMES, SPREAD

__all__ = ["Mirror", "has", "install", "installed", "uninstall"]


class Mirror(ModuleType):
    """A module of PyTorch's name that shows a module of dualgraph's.

    What a program assigns to (``torch.backends.cudnn.benchmark = True``, a patched function)
    reaches the module that is shown.
    """

    def __init__(self, name: str, target: ModuleType) -> None:
        super().__init__(name, target.__doc__)
        own = self.__dict__
        own["_target"] = target
        for key, value in vars(target).items():
            if not key.startswith("__") and not isinstance(value, ModuleType):
                own[key] = value
        prefix = f"{name}."
        own |= {k.removeprefix(prefix): find(v) for k, v in NAMES.items() if _is_in(k, name)}
        if hasattr(target, "__all__"):
            own["__all__"] = list(target.__all__)
        # The tracer tells user code from a library's by its file. An empty path makes the
        # import system ask for submodules, and so for names that a `from` import does not find.
        own["__file__"] = target.__file__
        own["__path__"] = []

    def __getattr__(self, name: str) -> Any:
        module = self.__dict__["__name__"]
        if name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = getattr(self._target, name, _NOTHING)
        if (found is _NOTHING or isinstance(found, ModuleType)) and _target(f"{module}.{name}"):
            return importlib.import_module(f"{module}.{name}")
        if found is _NOTHING and (package := SPREAD.get(module.rpartition(".")[0])):
            found = getattr(importlib.import_module(package), name, _NOTHING)
        if found is _NOTHING or isinstance(found, ModuleType):
            raise AttributeError(missing.explanation(module, name, dir(self)), name=name)
        self.__dict__[name] = found
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if not name.startswith("__") and not isinstance(value, ModuleType):
            setattr(self.__dict__["_target"], name, value)

    def __dir__(self) -> list[str]:
        names = {*self.__dict__, *dir(self._target)}
        return sorted(n for n in names if not n.startswith("_"))


_NOTHING = object()


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``torch`` and its submodules, and says what to do where there is none."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torch" and not fullname.startswith("torch."):
            return None
        if _target(fullname) is not None:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        if sys._getframe(2).f_globals.get("__name__") == "importlib.util":
            return None  # `importlib.util.find_spec` only asks whether there is one
        parent, _, name = fullname.rpartition(".")
        message = missing.explanation(parent, name, dir(sys.modules[parent]))
        # `from torch import x` comes here for any x, and passes over errors with x as their name.
        raise ModuleNotFoundError(message, name=parent)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        target = _target(spec.name)
        assert target is not None
        return Mirror(spec.name, target)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: a mirror is made complete."""


def find(target: str) -> Any:
    """What ``module:name`` names; the module itself without a name."""
    module, _, name = target.partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found


def _is_in(full: str, module: str) -> bool:
    return full.rpartition(".")[0] == module


def _target(fullname: str) -> ModuleType | None:
    """The module of dualgraph's that is shown as `fullname`, if there is one."""
    parts = fullname.split(".")
    name = MODULES.get(fullname, ".".join(["dualgraph", *parts[1:]]))
    if HIDDEN.intersection(parts[1:2]):
        return None
    try:
        if importlib.util.find_spec(name) is None:
            return None
    except ModuleNotFoundError:  # its parent is no package, or is not there
        return None
    return importlib.import_module(name)


def has(module: str, name: str) -> bool:
    """Whether `name` of PyTorch's `module` (or of the class ``torch.Tensor``) is there."""
    if f"{module}.{name}" in NAMES or _target(f"{module}.{name}") is not None:
        return True
    if module == "torch.Tensor":
        from dualgraph._tensor import Tensor

        return hasattr(Tensor, name)
    target = _target(module)
    found = getattr(target, name, _NOTHING)
    return found is not _NOTHING and not isinstance(found, ModuleType)


_finder = Finder()
_prepare = multiprocessing.spawn.get_preparation_data


class _Child:
    """Installs the finder where it is unpickled: in a process that is being started."""

    def __reduce__(self) -> Any:
        return install, ()


def _preparation_data(name: str) -> dict[str, Any]:
    """What a started process is told before it imports the main module anew."""
    return {**_prepare(name), "torch": _Child()}


def install() -> None:
    """From now on ``import torch`` gives dualgraph, also in processes that are started.

    Raises:
        DualGraphError: PyTorch has been imported.
    """
    if _finder in sys.meta_path:
        return
    if "torch" in sys.modules:
        raise DualGraphError(
            "torch has been imported already: install dualgraph in its place before that"
        )
    sys.meta_path.insert(0, _finder)
    DType.namespace = "torch"
    multiprocessing.spawn.get_preparation_data = _preparation_data


def uninstall() -> None:
    """``import torch`` means PyTorch again; modules that have been imported stay in use."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
        DType.namespace = "dualgraph"
    multiprocessing.spawn.get_preparation_data = _prepare
    for name in [n for n, m in sys.modules.items() if isinstance(m, Mirror)]:
        del sys.modules[name]


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """:func:`install` for a `with` block."""
    install()
    try:
        yield
    finally:
        uninstall()

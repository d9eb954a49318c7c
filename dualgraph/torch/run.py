"""Running a script, a module or a line of code as python would, with ``torch`` being dualgraph."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import os
import runpy
import sys
import zipfile
from types import CodeType, ModuleType, TracebackType
from typing import Any

from .finder import install
from .missing import explain

USAGE = """\
usage: python -m dualgraph.torch [-m module | -c code | script.py | -] [argument ...]

Runs a program written for PyTorch with `torch` and its submodules resolved to dualgraph.
The other options of python go before -m: python -W error -m dualgraph.torch script.py"""

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep


def run_script(path: str, arguments: list[str]) -> None:
    """``python path arguments``: a file, a folder or archive with a ``__main__.py``, or ``-``."""
    sys.argv = [path, *arguments]
    _begin()
    if path == "-":
        _replace_first_path("")
        _run(compile(sys.stdin.read(), "<stdin>", "exec", dont_inherit=True), __file__=None)
        return
    if os.path.isdir(path) or zipfile.is_zipfile(path):
        _drop_first_path()
        runpy.run_path(path, run_name="__main__")
        return
    try:
        with io.open_code(os.path.abspath(path)) as file:
            source = file.read()
    except OSError as error:
        program = os.path.basename(sys.executable)
        print(
            f"{program}: can't open file {os.path.abspath(path)!r}: "
            f"[Errno {error.errno}] {error.strerror}",
            file=sys.stderr,
        )
        sys.exit(2)
    _replace_first_path(os.path.dirname(os.path.realpath(path)))
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    code = compile(source, path, "exec", dont_inherit=True)
    _run(code, __file__=path, __loader__=loader, __cached__=None)


def run_module(name: str, arguments: list[str]) -> None:
    """``python -m name arguments``."""
    sys.argv = ["-m", *arguments]
    _begin()
    spec = _spec_of_module(name)
    assert spec.loader is not None
    code = spec.loader.get_code(spec.name)  # type: ignore[attr-defined]
    if code is None:
        sys.exit(f"{sys.executable}: No code object available for {name}")
    sys.argv[0] = spec.origin or name
    _run(
        code,
        __file__=spec.origin,
        __loader__=spec.loader,
        __cached__=spec.cached,
        __spec__=spec,
        __package__=spec.parent,
    )


def run_code(text: str, arguments: list[str]) -> None:
    """``python -c text arguments``."""
    sys.argv = ["-c", *arguments]
    _begin()
    _replace_first_path("")
    _run(compile(text, "<string>", "exec", dont_inherit=True), __file__=None)


def _begin() -> None:
    install()
    sys.excepthook = _excepthook


def _spec_of_module(name: str) -> importlib.machinery.ModuleSpec:
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            found = importlib.util.find_spec(f"{name}.__main__")
            if found is None:
                what = "is a package and cannot be directly executed"
                sys.exit(f"{sys.executable}: No module named {name}.__main__; {name!r} {what}")
            return found
    except ModuleNotFoundError as error:
        sys.exit(
            f"{sys.executable}: Error while finding module specification for {name!r}: {error}"
        )
    if spec is None:
        sys.exit(f"{sys.executable}: No module named {name}")
    return spec


def _run(code: CodeType, **attributes: Any) -> None:
    """Execute `code` as the module ``__main__``, which stays that after it has ended."""
    module = ModuleType("__main__")
    module.__dict__.update(attributes, __builtins__=__builtins__)
    if module.__dict__.get("__file__") is None:
        del module.__dict__["__file__"]
    sys.modules["__main__"] = module
    exec(code, module.__dict__)


def _replace_first_path(folder: str) -> None:
    if not sys.flags.safe_path:  # without -P, `python -m` has put the current folder there
        sys.path[0] = folder


def _drop_first_path() -> None:
    if not sys.flags.safe_path:
        del sys.path[0]


def _excepthook(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print what the program raised, without the frames that only started it."""
    start = traceback
    while start is not None and _starts_programs(start.tb_frame.f_code.co_filename):
        start = start.tb_next
    explain(error)
    if start is not None or isinstance(error, SyntaxError):
        error = error.with_traceback(start)
    sys.__excepthook__(kind, error, error.__traceback__)


def _starts_programs(filename: str) -> bool:
    return filename.startswith(_OURS) or filename in ("<frozen runpy>", runpy.__file__)

"""Runs the Python code blocks of README.md, CONTRIBUTING.md and docs/ as tests.

A ``python`` block is executed; the blocks of one page share their variables and run, top to bottom,
in a temporary folder. What a block prints is checked where an ``output`` block follows it::

    ```python
    print(dg.ones(2) * 3)
    ```

    ```output
    tensor([3., 3.])
    ```

There ``...`` stands for any text, and numbers are compared to the digits written. A block that
starts with ``>>>`` is checked like a doctest. Blocks in any other language (``sh``, ``text``) are
left alone, and ``<!-- skip: next -->`` before a Python block leaves that one alone too.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import linecache
import os
import tempfile
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.evaluators.doctest import NUMBER, OutputChecker
from sybil.evaluators.python import PythonEvaluator, pad
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

FLAGS = doctest.ELLIPSIS | NUMBER
PRINTED, FOLDER, PREVIOUS = "_printed", "_folder", "_previous"  # kept in a page's namespace

_evaluate = PythonEvaluator()


def run_and_record(example: Example) -> None:
    """Execute a block and keep what it printed for the ``output`` block that may follow."""
    printed = io.StringIO()
    source = pad(example.parsed, example.line + example.parsed.line_offset)
    # As a notebook does, so that the source of the block's functions is known.
    lines = source.splitlines(keepends=True)
    linecache.cache[example.path] = (len(source), None, lines, example.path)
    try:
        with contextlib.redirect_stdout(printed):
            _evaluate(example)
    finally:
        print(printed.getvalue(), end="")
        example.namespace[PRINTED] = printed.getvalue()


def check_printed(example: Example) -> str | None:
    """Compare an ``output`` block with what the block before it printed."""
    printed = example.namespace.pop(PRINTED, None)
    if printed is None:
        return "an `output` block must follow a `python` block"
    expected = doctest.Example(source="", want=str(example.parsed))
    checker = OutputChecker()
    if checker.check_output(expected.want, printed, FLAGS):
        return None
    return checker.output_difference(expected, printed, FLAGS)


class PythonParser(PythonCodeBlockParser):
    """Python blocks whose printed text is recorded; ``>>>`` blocks as doctests."""

    def __init__(self) -> None:
        super().__init__(doctest_optionflags=FLAGS)
        self.codeblock_parser = CodeBlockParser(language="python", evaluator=run_and_record)


def enter_folder(namespace: dict[str, Any]) -> None:
    folder = tempfile.TemporaryDirectory()
    namespace |= {"__name__": "__docs__", FOLDER: folder, PREVIOUS: os.getcwd()}
    os.chdir(folder.name)


def leave_folder(namespace: dict[str, Any]) -> None:
    os.chdir(namespace[PREVIOUS])
    namespace[FOLDER].cleanup()


pytest_collect_file = Sybil(
    parsers=[PythonParser(), CodeBlockParser("output", check_printed), SkipParser()],
    patterns=["README.md", "CONTRIBUTING.md", "docs/*.md"],
    setup=enter_folder,
    teardown=leave_folder,
).pytest()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Sybil can only report what a block itself raises; what else comes up stays a warning."""
    if isinstance(item, SybilItem):
        for name in ("PytestUnraisableExceptionWarning", "PytestUnhandledThreadExceptionWarning"):
            item.add_marker(pytest.mark.filterwarnings(f"default::pytest.{name}"))


class PagesTogether(LoadScopeScheduling):
    """Tests go to whichever worker is free, but all blocks of one page to the same."""

    def _split_scope(self, nodeid: str) -> str:
        page = nodeid.partition("::")[0]
        return page if page.endswith(".md") else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> PagesTogether:
    return PagesTogether(config, log)

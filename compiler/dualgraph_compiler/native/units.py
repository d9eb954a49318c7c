"""A program's text as several, to be compiled side by side.

Each has the declarations at the head of the text and a part of the kernels; the first has what
calls them. Kernels are called across units through a pointer's worth of code, which costs nothing
beside what a kernel does.
"""

from __future__ import annotations

import re

_HIDDEN = '__attribute__((visibility("hidden"))) '
_FUNCTION = re.compile(
    rf"^(?:static |{re.escape(_HIDDEN)})?(?:void|int) (\w+)\([^{{}}]* \{{$", re.MULTILINE
)
_KERNEL = re.compile(r"\bkernel(\d+)")

# What at the head of a text exists once in a program: variables, and functions that others call.
_SHARED = re.compile(
    r"^static (?!inline\b|const\b)[\w ]+(?:;| =)|^(?!static|typedef)[a-z][\w *]*\(", re.MULTILINE
)


def split(text: str, count: int) -> tuple[str, ...]:
    """The text in at most `count` parts; whole where it cannot be taken apart."""
    start = re.search(r"^static (?:void|int) kernel\d", text, re.MULTILINE)
    if count < 2 or start is None or _SHARED.search(text[: start.start()]):
        return (text,)
    head, functions = text[: start.start()], _functions(text[start.start() :])
    callers = [f for name, f in functions if not _KERNEL.match(name)]
    apart = {name for name, _ in functions if not _KERNEL.match(name)}
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, function in functions:
        numbers = set(_KERNEL.findall(function))
        if _KERNEL.match(name):
            if len(numbers) > 1 or apart & _called(function):  # more than a kernel by itself
                return (text,)
            groups.setdefault(numbers.pop(), []).append((name, function))
    bins: list[list[tuple[str, str]]] = [[] for _ in range(count)]
    sizes = [sum(map(len, callers)), *[0] * (count - 1)]
    for group in sorted(groups.values(), key=lambda g: -sum(len(f) for _, f in g)):
        least = sizes.index(min(sizes))
        bins[least] += group
        sizes[least] += sum(len(f) for _, f in group)
    called = _called("".join(callers))
    declared = [_declaration(f) for other in bins[1:] for name, f in other if name in called]
    first = "".join([head, *declared, *(f for _, f in bins[0]), *callers])
    others = [
        head + "".join(_exported(f) if name in called else f for name, f in other)
        for other in bins[1:]
        if other
    ]
    return (first, *others)


def _functions(text: str) -> list[tuple[str, str]]:
    """The functions of a text by name, each with what stands before it."""
    found = []
    for chunk in re.split(r"(?<=^}\n)", text, flags=re.MULTILINE):
        match = _FUNCTION.search(chunk)
        if match is not None:
            found.append((match[1], chunk))
        elif chunk.strip():
            found.append(("", chunk))
    return found


def _called(text: str) -> set[str]:
    return set(re.findall(r"\b\w+(?=\()", text))


def _declaration(function: str) -> str:
    match = _FUNCTION.search(_exported(function))
    assert match is not None
    return match[0].removesuffix(" {") + ";\n"


def _exported(function: str) -> str:
    """A function that other units can call, but no other program."""
    return re.sub(r"^static (?=void|int)", _HIDDEN, function, count=1, flags=re.MULTILINE)

"""How a capture case is written, run and compared.

A case is a generator function of `dg`, the library, and `compile`. It is written in the words of
PyTorch and yields whatever its reader can see: results, tensors, modules, optimizers, Python data.
It runs four times from the same start:

- eagerly, where `compile` gives back what it got: the reference;
- compiled with strict numerics, where every bit must be the same, and the decorator's expectations
  of graphs and warnings are checked, too;
- mixed, where every other call of a compiled function is its eager call, with standard numerics:
  passes that reorder sums, such as batch norm into convolutions, make numbers differ by 1e-5;
- under PyTorch, if installed and the case is not of ``torch=False``: the reference's reference.

What was yielded must be the same each time: kinds of things, dtypes, shapes, flags, values, the
state of modules and optimizers, gradients, and in the end the state of every random generator.
"""

from __future__ import annotations

import dataclasses
import random
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

import dualgraph
from dualgraph_compiler.graph import verify


@dataclasses.dataclass(frozen=True)
class Case:
    """A program and what is expected of it.

    Args:
        run: the generator function.
        graphs: how many graphs were traced in the end, over all compiled functions.
        ops: how often an op stands in these graphs, by its name.
        graph: the text of the last graph, without source lines.
        warns: what every warning must say (a pattern); without it there must be none.
        may_warn: whether it is as well to run eagerly, saying so at every line that is the reason.
        torch: whether PyTorch does the same; else why not.
        mixed: whether eager and compiled calls may take turns; else why not.
        close: relative and absolute tolerance of numbers in the compiled run; None: the same bits.
    """

    name: str
    run: Callable[[Any, Any], Iterable[Any]]
    graphs: int | None = None
    ops: Mapping[str, int] = dataclasses.field(default_factory=dict)
    graph: str | None = None
    warns: str | None = None
    may_warn: bool = False
    torch: bool | str = True
    mixed: bool | str = True
    close: float | None = None


class Cases(list[Case]):
    """A table of cases; calling it with expectations gives the decorator that adds one."""

    def __call__(self, **expected: Any) -> Callable[[Any], Any]:
        def add(run: Any) -> Any:
            self.append(Case(run.__name__, run, **expected))
            return run

        return add


# -- running --------------------------------------------------------------------------------------


class Compiler:
    """The `compile` of a compiled run: that of the library, which remembers what it made."""

    def __init__(self, mixed: bool = False) -> None:
        self.made: list[Any] = []
        self.mixed = mixed

    def __call__(self, function: Any = None, **options: Any) -> Any:
        if function is None:
            return lambda f: self(f, **options)
        numerics = "standard" if self.mixed else "strict"
        fast = dualgraph.compile(function, **{"numerics": numerics, **options})
        self.made.append(fast)
        return Alternating(function, fast) if self.mixed else fast

    def graphs(self) -> list[Any]:
        """All graphs traced so far."""
        return [g for fast in self.made for g in fast.graphs]


class Alternating:
    """Calls the compiled function and the function itself in turn."""

    def __init__(self, function: Any, fast: Any) -> None:
        self.turns = [function, fast]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.turns.reverse()
        return self.turns[0](*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.turns[0], name)


def eagerly(function: Any = None, **options: Any) -> Any:
    """The `compile` of an eager run."""
    return (lambda f: f) if function is None else function


def observed(case: Case, library: Any, compile: Any) -> tuple[list[Any], list[str]]:
    """What the case yields, as plain data, with the random states after it; and its warnings."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global generator is what needs seeding
    library.manual_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seen = [plain(x) for x in case.run(library, compile)]
    if library is dualgraph:
        seen.append(["random states", plain(dualgraph.get_rng_state())])
        seen.append([random.getstate(), str(np.random.get_state())])  # noqa: NPY002
    return seen, [str(w.message) for w in caught]


def check(case: Case) -> None:
    """The compiled run does what the eager run does, with the expected graphs and warnings."""
    expected, normal = observed(case, dualgraph, eagerly)
    compiler = Compiler()
    found, said = observed(case, dualgraph, compiler)
    graphs = compiler.graphs()
    shown = "\n".join(map(str, graphs))
    for graph in graphs:
        verify(graph)
    compare(case, expected, found, f"compiled, against the eager run; traced:\n{shown}")
    check_warnings(case, said, normal)
    if case.graphs is not None:
        assert len(graphs) == case.graphs, f"{len(graphs)} graphs, not {case.graphs}:\n{shown}"
    counts = Counter(node.op.name for graph in graphs for node in graph.nodes)
    for name, count in case.ops.items():
        assert counts[name] == count, f"{counts[name]} of {name}, not {count}, in:\n{shown}"
    if case.graph is not None:
        assert text_of(graphs[-1]) == text(case.graph), shown
    if case.mixed is True:
        found, _ = observed(case, dualgraph, Compiler(mixed=True))
        what = "eager and compiled calls in turn, against the eager run"
        compare(case, expected, found, what, close=1e-5)


def check_against(case: Case, torch: Any) -> None:
    """The eager run does what PyTorch does."""
    expected, _ = observed(case, torch, eagerly)
    found, _ = observed(case, dualgraph, eagerly)
    compare(case, expected, found[:-2], "the eager run, against PyTorch", close=1e-4)


def check_warnings(case: Case, said: list[str], normal: list[str]) -> None:
    """The expected warning, once for a line, which it names; no others."""
    said = [w for w in said if w not in normal]
    if case.warns is None and not case.may_warn:
        assert not said, "warned: " + "\n".join(said)
        return
    assert said or case.may_warn, f"did not warn: {case.warns}"
    for message in said:
        assert re.search(case.warns or "", message), f"warned: {message}\nexpected: {case.warns}"
        file = case.run.__code__.co_filename.rpartition("/")[2]
        assert re.search(rf"{file}:\d+", message), f"the warning does not name the line: {message}"
    assert len(set(said)) == len(said), "warned twice: " + "\n".join(said)


def text_of(graph: Any) -> str:
    """The text of a graph without source lines."""
    return text(re.sub(r" +# .*", "", str(graph)))


def text(lines: str) -> str:
    """Text without indentation and empty lines."""
    return "\n".join(line.strip() for line in lines.splitlines() if line.strip())


def error_of(function: Callable[[], Any]) -> str:
    """The kind of error that `function` raises."""
    try:
        function()
    except Exception as error:
        kinds = (IndexError, TypeError, AttributeError, KeyError, ZeroDivisionError, AssertionError)
        kinds = (*kinds, RuntimeError, ValueError, StopIteration)
        return next(k.__name__ for k in (*kinds, Exception) if isinstance(error, k))
    return "no error"


def data(dg: Any, *shape: int, low: float = -1.0, high: float = 1.3, grad: bool = False) -> Any:
    """A float32 tensor of the same different numbers in every library."""
    array = np.linspace(low, high, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    made = dg.tensor(array.tolist()).reshape(shape) if array.size else dg.zeros(shape)
    return made.requires_grad_() if grad else made


def filled(dg: Any, module: Any) -> Any:
    """`module`, its parameters the same different numbers in every library."""
    with dg.no_grad():
        for i, p in enumerate(module.parameters()):
            array = np.sin(np.arange(p.numel(), dtype=np.float32) * 0.7 + i)
            p.copy_(dg.tensor(array.tolist()).reshape(p.shape))
    return module


# -- seeing ---------------------------------------------------------------------------------------


def plain(x: Any) -> Any:
    """What can be seen of `x`, copied."""
    if hasattr(x, "is_leaf") and hasattr(x, "detach"):
        grad = plain(x.grad) if x.is_leaf else None
        array = np.array(x.detach().numpy())
        flags = f"{'' if x.is_leaf else 'no leaf, '}{'requires grad' if x.requires_grad else ''}"
        return {"tensor": array, "flags": flags, "grad": grad}
    if hasattr(x, "named_parameters"):
        return _module(x)
    if hasattr(x, "param_groups"):
        return _optimizer(x)
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        values = {f.name: plain(getattr(x, f.name)) for f in dataclasses.fields(x)}
        return {"type": type(x).__name__, **values}
    if isinstance(x, Mapping):
        return {"type": type(x).__name__, **{repr(k): plain(v) for k, v in x.items()}}
    if isinstance(x, list | tuple | set | frozenset):
        return [type(x).__name__, *map(plain, x)]
    if isinstance(x, np.ndarray | np.generic):
        return {"array": np.array(x)}
    if isinstance(x, bool | int | float | complex | str | bytes | None):
        return x
    return type(x).__name__


def _module(module: Any) -> Any:
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    own = {k: v for k, v in vars(module).items() if not k.startswith("_")}
    return {
        "type": type(module).__name__,
        **{name: plain(t) for name, t in tensors.items()},
        "attributes": plain({k: v for k, v in own.items() if not hasattr(v, "param_groups")}),
        "children": {name: child.training for name, child in module.named_modules()},
    }


def _optimizer(optimizer: Any) -> Any:
    groups = optimizer.param_groups
    found = {f"lr{i}": plain(group["lr"]) for i, group in enumerate(groups)}
    params = [p for group in groups for p in group["params"]]
    for i, p in enumerate(params):
        entries = optimizer.state.get(p, {})
        found[f"state{i}"] = {k: plain(v) for k, v in entries.items() if v is not None}
    return {"type": type(optimizer).__name__, **found}


# -- comparing ------------------------------------------------------------------------------------


def compare(
    case: Case, expected: list[Any], found: list[Any], what: str, close: float | None = None
) -> None:
    """Fail with every difference and the place it stands at."""
    close = close if close is not None else case.close
    if differences := list(different(expected, found, "yield ", close)):
        raise AssertionError("\n".join([*differences[:20], what]))


def different(a: Any, b: Any, path: str, close: float | None) -> Iterator[str]:
    """The differences of two things seen, one line each."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in [*a, *(k for k in b if k not in a)]:
            if key not in a or key not in b:
                yield f"{path}.{key}: {'missing' if key in a else 'not expected'}"
            else:
                yield from different(a[key], b[key], f"{path}.{key}", close)
    elif isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            yield f"{path}: {len(b)} things, not {len(a)}"
        for i, (x, y) in enumerate(zip(a, b, strict=False)):
            yield from different(x, y, f"{path}[{i}]", close)
    elif isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            yield f"{path}: {b.dtype}{list(b.shape)}, not {a.dtype}{list(a.shape)}"
        elif not _same(a, b, close):
            yield f"{path}:\n  expected {a.tolist()}\n  found    {b.tolist()}"
    elif type(a) is not type(b):
        yield f"{path}: {b!r}, not {a!r}"
    elif isinstance(a, float | complex):
        if not _same(np.asarray(a), np.asarray(b), close):
            yield f"{path}: {b!r}, not {a!r}"
    elif a != b:
        yield f"{path}: {b!r}, not {a!r}"


def _same(a: np.ndarray, b: np.ndarray, close: float | None) -> bool:
    if close is None or a.dtype.kind not in "fc":
        return a.tobytes() == b.tobytes()
    return np.allclose(a, b, rtol=close, atol=close, equal_nan=True)

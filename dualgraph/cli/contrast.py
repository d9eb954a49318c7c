"""``dualgraph contrast``: one computation, five ways.

c = sum(x*y + z) on 3x4 arrays with its three gradients: NumPy by hand, define-and-run,
define-by-run, the eager function traced, and its ONNX file in the standalone runtime. What is
printed as the code of each way is the source of the function that is run and timed.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

import dualgraph as dg
from dualgraph.cli.text import duration
from dualgraph.cli.timing import interleaved_medians
from dualgraph_compiler.errors import DualGraphError

TOLERANCE = 1e-5

Run = Callable[[], Any]


def _numpy_by_hand(x: Any, y: Any, z: Any) -> Run:
    def run() -> Any:
        a = x * y
        b = a + z
        c = b.sum()
        grad_b = np.ones_like(b)
        grad_x = grad_b * y
        grad_y = grad_b * x
        grad_z = grad_b
        return c, grad_x, grad_y, grad_z

    return run


def _define_and_run(*arrays: Any) -> Run:
    with dg.Graph() as graph:
        x = dg.placeholder((3, 4), name="x")
        y = dg.placeholder((3, 4), name="y")
        z = dg.placeholder((3, 4), name="z")
        c = (x * y + z).sum()
        grads = dg.gradients(c, [x, y, z])
    session = dg.Session(graph)
    feed = dict(zip([x, y, z], arrays, strict=True))

    def run() -> Any:
        return session.run([c, *grads], feed_dict=feed)

    return run


def _define_by_run(*arrays: Any) -> Run:
    x, y, z = (dg.tensor(a, requires_grad=True) for a in arrays)

    def run() -> Any:
        x.grad = y.grad = z.grad = None
        c = (x * y + z).sum()
        c.backward()
        return c, x.grad, y.grad, z.grad

    return run


def value_and_gradients(x: Any, y: Any, z: Any) -> Any:
    """The eager function that the last two ways start from."""
    c = (x * y + z).sum()
    return c, *dg.autograd.grad(c, [x, y, z])


def _traced(*arrays: Any) -> Run:
    fast = dg.compile(value_and_gradients)  # traced at its first call
    x, y, z = (dg.tensor(a, requires_grad=True) for a in arrays)

    def run() -> Any:
        return fast(x, y, z)

    return run


def _exported(*arrays: Any) -> Run:
    from dualgraph_runtime import InferenceSession

    example = tuple(dg.tensor(a, requires_grad=True) for a in arrays)
    model = dg.onnx.export(value_and_gradients, example).SerializeToString()
    session = InferenceSession(model)  # needs none of the code above
    feed = dict(zip("xyz", arrays, strict=True))

    def run() -> Any:
        return session.run(None, feed)

    return run


WAYS: dict[str, Callable[..., Run]] = {
    "NumPy, gradients by hand": _numpy_by_hand,
    "define and run: a graph, placeholders, a session": _define_and_run,
    "define by run: eager, backward()": _define_by_run,
    "the eager function, traced": _traced,
    "its ONNX file in the runtime": _exported,
}


@click.command("contrast")
@click.option("--peers/--no-peers", default=True, help="Time torch, jax, onnxruntime as well.")
@click.option("--code/--no-code", default=True, help="Show the code of each way.")
def command(peers: bool, code: bool) -> None:
    """Compute c = sum(x*y + z) and its gradients five ways; compare code, results and time."""
    console = Console(highlight=False)
    rng = np.random.default_rng(0)
    arrays = tuple(rng.standard_normal((3, 4)).astype(np.float32) for _ in range(3))
    runs = {title: make(*arrays) for title, make in WAYS.items()}
    if code:
        console.print("c = sum(x*y + z) on 3x4 arrays, with its gradients by x, y and z\n")
        for title, make in WAYS.items():
            shown = Syntax(shown_code(make), "python", background_color="default")
            console.print(Panel(shown, title=title, title_align="left", border_style="dim"))
    if peers:
        runs.update(_peers(arrays))
    reference = [np.asarray(r) for r in runs["NumPy, gradients by hand"]()]
    errors = {title: largest_difference(run(), reference) for title, run in runs.items()}
    _show_times(console, interleaved_medians(runs), errors)
    worst = max(errors.values())
    if worst > TOLERANCE:
        raise DualGraphError(f"results differ by up to {worst:.1e}; see the table above")
    console.print(f"\nAll values and gradients agree: the largest difference is {worst:.1e}.")


def shown_code(make: Callable[..., Run]) -> str:
    """The source of a way as it is shown: first what is done once, then what is done each time."""
    lines = textwrap.dedent(inspect.getsource(make)).splitlines()[1:]
    once, _, each = textwrap.dedent("\n".join(lines)).partition("def run() -> Any:\n")
    each = textwrap.dedent(each.removesuffix("return run").rstrip())
    if make in (_traced, _exported):
        head, _, *rest = inspect.getsource(value_and_gradients).splitlines()
        head = re.sub(r": Any| -> Any", "", head)
        once = "\n".join([head, *rest, "", once])
    parts = [once.strip(), f"# each time:\n{each}" if once.strip() else each]
    return "\n\n".join(part for part in parts if part)


def largest_difference(results: Any, reference: list[Any]) -> float:
    """The largest absolute difference over the value and the three gradients."""
    arrays = [np.asarray(r.detach() if hasattr(r, "detach") else r) for r in results]
    return max(float(abs(a - b).max()) for a, b in zip(arrays, reference, strict=True))


def _show_times(console: Console, times: dict[str, float], errors: dict[str, float]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("value and three gradients")
    table.add_column("a call", justify="right")
    table.add_column("difference to NumPy", justify="right")
    for name, seconds in times.items():
        style = "red" if errors[name] > TOLERANCE else "" if name in WAYS else "dim"
        table.add_row(name, duration(seconds), f"{errors[name]:.1e}", style=style)
    console.print()
    console.print(table)


def _peers(arrays: Sequence[Any]) -> dict[str, Run]:
    """The same in whatever peers are installed."""
    makers = {"torch": _torch, "jax": _jax, "onnxruntime": _onnxruntime}
    out: dict[str, Run] = {}
    for module, make in makers.items():
        if importlib.util.find_spec(module) is not None:
            out.update(make(*arrays))
    return out


def _torch(*arrays: Any) -> dict[str, Run]:
    import torch

    x, y, z = (torch.tensor(a, requires_grad=True) for a in arrays)

    def run() -> Any:
        x.grad = y.grad = z.grad = None
        c = (x * y + z).sum()
        c.backward()
        return c, x.grad, y.grad, z.grad

    return {f"torch {torch.__version__}, eager": run}


def _jax(*arrays: Any) -> dict[str, Run]:
    import jax

    f = jax.jit(jax.value_and_grad(lambda x, y, z: (x * y + z).sum(), argnums=(0, 1, 2)))
    on_device = [jax.device_put(a) for a in arrays]

    def run() -> Any:
        value, gradients = jax.block_until_ready(f(*on_device))
        return value, *gradients

    return {f"jax {jax.__version__}, jit": run}


def _onnxruntime(*arrays: Any) -> dict[str, Run]:
    import onnxruntime as ort

    example = tuple(dg.tensor(a, requires_grad=True) for a in arrays)
    model = dg.onnx.export(value_and_gradients, example).SerializeToString()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = dict(zip("xyz", arrays, strict=True))
    return {f"onnxruntime {ort.__version__}, our file": lambda: session.run(None, feed)}

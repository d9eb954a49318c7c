"""``dualgraph contrast``: one computation, five ways.

c = sum(x*y + z) on 3x4 arrays with its three gradients: NumPy by hand, define-and-run, define-by-run,
the eager function traced, and its ONNX file in the standalone runtime. What is printed as the code of
each way is the source of the function that is run and timed.
"""

from __future__ import annotations

import importlib.util
import inspect
import statistics
import textwrap
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

import dualgraph as dg

Arrays = tuple[Any, Any, Any]
Run = Callable[[], Any]


def numpy_by_hand(x: Any, y: Any, z: Any) -> Run:
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


def define_and_run(x_value: Any, y_value: Any, z_value: Any) -> Run:
    with dg.Graph() as graph:
        x = dg.placeholder((3, 4), name="x")
        y = dg.placeholder((3, 4), name="y")
        z = dg.placeholder((3, 4), name="z")
        c = (x * y + z).sum()
        grads = dg.gradients(c, [x, y, z])
    session = dg.Session(graph)
    feed = {x: x_value, y: y_value, z: z_value}

    def run() -> Any:
        return session.run([c, *grads], feed_dict=feed)

    return run


def define_by_run(x_value: Any, y_value: Any, z_value: Any) -> Run:
    x = dg.tensor(x_value, requires_grad=True)
    y = dg.tensor(y_value, requires_grad=True)
    z = dg.tensor(z_value, requires_grad=True)

    def run() -> Any:
        x.grad = y.grad = z.grad = None
        c = (x * y + z).sum()
        c.backward()
        return c, x.grad, y.grad, z.grad

    return run


def value_and_gradients(x: Any, y: Any, z: Any) -> Any:
    """The eager function that `traced` and `exported` start from."""
    c = (x * y + z).sum()
    return c, *dg.autograd.grad(c, [x, y, z])


def traced(x_value: Any, y_value: Any, z_value: Any) -> Run:
    fast = dg.compile(value_and_gradients)  # the eager function above, traced at its first call
    x = dg.tensor(x_value, requires_grad=True)
    y = dg.tensor(y_value, requires_grad=True)
    z = dg.tensor(z_value, requires_grad=True)

    def run() -> Any:
        return fast(x, y, z)

    return run


def exported(x_value: Any, y_value: Any, z_value: Any) -> Run:
    from dualgraph_runtime import InferenceSession

    example = tuple(dg.tensor(a, requires_grad=True) for a in (x_value, y_value, z_value))
    model = dg.onnx.export(value_and_gradients, example).SerializeToString()
    session = InferenceSession(model)  # needs no dualgraph, and no model code
    feed = {"x": x_value, "y": y_value, "z": z_value}

    def run() -> Any:
        return session.run(None, feed)

    return run


WAYS: dict[str, Callable[..., Run]] = {
    "NumPy, gradients by hand": numpy_by_hand,
    "define and run: a graph, placeholders, a session": define_and_run,
    "define by run: eager, backward()": define_by_run,
    "the eager function, traced": traced,
    "its ONNX file in the runtime": exported,
}


@click.command("contrast")
@click.option("--peers/--no-peers", default=True, help="Time torch, jax, onnxruntime as well.")
@click.option("--code/--no-code", default=True, help="Show the code of each way.")
def command(peers: bool, code: bool) -> None:
    """Compute c = sum(x*y + z) and its gradients five ways; compare code, results and time."""
    console = Console()
    rng = np.random.default_rng(0)
    arrays = tuple(rng.standard_normal((3, 4)).astype(np.float32) for _ in range(3))
    runs = {title: make(*arrays) for title, make in WAYS.items()}
    if code:
        for title, make in WAYS.items():
            _show_code(console, title, make)
    reference = [np.asarray(r) for r in runs["NumPy, gradients by hand"]()]
    errors = {title: largest_difference(run(), reference) for title, run in runs.items()}
    if peers:
        runs.update(_peers(arrays))
        errors.update({t: largest_difference(runs[t](), reference) for t in runs if t not in errors})
    times = time_interleaved(runs)
    _show_times(console, times, errors)
    worst = max(errors.values())
    console.print(
        f"\nAll values and gradients agree: the largest difference to NumPy is {worst:.1e}."
        if worst <= 1e-5
        else f"\n[red]Results differ by up to {worst:.1e}.[/]"
    )


def _show_code(console: Console, title: str, make: Callable[..., Run]) -> None:
    source = textwrap.dedent(inspect.getsource(make))
    body = textwrap.dedent("\n".join(source.splitlines()[1:]))
    if make in (traced, exported):
        function = inspect.getsource(value_and_gradients).splitlines()
        body = "\n".join([function[0], *function[2:], "", body])
    console.print(Panel(Syntax(body.strip(), "python"), title=title, title_align="left"))


def largest_difference(results: Any, reference: list[Any]) -> float:
    """The largest absolute difference over the value and the three gradients."""
    arrays = [np.asarray(r.detach() if hasattr(r, "detach") else r) for r in results]
    return max(float(abs(a - b).max()) for a, b in zip(arrays, reference, strict=True))


def time_interleaved(runs: dict[str, Run], *, blocks: int = 7, calls: int = 300) -> dict[str, float]:
    """Median microseconds a call of each, taking turns in blocks of `calls`."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(blocks + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(calls):
                run()
            times[name].append((time.perf_counter() - start) / calls * 1e6)
    return {name: statistics.median(t[1:]) for name, t in times.items()}  # the first warms up


def _show_times(console: Console, times: dict[str, float], errors: dict[str, float]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("c = sum(x*y + z), 3x4, with gradients")
    table.add_column("us a call", justify="right")
    table.add_column("largest difference", justify="right")
    for name, microseconds in times.items():
        table.add_row(name, f"{microseconds:.1f}", f"{errors[name]:.1e}")
    console.print(table)


def _peers(arrays: Arrays) -> dict[str, Run]:
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

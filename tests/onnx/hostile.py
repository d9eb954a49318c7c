"""Runs hostile models in processes of bounded memory, and tells what is not one of our errors.

python -m tests.onnx.hostile --count 5000 [--seed 1] [--execution native]

Each case is a model mutated from one of ONNX's own test cases: loaded, optimised and run. It may
work or raise a DualGraphError; it may not raise anything else, take more than `--seconds` of
processor time or `--gigabytes` of memory, or end the process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from tests.onnx.mutate import hostile_feed, mutated

_SILENCE = 60  # seconds without a word, on a busy machine
_PATIENCE = 5  # seconds before a run is told to stop


@dataclass(frozen=True)
class Finding:
    """A case that went wrong: `seed` makes it again, `what` says how it went wrong."""

    seed: int
    what: str
    detail: str = ""


def corpus() -> list[tuple[onnx.ModelProto, list[Any]]]:
    """Small valid models, each with its inputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        cases = load_model_tests(kind="node")
    return [(c.model, c.data_sets[0][0]) for c in cases if c.model.ByteSize() < 20_000]


def arrays_of(model: onnx.ModelProto, inputs: list[Any]) -> dict[str, Any]:
    arrays = [numpy_helper.to_array(t) if isinstance(t, onnx.TensorProto) else t for t in inputs]
    return {i.name: a for i, a in zip(model.graph.input, arrays, strict=False)}


def attempt(seed: int, models: list[Any], execution: str) -> str:
    """Make, load and run the case of a seed: "ran", "refused", "stopped" (a run that failed),
    or "endless" (a loop, which the caller ended)."""
    from dualgraph_compiler.errors import DualGraphError, RunStopped
    from dualgraph_runtime import InferenceSession, RunOptions, SessionOptions

    rng = random.Random(seed)
    model, inputs = rng.choice(models)
    arrays = arrays_of(model, inputs)
    data = mutated(rng, model, arrays)
    options = SessionOptions()
    options.execution = execution
    try:
        session = InferenceSession(data, options)
    except DualGraphError as error:
        str(error)
        return "refused"
    feed = {a.name: hostile_feed(rng, a, arrays.get(a.name)) for a in session.get_inputs()}
    told = RunOptions()
    signal.signal(signal.SIGALRM, lambda *_: setattr(told, "terminate", True))
    signal.alarm(_PATIENCE)
    try:
        for _ in range(2):
            session.run(None, {n: a for n, a in feed.items() if a is not None}, told)
    except DualGraphError as error:
        str(error)
        return "endless" if isinstance(error, RunStopped) else "stopped"
    finally:
        signal.alarm(0)
    return "ran"


def work(seeds: list[int], models: list[Any], execution: str, limit: float, out: int) -> None:
    """The worker: a line of JSON when a case begins and one when it ends."""

    def tell(**about: Any) -> None:
        os.write(out, (json.dumps(about) + "\n").encode())

    warnings.simplefilter("ignore")
    for seed in seeds:
        tell(begin=seed)
        start = time.process_time()
        try:
            outcome, detail = attempt(seed, models, execution), ""
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f for f in frames if "dualgraph" in f.filename][-1:] or frames[-1:]
            place = f"{os.path.basename(ours[0].filename)}:{ours[0].lineno}"
            outcome = f"{type(error).__name__} at {place}: {str(error)[:120]}"
            detail = "".join(traceback.format_exception(error))[-3000:]
        if time.process_time() - start > limit:
            outcome = f"took {time.process_time() - start:.1f} s, then {outcome}"
        tell(end=seed, outcome=outcome, detail=detail)


def run(
    seeds: list[int], execution: str = "interpreter", limit: float = 10.0, gigabytes: float = 6.0
) -> tuple[dict[str, int], list[Finding]]:
    """How often each thing happened, and what went wrong."""
    models = corpus()
    counts = {"ran": 0, "refused": 0, "stopped": 0, "endless": 0}
    findings: list[Finding] = []
    left = list(seeds)
    while left:
        current = None
        for line in _lines(left, models, execution, limit, gigabytes):
            current = line.get("begin", current)
            if "end" not in line:
                continue
            left = left[left.index(line["end"]) + 1 :]
            current = None
            if line["outcome"] in counts:
                counts[line["outcome"]] += 1
            else:
                findings.append(Finding(line["end"], line["outcome"], line["detail"]))
        if current is not None:
            findings.append(Finding(current, "the process ended or hung"))
            left = left[left.index(current) + 1 :]
    return counts, findings


def _lines(
    seeds: list[int], models: list[Any], execution: str, limit: float, gigabytes: float
) -> Iterator[dict[str, Any]]:
    """What a worker has to say, until it ends or hangs."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            size = int(gigabytes * 2**30)
            resource.setrlimit(resource.RLIMIT_AS, (size, size))
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 2)  # the converter and the inliner write there
            work(seeds, models, execution, limit, writing)
        finally:
            os._exit(0)
    os.close(writing)
    rest = b""
    try:
        while select.select([reading], [], [], _SILENCE)[0]:
            got = os.read(reading, 65536)
            if not got:
                return
            *whole, rest = (rest + got).split(b"\n")
            yield from map(json.loads, whole)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--execution", default="interpreter")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--gigabytes", type=float, default=6.0)
    parser.add_argument("--details", action="store_true")
    args = parser.parse_args()
    seeds = list(range(args.seed, args.seed + args.count))
    counts, findings = run(seeds, args.execution, args.seconds, args.gigabytes)
    print(counts, len(findings), "findings")
    for f in findings:
        print(f"  {f.seed}: {f.what}")
        if args.details:
            print(f.detail)
    return bool(findings)


if __name__ == "__main__":
    np.seterr(all="ignore")
    sys.exit(main())

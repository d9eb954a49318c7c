"""Everything one run of the demo found out: what is printed and what the page is made from."""

from __future__ import annotations

from dataclasses import dataclass

from dualgraph.cli.demo.deploy import Agreement
from dualgraph.cli.demo.graphs import Optimised
from dualgraph.cli.demo.train import Training
from dualgraph_models.datasets import Split

Timings = dict[int, dict[str, float]]  # by batch size: seconds a call by contender


@dataclass(frozen=True, slots=True)
class Story:
    """One run of the demo."""

    seed: int
    split: Split
    training: Training
    inference: Optimised
    training_step: Optimised
    agreements: list[Agreement]
    timings: Timings
    one_thread: bool
    opset: int
    onnx_bytes: int
    versions: dict[str, str]

"""A line search for the strong Wolfe conditions.

Source: Nocedal and Wright, "Numerical Optimization", 2006, algorithms 3.5 and 3.6, with the cubic
interpolation of equation 3.59 and the safeguards of PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from dualgraph._tensor import Tensor

__all__ = ["Point", "strong_wolfe"]

ENOUGH_DECREASE = 1e-4  # c1
ENOUGH_CURVATURE = 0.9  # c2
SMALLEST_BRACKET = 1e-9


@dataclass(slots=True)
class Point:
    """A place on the line: how far, the loss and its gradient there, the slope along the line."""

    t: float
    value: float
    gradient: Tensor
    slope: float


def strong_wolfe(
    at: Callable[[float], Point], here: Point, first: float, size: float, most: int
) -> tuple[Point, int]:
    """A place that meets the strong Wolfe conditions, or the best found, and how many were tried.

    Args:
        at: computes the place at a distance.
        here: the place at distance 0, where the slope is negative.
        first: the distance to try first.
        size: the largest element of the direction.
        most: how many distances to try after the first one.
    """
    bracket, count, done = _bracket(at, here, first, most)
    if done:
        return bracket[0], count
    return _zoom(at, here, bracket, size, count, most)


def _is_too_high(point: Point, here: Point) -> bool:
    return point.value > here.value + ENOUGH_DECREASE * point.t * here.slope


def _is_flat_enough(point: Point, here: Point) -> bool:
    return abs(point.slope) <= -ENOUGH_CURVATURE * here.slope


def _bracket(
    at: Callable[[float], Point], here: Point, first: float, most: int
) -> tuple[list[Point], int, bool]:
    """Two places with a good one between them, or one that is good (True)."""
    previous, point = here, at(first)
    count = 1
    for step in range(most):
        # PyTorch lets the second try rise, and so do we: its steps are the reference.
        if _is_too_high(point, here) or (step > 1 and point.value >= previous.value):
            return [previous, point], count, False
        if _is_flat_enough(point, here):
            return [point], count, True
        if point.slope >= 0:
            return [previous, point], count, False
        low = point.t + 0.01 * (point.t - previous.t)
        previous, point = point, at(_lowest(previous, point, low, point.t * 10))
        count += 1
    return [here, point], count, False


def _zoom(
    at: Callable[[float], Point],
    here: Point,
    bracket: list[Point],
    size: float,
    count: int,
    most: int,
) -> tuple[Point, int]:
    """Narrow a bracket until one of its ends is good."""
    stuck = False
    low, high = (0, 1) if bracket[0].value <= bracket[-1].value else (1, 0)
    for _ in range(most - (count - 1)):
        if abs(bracket[1].t - bracket[0].t) * size < SMALLEST_BRACKET:
            break
        t, stuck = _inside(bracket, stuck)
        point = at(t)
        count += 1
        if _is_too_high(point, here) or point.value >= bracket[low].value:
            bracket[high] = point
            low, high = (0, 1) if bracket[0].value <= bracket[1].value else (1, 0)
            continue
        done = _is_flat_enough(point, here)
        if not done and point.slope * (bracket[high].t - bracket[low].t) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = point
        if done:
            break
    return bracket[low], count


def _inside(bracket: list[Point], stuck: bool) -> tuple[float, bool]:
    """The next distance to try; away from the ends if the last try was near one already."""
    left, right = sorted(p.t for p in bracket)
    t = _lowest(bracket[0], bracket[1], left, right)
    margin = 0.1 * (right - left)
    if min(right - t, t - left) >= margin:
        return t, False
    if stuck or t >= right or t <= left:
        return (right - margin if abs(t - right) < abs(t - left) else left + margin), False
    return t, True


def _lowest(a: Point, b: Point, low: float, high: float) -> float:
    """Where the cubic through two places with their slopes is lowest, within [low, high]."""
    a, b = (a, b) if a.t <= b.t else (b, a)
    if a.t == b.t:
        return (low + high) / 2
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    return min(max(t, low), high)

"""Random draws inside of function transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dualgraph_compiler.errors import AutogradError
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.random import Random, RandomPermutation

from .._dispatch import make
from .batched import Batched, BatchLevel
from .levels import transforms

if TYPE_CHECKING:
    from .._tensor import Tensor


def draw_in_levels(op: Random, draw: Callable[[Random], Tensor]) -> Tensor:
    """What `op` draws in the maps that are open: as their `randomness` says.

    Raises:
        AutogradError: a map allows no draws.
    """
    maps = [level for level in transforms.levels if isinstance(level, BatchLevel)]
    for level in maps:
        if level.randomness == "error":
            raise AutogradError(
                "vmap: called random operation while in randomness error mode. Please either use "
                "the 'same' or 'different' randomness flags on vmap or perform the randomness "
                "operation out of vmap"
            )
    return _drawn(op, [x for x in maps if x.randomness == "different"], draw)


def _drawn(op: Random, maps: list[BatchLevel], draw: Callable[[Random], Tensor]) -> Tensor:
    if not maps:
        return draw(op)
    *outer, level = maps
    if isinstance(op, RandomPermutation):
        rows = f.stack([_drawn(op, outer, draw) for _ in range(int(level.size))], 0)
    else:
        attributes = op.attributes()
        attributes["shape"] = (level.size, *attributes["shape"])
        rows = _drawn(type(op)(**attributes), outer, draw)
    return make(Batched(level, rows))

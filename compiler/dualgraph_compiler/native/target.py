"""What a program is compiled for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """`vector_bytes`: the width of a vector register; 32 for AVX2, 64 for AVX-512, 16 else.

    Everything else about the machine is asked of the C compiler by the emitted text itself
    (``__AVX2__``, ``__FMA__``, ...), so that one text serves a family of machines.
    """

    vector_bytes: int = 32

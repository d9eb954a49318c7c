"""What all modules that are read from a file have in common."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from typing import TypeAlias

from dualgraph_compiler.errors import ArgumentError

from .._tensor import Tensor
from .parts import Part

# Which parameters train: all or none, some by name or pattern, or those a function picks.
Trainable: TypeAlias = bool | str | Iterable[str] | Callable[[str, Tensor], bool]


class LoadedModule(Part):
    """A model of a file, its weights parameters under the names they have there."""

    def train_only(self, which: Trainable) -> None:
        """Let only these parameters require gradients.

        Args:
            which: True or False for all or none; names (of a parameter, or of a part for all in
                it) or patterns such as ``"*.bias"``; or a function of name and parameter.

        Raises:
            ArgumentError: a name or pattern fits no parameter.
        """
        parameters = dict(self.named_parameters())
        chosen = set(parameters)
        if which is False:
            chosen = set()
        elif callable(which):
            chosen = {n for n, p in parameters.items() if which(n, p)}
        elif which is not True:
            chosen = set()
            for wish in [which] if isinstance(which, str) else which:
                fits = {
                    n
                    for n in parameters
                    if n == wish or n.startswith(f"{wish}.") or fnmatch.fnmatchcase(n, wish)
                }
                if not fits:
                    listed = ", ".join(list(parameters)[:8])
                    raise ArgumentError(
                        f"trainable: no parameter is called {wish!r}; there are {listed}, ..."
                    )
                chosen |= fits
        for n, p in parameters.items():
            p.requires_grad_(n in chosen)

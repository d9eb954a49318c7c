"""Names in ONNX files: unique value names, symbolic sizes, and source locations in doc strings."""

from __future__ import annotations

import keyword
import re

from ..dims import Dim, DimLike, as_linear, parse_dim, substitute, symbols
from ..errors import ShapeError
from ..graph import Location


class Names:
    """Hands out unique names; the first to ask for a name gets it as it is."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def claim(self, wish: str) -> str:
        """`wish`, or `wish` with a number where it is taken."""
        name = wish
        while name in self._taken:
            number = self._next.get(wish, 1)
            self._next[wish] = number + 1
            name = f"{wish}_{number}"
        self._taken.add(name)
        return name


# -- symbolic sizes ------------------------------------------------------------------------------

_LONGEST_EXPRESSION = 200  # characters of a dim_param that are tried as arithmetic

# Upper bound of sizes the model leaves open. Exporters write "to the end" as a number this large,
# and only a bound tells that it is past every end.
MAX_SIZE = 10**9


class DimNames:
    """Turns the `dim_param` texts of one model into dims; equal texts give equal dims."""

    def __init__(self) -> None:
        self._names = Names()
        self._dims: dict[str, DimLike] = {}

    def symbol(self, text: str) -> DimLike:
        """The dim for a `dim_param`, or for a made-up name: arithmetic if the text is some."""
        found = self._dims.get(text)
        if found is None:
            found = self._dims[text] = self._read(text)
        return found

    def fresh(self, stem: str) -> Dim:
        """A dim that no other text gives."""
        return Dim(self._names.claim(stem), max=MAX_SIZE)

    def _read(self, text: str) -> DimLike:
        if not text.isidentifier() and len(text) <= _LONGEST_EXPRESSION:
            # Arithmetic only over sizes seen by name, or on one that it tells: others would have no
            # value at run time.
            try:
                dim = parse_dim(text)
                linear = as_linear(dim)
                if linear is not None and linear[1] > 0:
                    self.symbol(linear[0].name)
                if isinstance(dim, Dim) and all(s.name in self._dims for s in symbols(dim)):
                    return substitute(dim, self._dims)
            except (ShapeError, ValueError, RecursionError, MemoryError):
                pass
        name = re.sub(r"\W", "_", text, flags=re.ASCII) or "dim"
        if name[0].isdigit():
            name = f"d{name}"
        if keyword.iskeyword(name):
            name += "_"
        return Dim(self._names.claim(name), max=MAX_SIZE)


# -- source locations ----------------------------------------------------------------------------


def location_text(loc: Location) -> str:
    """What a node's doc string says: ``lenet.py:31 in forward [features.conv1]``.

    The file's folder is left out: a published model should not show its author's directories.
    """
    text = str(loc)
    if loc.function:
        text += f" in {loc.function}"
    return f"{text} [{loc.scope}]" if loc.scope else text


_OURS = re.compile(
    r"(?P<file>[^\n]+?):(?P<line>\d+)(?: in (?P<function>\S+))?(?: \[(?P<scope>.*)\])?"
)
_TORCH = re.compile(r"(?P<file>[^\n(]+)\((?P<line>\d+)\): (?P<function>\S+)")  # one frame a line


def parse_location(text: str | bytes) -> Location | None:
    """The location a doc string states, ours or an older PyTorch's; None if it states none."""
    if not text or not isinstance(text, str):  # protobuf hands out bytes where it is not UTF-8
        return None
    match = _OURS.fullmatch(text) or _TORCH.match(text)
    if match is None:
        return None
    parts = match.groupdict(default="")
    return Location(parts["file"], int(parts["line"]), parts["function"], parts.get("scope", ""))

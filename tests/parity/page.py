"""``docs/pytorch.md``: what of PyTorch's vocabulary is there and what is absent, and why.

``python -m tests.parity.page`` writes the page from the list of PyTorch's names, from what the
packages have, and from ``differences.json``; ``--check`` only compares.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from dualgraph.torch.absent import REASONS, reason
from dualgraph.torch.coverage import Coverage, coverage
from dualgraph.torch.vocabulary import VERSION

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "pytorch.md"
# Entries of PyTorch's databases that are in scope; test_parity.py counts them.
TOTALS = {"ops": 657, "modules": 114, "optimizers": 14}
WIDTH = 110  # of what is told of a difference

HEAD = f"""\
# PyTorch's vocabulary

<!-- Written by `python -m tests.parity.page`; change that, not this. -->

Names, arguments, defaults, dtypes and errors are PyTorch's wherever PyTorch has the thing, so that
a model written for it runs under `import dualgraph as torch`, and a whole program as it is:

```sh
python -m dualgraph.torch train.py --epochs 3      # as python train.py --epochs 3
python -m dualgraph.torch -m package.train         # as python -m package.train
```

There `import torch`, and any of its submodules, gives dualgraph; PyTorch is neither needed nor
touched where it is installed. Worker processes know it too, started either way (`fork`, `spawn`). A
name that is missing raises an error that says which, why, and what there is instead:

```text
AttributeError: torch.hub is missing: downloading code and weights is left to the program
(huggingface_hub, urllib).
```

Two tools measure what agrees. `dualgraph parity` counts public names against a list made from
PyTorch {VERSION}. `python -m tests.parity` runs PyTorch's own databases of operators, modules and
optimizers in both, sample by sample, and compares results, dtypes, shapes and gradients. The form
of TensorFlow's training loops is shown beside PyTorch's in [dialects.md](dialects.md).
"""


def text() -> str:
    """The page."""
    found = coverage()
    parts = [HEAD, *_names(found), *_left_out(found), *_missing(found), *_differences()]
    return "\n".join(parts) + "\n"


def _names(found: list[Coverage]) -> Iterator[str]:
    yield "## Names\n"
    yield f"Public names of PyTorch {VERSION}: those that are there, those that are missing, and"
    yield "those left out on purpose, for the reasons below.\n"
    yield "| module | present | missing | left out |"
    yield "| --- | ---: | ---: | ---: |"
    for c in found:
        yield f"| `{c.module}` | {len(c.present)} | {len(c.missing)} | {len(c.left_out)} |"
    sums = (sum(len(getattr(c, n)) for c in found) for n in ("present", "missing", "left_out"))
    yield f"| all | {' | '.join(map(str, sums))} |\n"


def _left_out(found: list[Coverage]) -> Iterator[str]:
    yield "## Left out, and why\n"
    for why, _ in REASONS:
        names = [
            f"{c.module}.{n}" for c in found for n in c.left_out if reason(f"{c.module}.{n}") == why
        ]
        if names:
            yield f"**{why[0].upper()}{why[1:]}** ({len(names)}): {_listed(names)}\n"


def _missing(found: list[Coverage]) -> Iterator[str]:
    yield "## Missing\n"
    for c in found:
        if c.missing:
            yield f"- `{c.module}`: {_listed(c.missing)}"
    yield ""


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"`{n.removeprefix('torch.')}`" for n in names)


def _differences() -> Iterator[str]:
    known = json.loads(Path(__file__).with_name("differences.json").read_text())
    yield "## Entries of PyTorch's databases that differ\n"
    yield "An entry agrees when all its samples do, with their gradients.\n"
    yield "| database | entries | agree | |"
    yield "| --- | ---: | ---: | ---: |"
    for kind, total in TOTALS.items():
        agree = total - len(known[kind])
        yield f"| {kind} | {total} | {agree} | {100 * agree / total:.1f} % |"
    for kind in TOTALS:
        if known[kind]:
            yield f"\nThe first difference of each of the {kind}:\n"
            yield from (f"- `{name}`: {_plain(why)}" for name, why in known[kind].items())


def _plain(why: str) -> str:
    """One line in which nothing means anything to Markdown."""
    short = why if len(why) <= WIDTH else why[: WIDTH - 3].rstrip() + "..."
    return f"`` {short.replace('`', chr(39))} ``"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare with the page")
    found = text()
    if not parser.parse_args().check:
        PAGE.write_text(found)
    elif PAGE.read_text() != found:
        sys.exit("docs/pytorch.md is not what `python -m tests.parity.page` writes")


if __name__ == "__main__":
    main()

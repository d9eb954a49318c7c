"""Random tensor programs, as lines of Python that run under any module with PyTorch's vocabulary.

A program is written line by line while it runs: what comes next depends on the shapes there are.
Every line is kept as text, so that a failing program can be read, and run again by hand.
"""

from __future__ import annotations

import math
from random import Random
from typing import Any

import numpy as np

UNARY = [
    "{x}.neg()", "{x}.sin()", "{x}.cos()", "{x}.tanh()", "{x}.sigmoid()", "{x}.abs()",
    "{x}.relu()", "{x}.square()", "{x}.tanh().exp()", "({x} * {x} + 1).sqrt()",
    "({x}.abs() + 1).log()", "({x} * {x} + 1).reciprocal()", "{x}.clamp(-0.5, 0.5)", "{x}.clone()",
    "{x}.contiguous()", "{x} * 1.5", "2 - {x}", "{x} / 3", "{x} ** 3", "{x}.clamp_min(0.1)",
    "{x}.expm1()", "{x}.atan()", "1 / ({x}.abs() + 2)", "{x}.erf()", "{x}.floor() + {x}",
]  # fmt: skip
BINARY = [
    "{x} + {y}", "{x} - {y}", "{x} * {y}", "{x} / ({y} * {y} + 1)", "lib.maximum({x}, {y})",
    "lib.minimum({x}, {y})", "lib.where({x} > {y}, {x}, {y})", "lib.atan2({x}, {y})",
    "lib.add({x}, {y}, alpha=2)", "lib.where({x} > 0, {y}, {x} * 2)",
]  # fmt: skip
REDUCE = [
    "{x}.sum({d})", "{x}.mean({d})", "{x}.sum({d}, keepdim=True)", "{x}.logsumexp({d})",
    "{x}.softmax({d})", "{x}.cumsum({d})", "{x}.log_softmax({d})", "{x}.flip({d})",
    "{x}.roll(1, {d})", "{x}.prod({d})",
]  # fmt: skip
REDUCE_NONEMPTY = ["{x}.amax({d})", "{x}.max({d}).values", "{x}.min({d}).values", "{x}.var({d})"]
# `t` is what is written to: a tensor, a view made on the spot, or a detached one.
IN_PLACE = [
    "{t}.add_(0.5)", "{t}.mul_(0.5)", "{t}.neg_()", "{t}.sin_()", "{t}.tanh_()", "{t}.relu_()",
    "{t}.sigmoid_()", "{t}.clamp_(-1, 1)", "{t}.fill_(0.25)", "{t}.zero_()", "{t}.abs_()",
    "{t}.masked_fill_({t} > 0.3, 0.1)", "{t}.exp_().clamp_(max=2)", "{t}.square_()", "{t} += 1",
    "{t}[...] = 0.75", "{t}.div_(2)", "{t}.sub_(0.1)", "{t}.floor_()",
]  # fmt: skip
IN_PLACE_WITH = [
    "{t}.add_({y})", "{t}.mul_({y})", "{t}.copy_({y})", "{t}[...] = {y}", "{t} -= {y}",
    "{t}.div_({y} * {y} + 1)", "{t}.sub_({y}, alpha=2)", "{t}.addcmul_({y}, {y})",
    "{t}.masked_fill_({y} > 0, 0.5)",
]  # fmt: skip


class Writer:
    """Writes a program and runs it as it grows.

    Args:
        rng: where choices come from.
        lib: the module that runs it while it is written.
        mutate: whether to write in-place operations.
        autograd: whether to detach, switch recording off, ask for gradients of this and that.
        data_dependent: whether shapes may depend on the data (selection by masks).
    """

    def __init__(
        self,
        rng: Random,
        lib: Any,
        *,
        mutate: bool = True,
        autograd: bool = True,
        data_dependent: bool = True,
    ) -> None:
        self.rng = rng
        self.lib = lib
        self.space: dict[str, Any] = {"lib": lib}
        self.mutate = mutate
        self.autograd = autograd
        self.data_dependent = data_dependent
        self.count = 0

    # -- picking things ---------------------------------------------------------------------------

    def tensors(self) -> dict[str, Any]:
        return {k: v for k, v in self.space.items() if k != "lib" and hasattr(v, "shape")}

    def pick(self, least: int = 0, nonempty: bool = False) -> str | None:
        """The name of a tensor with at least `least` dimensions."""
        found = [
            k
            for k, v in self.tensors().items()
            if v.ndim >= least and (not nonempty or 0 not in v.shape)
        ]
        return self.rng.choice(found) if found else None

    def beside(self, x: str) -> str:
        """A tensor that broadcasts with `x`, most of the time."""
        if self.rng.random() < 0.03:
            return self.rng.choice(list(self.tensors()))
        shape = self.space[x].shape
        found = [k for k, v in self.tensors().items() if _broadcasts(v.shape, shape)]
        return self.rng.choice(found)

    def into(self, x: str) -> str:
        """A tensor that broadcasts to the shape of `x`, most of the time."""
        if self.rng.random() < 0.03:
            return self.rng.choice(list(self.tensors()))
        target = self.space[x]
        shape = tuple(target.shape)
        found = [k for k, v in self.tensors().items() if _broadcast(v.shape, shape) == shape]
        # What overlaps the target in part has no defined result in PyTorch.
        found = [k for k in found if k == x or not _overlap(self.space[k], target)]
        return self.rng.choice(found)

    def new(self) -> str:
        self.count += 1
        return f"t{self.count}"

    # -- lines ------------------------------------------------------------------------------------

    def inputs(self) -> list[str]:
        """Lines that make the first tensors."""
        rng = self.rng
        lines = []
        for name in "abc"[: rng.randint(2, 3)]:
            shape = rng.choice(
                [
                    (),
                    (3,),
                    (2, 3),
                    (3, 2),
                    (2, 2),
                    (1, 3),
                    (2, 1, 3),
                    (0, 3),
                    (3, 3),
                    (4,),
                    (2, 3, 2),
                ]
            )
            values = [rng.randint(-20, 20) / 8 for _ in range(math.prod(shape))]
            dtype = rng.choice(["float64", "float64", "float32"])
            grad = ", requires_grad=True" if self.autograd and rng.random() < 0.6 else ""
            data = f"lib.tensor({values}, dtype=lib.{dtype}).reshape({shape}).clone()"
            if grad:
                data = f"{data}.requires_grad_()"
            lines.append(f"{name} = {data}")
        return lines

    def line(self) -> str | None:
        """The next line, or None where the kind of line drawn does not apply."""
        kinds = [self.unary, self.binary, self.view, self.view, self.reduce, self.join, self.index]
        kinds.append(self.matmul)
        if self.mutate:
            kinds += [self.in_place] * 4
        if self.autograd:
            kinds.append(self.control)
        return self.rng.choice(kinds)()

    def unary(self) -> str | None:
        return f"{self.new()} = {self.rng.choice(UNARY)}".replace("{x}", self.pick() or "")

    def binary(self) -> str | None:
        x = self.pick()
        assert x is not None
        return f"{self.new()} = " + self.rng.choice(BINARY).format(x=x, y=self.beside(x))

    def reduce(self) -> str | None:
        rng = self.rng
        x = self.pick(1)
        if x is None:
            return None
        shape = self.space[x].shape
        forms = REDUCE if 0 in shape else REDUCE + REDUCE_NONEMPTY
        d = rng.randrange(-len(shape), len(shape))
        if rng.random() < 0.2:
            return f"{self.new()} = {x}.{rng.choice(['sum', 'mean'])}()"
        return f"{self.new()} = " + rng.choice(forms).format(x=x, d=d)

    def matmul(self) -> str | None:
        x = self.pick(1)
        if x is None:
            return None
        size = self.space[x].shape[-1]
        found = [
            k
            for k, v in self.tensors().items()
            if v.ndim in (1, 2) and v.shape[0 if v.ndim == 1 else -2] == size
            and v.dtype == self.space[x].dtype
        ]  # fmt: skip
        return f"{self.new()} = {x} @ {self.rng.choice(found)}" if found else None

    def join(self) -> str | None:
        rng = self.rng
        x = self.pick()
        assert x is not None
        shape = self.space[x].shape
        same = [k for k, v in self.tensors().items() if v.shape == shape]
        y = rng.choice(same)
        if not shape or rng.random() < 0.4:
            return f"{self.new()} = lib.stack([{x}, {y}, {x}], {rng.randint(0, len(shape))})"
        return f"{self.new()} = lib.cat([{y}, {x}], {rng.randrange(len(shape))})"

    def view_of(self, x: str) -> str:
        """An expression for a view of `x` (of a copy, now and then: reshape)."""
        rng = self.rng
        shape = tuple(self.space[x].shape)
        n = len(shape)
        forms = [f"{x}.unsqueeze({rng.randint(0, n)})", f"{x}.reshape(-1)", f"{x}[None]"]
        forms += [f"{x}.squeeze()", f"{x}[...]", f"{x}.expand(2, *{shape})", f"{x}.expand({shape})"]
        forms.append(f"{x}.view({_refactored(rng, math.prod(shape))})")
        if n:
            d = rng.randrange(n)
            size = shape[d]
            a = rng.randint(0, size)
            b = rng.randint(a, size)
            colons = ":, " * d
            forms += [
                f"{x}[{colons}{a}:{b}]",
                f"{x}[{colons}{a}::2]",
                f"{x}[..., {a}:]",
                f"{x}.narrow({d}, {a}, {b - a})",
                f"{x}.transpose({d}, {rng.randrange(n)})",
                f"{x}.flatten()",
                f"{x}.split(2, {d})[0]",
                f"{x}.permute({rng.sample(range(n), n)})",
                f"{x}.reshape({_refactored(rng, math.prod(shape))})",
            ]
            if size:
                i = rng.randrange(-size, size)
                forms += [f"{x}[{colons}{i}]", f"{x}.select({d}, {i})", f"{x}.unbind({d})[{i}]"]
                forms += [f"{x}.chunk(2, {d})[-1]", f"{x}[{colons}{i}, ..., None]"]
        if n >= 2:
            forms += [f"{x}.diagonal()", f"{x}.mT", f"{x}.diagonal({rng.randint(-1, 1)}, 0, -1)"]
        return rng.choice(forms)

    def view(self) -> str | None:
        x = self.pick()
        assert x is not None
        return f"{self.new()} = {self.view_of(x)}"

    def index_of(self, x: str) -> str | None:
        """A key that picks by tensors or masks; None for a 0-d tensor."""
        rng = self.rng
        shape = self.space[x].shape
        if not shape or 0 in shape:
            return None
        at = [rng.randrange(-shape[0], shape[0]) for _ in range(rng.randint(1, 3))]
        keys = [f"{at}", f"lib.tensor({at})", f"lib.tensor([{at}])"]
        if len(shape) > 1:
            other = [rng.randrange(shape[1]) for _ in at]
            keys += [f"{at}, {other}", f":, {other}", f"{at}, None, {other}", f"{at}, :1"]
        if self.data_dependent:
            keys += [f"{x} > 0.1", f"{x}.detach().abs() < 1"]
        return rng.choice(keys)

    def index(self) -> str | None:
        x = self.pick(1)
        if x is None:
            return None
        key = self.index_of(x)
        if key is None:
            return None
        if self.rng.random() < 0.2:
            index = [0] * self.rng.randint(0, 3)
            return f"{self.new()} = {x}.index_select(0, lib.tensor({index}, dtype=lib.int64))"
        return f"{self.new()} = {x}[{key}]"

    def in_place(self) -> str | None:
        rng = self.rng
        x = self.pick()
        assert x is not None
        kind = rng.random()
        prefix = ""
        if self.autograd and rng.random() < 0.15:
            prefix = "with lib.no_grad(): "
        if kind < 0.1:
            key = self.index_of(x)
            return None if key is None else f"{prefix}{x}[{key}] = {rng.choice(['0.5', '-1'])}"
        if kind < 0.5:
            form = rng.choice(IN_PLACE_WITH).format(t=x, y=self.into(x))
            return prefix + form
        form = rng.choice(IN_PLACE)
        target = x
        if kind < 0.75 and "=" not in form.replace("max=", ""):
            target = self.view_of(x)
        elif kind < 0.8 and self.autograd and "=" not in form.replace("max=", ""):
            target = f"{x}.detach()"
        return prefix + form.format(t=target)

    def control(self) -> str | None:
        x = self.pick()
        assert x is not None
        return self.rng.choice(
            [
                f"{self.new()} = {x}.detach()",
                f"{self.new()} = {x}.detach().clone()",
                f"with lib.no_grad(): {self.new()} = {x} * 2",
                f"with lib.no_grad(): {self.new()} = {self.view_of(x)}",
                f"{x}.requires_grad_()",
                f"{x}.requires_grad_(False)",
                f"if {x}.requires_grad: {x}.retain_grad()",
                f"{self.new()} = {x}.detach().clone().requires_grad_()",
            ]
        )

    def loss(self) -> list[str]:
        """Lines that make a scalar of some of the tensors."""
        found = [k for k, v in self.tensors().items() if v.requires_grad]
        if not found:
            return []
        chosen = self.rng.sample(found, min(len(found), self.rng.randint(1, 3)))
        terms = " + ".join(
            f"({k} * {k}).sum()" if i else f"{k}.sum()" for i, k in enumerate(chosen)
        )
        return [f"loss = {terms}"]


def _broadcast(a: Any, b: Any) -> tuple[int, ...] | None:
    out: list[int] = []
    for i in range(1, max(len(a), len(b)) + 1):
        m = a[-i] if i <= len(a) else 1
        n = b[-i] if i <= len(b) else 1
        if m != n and m != 1 and n != 1:
            return None
        out.append(n if m == 1 else m)
    return tuple(reversed(out))


def _overlap(a: Any, b: Any) -> bool:
    return np.may_share_memory(a.detach().numpy(), b.detach().numpy())


def _broadcasts(a: Any, b: Any) -> bool:
    return _broadcast(a, b) is not None


def _refactored(rng: Random, size: int) -> tuple[int, ...]:
    """A shape of `size` elements."""
    if size == 0:
        return rng.choice([(0,), (2, 0), (0, 3)])
    d = rng.choice([i for i in range(1, size + 1) if size % i == 0])
    return rng.choice([(d, size // d), (d, 1, size // d), (size,), (-1, d)])

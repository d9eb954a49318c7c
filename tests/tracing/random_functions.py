"""Random Python functions whose control flow tensors decide, as source text.

They are deterministic, end, and touch no name before it has a value on every path. What they do:
assignments to tensors and numbers, nested ifs with and without else, while loops with bounded
counters, for loops over ranges and tensors, break, continue, early returns, and/or/not, conditional
expressions, in-place operators and helpers called.
"""

from __future__ import annotations

from random import Random

HELPER = """
def helper{i}(t, u):
    if t.sum() > {c}:
        return t - u
    elif u.max() > {d}:
        t = t + 1
    return t * 0.5 + u
"""


class Functions:
    """Writes one module: two helpers and the function `f(x, y)`, with in-place operators or not."""

    def __init__(self, seed: int, *, depth: int = 2, writes: bool = False) -> None:
        self.rng = Random(seed)
        self.depth = depth
        self.writes = writes
        self.lines: list[str] = []
        self.count = 0

    def module(self) -> str:
        helpers = [
            HELPER.format(i=i, c=self.rng.randint(-2, 2), d=self.rng.randint(-1, 1))
            for i in range(2)
        ]
        self.put(0, "def f(x, y):")
        self.put(1, "a = x + y")
        self.put(1, "b = x * 0.5")
        self.put(1, "n = 0")
        self.put(1, "s = 1.5")
        self.block(1, ["x", "y", "a", "b"], ["n", "s"], depth=self.depth, loop=False)
        self.put(1, self.result(["x", "y", "a", "b"], ["n", "s"]))
        return "\n".join(["import dualgraph as dg", *helpers, *self.lines, ""])

    def put(self, indent: int, text: str) -> None:
        self.lines.append("    " * indent + text)

    # -- statements -------------------------------------------------------------------------------

    def block(
        self, indent: int, tensors: list[str], numbers: list[str], depth: int, loop: bool
    ) -> None:
        """A few statements; names bound inside are known inside only."""
        tensors, numbers = list(tensors), list(numbers)
        for _ in range(self.rng.randint(1, 3)):
            self.statement(indent, tensors, numbers, depth, loop)

    def statement(
        self, indent: int, tensors: list[str], numbers: list[str], depth: int, loop: bool
    ) -> None:
        kinds = (
            ["assign"] * 4 + ["number"] * 2 + ["new", "choose", "call"] + ["inplace"] * self.writes
        )
        if depth > 0:
            kinds += ["if", "if", "if", "while", "for", "with"]
        kind = self.rng.choice(kinds)
        getattr(self, f"_{kind}")(indent, tensors, numbers, depth, loop)

    def _assign(self, indent, tensors, numbers, depth, loop) -> None:
        self.put(indent, f"{self.rng.choice(tensors)} = {self.tensor(tensors, numbers)}")

    def _new(self, indent, tensors, numbers, depth, loop) -> None:
        self.count += 1
        self.put(indent, f"t{self.count} = {self.tensor(tensors, numbers)}")
        tensors.append(f"t{self.count}")

    def _number(self, indent, tensors, numbers, depth, loop) -> None:
        text = self.rng.choice(["n = n + 1", "n += 2", "n = n * 2 - 1", "s = s * 0.5", "s += 0.25"])
        self.put(indent, text)

    def _inplace(self, indent, tensors, numbers, depth, loop) -> None:
        op = self.rng.choice(["+=", "-=", "*="])
        self.put(indent, f"{self.rng.choice(['a', 'b'])} {op} {self.rng.choice(tensors)} * 0.5")

    def _choose(self, indent, tensors, numbers, depth, loop) -> None:
        t, u = self.rng.choice(tensors), self.rng.choice(tensors)
        self.put(
            indent,
            f"{self.rng.choice(tensors)} = {t} * 2 if {self.test(tensors, numbers)} else {u} - 1",
        )

    def _call(self, indent, tensors, numbers, depth, loop) -> None:
        t, u = self.rng.choice(tensors), self.rng.choice(tensors)
        self.put(indent, f"{self.rng.choice(tensors)} = helper{self.rng.randint(0, 1)}({t}, {u})")

    def _with(self, indent, tensors, numbers, depth, loop) -> None:
        self.put(indent, "with dg.enable_grad():")
        self.block(indent + 1, tensors, numbers, depth - 1, loop)

    def _if(self, indent, tensors, numbers, depth, loop) -> None:
        self.put(indent, f"if {self.test(tensors, numbers)}:")
        self.branch(indent + 1, tensors, numbers, depth - 1, loop)
        if self.rng.random() < 0.3:
            self.put(indent, f"elif {self.test(tensors, numbers)}:")
            self.branch(indent + 1, tensors, numbers, depth - 1, loop)
        if self.rng.random() < 0.5:
            self.put(indent, "else:")
            self.branch(indent + 1, tensors, numbers, depth - 1, loop)

    def branch(self, indent, tensors, numbers, depth, loop) -> None:
        self.block(indent, tensors, numbers, depth, loop)
        r = self.rng.random()
        if r < 0.15:
            self.put(indent, self.result(tensors[:4], numbers))
        elif loop and r < 0.35:
            self.put(indent, self.rng.choice(["break", "continue"]))

    def _while(self, indent, tensors, numbers, depth, loop) -> None:
        self.count += 1
        k = f"k{self.count}"
        self.put(indent, f"{k} = 0")
        self.put(
            indent, f"while {k} < {self.rng.randint(1, 3)} and ({self.test(tensors, numbers)}):"
        )
        self.put(indent + 1, f"{k} += 1")
        self.branch(indent + 1, tensors, numbers, depth - 1, True)
        self.orelse(indent, tensors, numbers, depth, loop)

    def _for(self, indent, tensors, numbers, depth, loop) -> None:
        self.count += 1
        items = self.rng.choice(["range(3)", "x", "enumerate(y)", "range(1, 3)", "(a, b)"])
        if items.startswith("enumerate"):
            self.put(indent, f"for i{self.count}, r{self.count} in {items}:")
            self.put(indent + 1, f"a = a + r{self.count} * i{self.count}")
        elif items.startswith("range"):
            self.put(indent, f"for i{self.count} in {items}:")
            self.put(indent + 1, f"b = b + i{self.count}")
        else:
            self.put(indent, f"for r{self.count} in {items}:")
            self.put(indent + 1, f"a = a + r{self.count}")
        self.branch(indent + 1, tensors, numbers, depth - 1, True)
        self.orelse(indent, tensors, numbers, depth, loop)

    def orelse(self, indent, tensors, numbers, depth, loop) -> None:
        if self.rng.random() < 0.2:
            self.put(indent, "else:")
            self.branch(indent + 1, tensors, numbers, depth - 1, loop)

    # -- expressions ------------------------------------------------------------------------------

    def result(self, tensors: list[str], numbers: list[str]) -> str:
        return f"return {self.rng.choice(tensors)} * 1.0, n, {self.tensor(tensors, numbers)}"

    def tensor(self, tensors: list[str], numbers: list[str]) -> str:
        t, u, n = self.rng.choice(tensors), self.rng.choice(tensors), self.rng.choice(numbers)
        forms = [f"{t} + {u}", f"{t} - {n}", f"{t} * 0.5 + {n}", f"dg.maximum({t}, {u})", f"-{t}"]
        return self.rng.choice([*forms, f"{t}.tanh() * 2"])

    def test(self, tensors: list[str], numbers: list[str]) -> str:
        t, n = self.rng.choice(tensors), self.rng.choice(numbers)
        c = self.rng.randint(-3, 3)
        forms = [
            f"{t}.sum() > {c}", f"{t}.max() <= {c}", f"{n} < {c}", f"-2 < {t}.sum() < {c + 3}",
            f"{t}[0].sum() > {n}", f"({t} > {c}).any()", f"{t}.sum().item() > {c}",
        ]  # fmt: skip
        text = self.rng.choice(forms)
        r = self.rng.random()
        if r < 0.15:
            return f"not {text}" if "<" not in text[2:] else f"not ({text})"
        if r < 0.4:
            other = self.rng.choice(forms)
            return f"({text}) {self.rng.choice(['and', 'or'])} ({other})"
        return text

"""Random modules with Python state, and random scripts that call and change them.

The modules read attributes, globals, arguments and sizes, branch and loop on them and on the values
of tensors, and write to buffers, attributes and lists. The script calls one of them several times,
with batches of changing size, and changes the state in between. Both are text, so that a failing
one can be read, and run again by hand.
"""

from __future__ import annotations

import linecache
import re
from random import Random
from typing import Any

# Expressions by what they give: a matrix of (batch, 3), a vector of (3,), a column of (batch,), a
# scalar. {m}, {v}, {c}, {s} stand for variables, {k} for a Python number of the state.
MATRIX = [
    "{m} + {m}", "{m} * {v}", "{m} - {s}", "{m} * {c}[:, None]", "{m}.tanh()", "{m}.relu()",
    "self.linear({m})", "self.linear({m}).sigmoid()", "{m} * {k}", "{m} + {k}", "{m}.softmax(-1)",
    "dg.cat([{m}[1:], {m}[:1]])", "{m}.flip(0)", "{m} / max({m}.shape[0], 1)",
    "{m}[:, [2, 0, 1]]", "{m}.reshape(-1).reshape({m}.shape)", "dg.where({m} > {s}, {m}, {v})",
    "{m} - {m}.mean(0)", "dg.nn.functional.dropout({m}, self.p, self.training)",
    "{m} + dg.randn_like({m}) * 0.1", "self.norm({m})", "{m}.cumsum(0)", "helper({m})",
    "{m}.clone()", "self.stages({m})", "self.part({m})", "{m} * self.options['scale']",
    "{m}[: {m}.shape[0] // 2].sum(0) + {m}", "dg.zeros({m}.shape[0], 3) + {v}",
    "{m} + dg.arange({m}.shape[0])[:, None]", "{m}.detach() * 2",
    "{m}.view({m}.shape[0], 3, 1).squeeze(-1)", "{m} * len({m})", "self.act({m})",
]  # fmt: skip
VECTOR = [
    "{m}.sum(0)", "{v} + {v}", "{v} * {k}", "self.weight", "self.total", "{v}.tanh()",
    "{v} * {s}", "self.weight * 2", "self.vectors[-1]", "{v}.clamp(-1, 1)", "{v}.sort().values",
    "{m}.sum(0) * {k}", "dg.stack([{s}, {s}, {s}])", "self.weight.detach() + {v}",
    "dg.ones(3) * {k}",
]  # fmt: skip
COLUMN = [
    "{m}.sum(1)", "{c} * 2", "{m} @ {v}", "{c} + {s}", "{m}[:, 0]", "{c} * {k}",
]  # fmt: skip
SCALAR = [
    "{m}.sum()", "{v}.norm()", "{s} * {s}", "{v}[0]", "{s}.tanh()", "{v}.max()", "{s} + {k}",
]  # fmt: skip
NUMBERS = [
    "self.k", "self.a", "n", "GLOBAL", "self.count", "len(self.items)", "x.shape[0]", "0.5",
    "self.options['scale']", "sum(self.items)", "self.linear.out_features", "float(self.flag)",
]  # fmt: skip

# Conditions on Python data, and on the values of tensors.
TESTS = [
    "self.flag", "not self.flag", "self.mode == 'a'", "self.k > 2", "x.shape[0] > 3", "n > 1",
    "self.last is None", "GLOBAL < 2", "self.training", "x.shape[0] % 2 == 0", "self.count > 2",
    "x.requires_grad", "len(self.items) > 2", "dg.is_grad_enabled()", "isinstance(n, int)",
]  # fmt: skip
VALUES = [
    "{s} > 0.5", "{v}.sum() > {s}", "{m}.mean() > 0", "{s} > 0 and {v}[0] < 1", "not {s} > 1",
]  # fmt: skip

# Lines that change state; `t` is a result of an operation in the function.
EFFECTS = [
    "self.count += 1", "self.last = {v}.detach()", "self.items.append(1)",
    "self.k = self.k % 3 + 1", "with dg.no_grad(): self.total.add_({v})",
    "with dg.no_grad(): self.total.copy_({v} * 0.5)", "self.options['seen'] = self.count",
    "self.total = self.total * 0.5", "self.flag = not self.flag",
    "with dg.no_grad(): self.weight.mul_(0.9)", "self.vectors[-1] = {v}.detach() * 0.1",
]  # fmt: skip

CHANGES = [
    "model.k = {i}", "model.a = {f}", "model.flag = not model.flag", "model.mode = '{w}'",
    "model.items = [{i}]", "model.items.append({i})", "model.options['scale'] = {f}",
    "GLOBAL = {i}", "model.train(not model.training)", "model.last = None", "model.count = 0",
    "model.p = {f} / 4", "model.weight.data = dg.tensor([{f}, 1.0, 2.0])",
    "model.total = dg.tensor([{f}, 1.0, 0.0])",
    "model.weight.requires_grad_(not model.weight.requires_grad)", "model.act = {act}",
    "with dg.no_grad(): model.linear.weight.mul_({f})", "with dg.no_grad(): model.total.zero_()",
    "model.weight = dg.nn.Parameter(dg.tensor([{f}, 0.5, 1.0]))", "dg.manual_seed({i})",
    "model.linear = dg.nn.Linear(3, 3)", "model.stages.append({layer})",
    "model.stages[0] = {layer}",
    "model.load_state_dict({{k: v * 0.5 for k, v in model.state_dict().items()}})",
    "model.vectors.append(dg.tensor([{f}, 0.0, 1.0]))", "model.zero_grad()",
    "model.norm.eps = {f}", "model.linear.weight.data[0] = {f}",
    "model.linear.requires_grad_({b})", "model.norm = {layer}",
    "model.linear.register_forward_hook(lambda m, a, out: out * {f})", "model.weight.grad = None",
    "helper = lambda x: x * {f}", "model.total.numpy()[0] = {f}",
    "Model.part = lambda self, x: x - {f}", "del model.stages[-1]", "model.linear.bias = None",
]  # fmt: skip
LAYERS = [
    "dg.nn.Tanh()", "dg.nn.LeakyReLU(0.1)", "dg.nn.Identity()", "dg.nn.LayerNorm(3)",
    "dg.nn.Linear(3, 3)",
]  # fmt: skip

WRITES = ["{t}.add_({k})", "{t}.mul_({v})", "{t}[:, 1] = {s}", "{t}[1:] *= 2"]
ACTS = ["dg.tanh", "dg.relu", "dg.sin"]

START = """
GLOBAL = 1
helper = lambda x: x * 2 + GLOBAL

class Model(dg.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm = dg.nn.Linear(3, 3), dg.nn.LayerNorm(3)
        self.stages = dg.nn.Sequential(dg.nn.Tanh(), dg.nn.Linear(3, 3))
        self.weight = dg.nn.Parameter(dg.tensor([0.5, -1.0, 2.0]))
        self.register_buffer("total", dg.zeros(3))
        self.k, self.a, self.flag, self.mode, self.p = 2, 0.5, True, "a", 0.25
        self.items, self.options, self.count, self.last = [1, 2], {"scale": 1.5}, 0, None
        self.vectors, self.act = [dg.ones(3)], dg.relu

    def part(self, x):
        return x * self.a if self.flag else x
"""


class ModelWriter:
    """Writes a module and a script; `values` lets branches and loops depend on tensors' values."""

    def __init__(self, rng: Random, *, values: bool = True, effects: bool = True) -> None:
        self.rng = rng
        self.values = values
        self.effects = effects
        self.names: dict[str, list[str]] = {"m": ["x"], "v": ["self.weight"], "c": [], "s": []}
        self.count = 0
        self.body = ""

    def source(self) -> str:
        """The module."""
        lines = ["    def forward(self, x, n=1):", "        v, c, s = x.sum(0), x.sum(1), x.sum()"]
        self.names = {"m": ["x"], "v": ["v"], "c": ["c"], "s": ["s"]}
        for _ in range(self.rng.randint(3, 8)):
            lines += ["        " + line for line in self.statement()]
        results = [self.rng.choice(self.names[kind]) for kind in "mmvs"]
        lines.append(f"        return {', '.join(results)}")
        self.body = "\n".join(lines)
        return f"{START}\n{self.body}\n"

    def filled(self, form: str) -> str:
        """`form` with variables and numbers for its fields."""
        while "{" in form:
            i = form.index("{")
            kind = form[i + 1]
            chosen = NUMBERS if kind == "k" else self.names[kind]
            form = form[:i] + self.rng.choice(chosen) + form[i + 3 :]
        return form

    def expression(self, kind: str) -> str:
        forms = {"m": MATRIX, "v": VECTOR, "c": COLUMN, "s": SCALAR}[kind]
        return self.filled(self.rng.choice(forms))

    def new(self, kind: str) -> str:
        self.count += 1
        self.names[kind].append(f"{kind}{self.count}")
        return f"{kind}{self.count}"

    def statement(self) -> list[str]:
        """The next lines."""
        rng = self.rng
        kind = rng.choice("mmmvvcs")
        choice = rng.random()
        if choice < 0.35:
            value = self.expression(kind)
            return [f"{self.new(kind)} = {value}"]
        if choice < 0.5:
            return self.branch(kind, self.filled(rng.choice(TESTS)))
        if choice < 0.6 and self.values:
            return self.branch(kind, self.filled(rng.choice(VALUES)))
        if choice < 0.72:
            return self.loop()
        if choice < 0.85 and self.effects:
            form = self.filled(rng.choice(EFFECTS))
            return (
                [f"if {self.filled(rng.choice(TESTS))}: {form}"]
                if rng.random() < 0.2 and "with" not in form
                else [form]
            )
        if choice < 0.93:
            value = self.expression("m")
            name = self.new("m")
            change = rng.choice(
                ["{t}.add_({k})", "{t}.mul_({v})", "{t}[:, 1] = {s}", "{t}[1:] *= 2"]
            )
            change = self.filled(change.replace("{t}", name))
            return [f"{name} = ({value}) * 1", change]
        value = self.expression(kind)
        return ["with dg.no_grad():", f"    {self.new(kind)} = {value}"]

    def branch(self, kind: str, test: str) -> list[str]:
        one, other = self.expression(kind), self.expression(kind)
        name = self.new(kind)
        form = self.rng.randrange(3)
        if form == 0:
            return [f"{name} = {one} if {test} else {other}"]
        if form == 1:
            return [f"{name} = {one}", f"if {test}:", f"    {name} = {name} * 2"]
        return [f"if {test}:", f"    {name} = {one}", "else:", f"    {name} = {other}"]

    def loop(self) -> list[str]:
        rng = self.rng
        forms = ["for i in range(self.k):", "for i in self.items:", "for i in range(n):"]
        forms += ["for i, layer in enumerate(self.stages):", "for i in range(len(x)):"]
        if rng.random() < 0.2:
            name, value = self.new("v"), rng.choice(["self.weight * 1", "x.sum(0)"])
            return [f"{name} = {value}", "for row in x:", f"    {name} = {name} * 0.5 + row"]
        value = self.expression("m")
        name = self.new("m")
        if self.values and rng.random() < 0.3:
            test = f"while {name}.abs().sum() > 2:"
            return [f"{name} = {value}", test, f"    {name} = {name} * 0.5"]
        return [f"{name} = {value}", rng.choice(forms), f"    {name} = {name} * 0.5 + i"]

    def script(self) -> list[str]:
        """Lines that change things, and ``call(batch, n, grad, backward)``."""
        rng = self.rng
        lines = []
        for _ in range(rng.randint(4, 7)):
            for _ in range(rng.choice([0, 1, 1, 2])):
                lines.append(self.change())
            call = "call(4, 1, False, True)"  # mostly the same, so that only the state has changed
            if rng.random() < 0.4:
                batch = rng.choice([4, 4, 2, 5, 7, 1, 0])
                n = rng.choice(["1", "2", "3"])
                call = f"call({batch}, {n}, {rng.random() < 0.3}, {rng.random() < 0.7})"
            lines.append(call)
        return lines

    def change(self) -> str:
        rng = self.rng
        form = rng.choice(CHANGES)
        for _ in range(20):  # mostly of something that the module reads
            found = re.search(r"model\.(\w+)|(GLOBAL|helper|part)", form)
            if found is not None and (found[1] or found[2]) in self.body:
                break
            form = rng.choice(CHANGES)
        fields = {
            "i": rng.randint(1, 4),
            "f": rng.choice([0.25, 0.5, 1.5, 3.0]),
            "w": rng.choice("ab"),
        }
        fields |= {"b": rng.random() < 0.5, "act": rng.choice(ACTS)}
        return form.format(layer=rng.choice(LAYERS), **fields)


def executed(source: str, name: str, space: dict[str, Any]) -> dict[str, Any]:
    """Run `source` in `space`, its lines known to tracebacks and to ``inspect``."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), space)
    return space

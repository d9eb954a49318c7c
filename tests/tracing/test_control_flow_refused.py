"""Control flow that a graph cannot take over: it runs eagerly, with a warning that says why."""

from __future__ import annotations

import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph.tracing import CaptureFailure, EagerFallbackWarning

LOG: list[object] = []
TOTAL = 0


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0
        self.seen = {}

    def note(self):
        self.calls += 1


MODEL = Counter()


def appends(x):
    if x.sum() > 0:
        LOG.append(1)
    return x * 1


def assigns_attribute(x):
    if x.sum() > 0:
        MODEL.last = 3
    return x * 1


def changes_in_a_call(x):
    if x.sum() > 0:
        MODEL.note()
    return x * 1


def writes_an_item(x):
    if x.sum() > 0:
        MODEL.seen["k"] = 1
    return x * 1


def prints(x):
    if x.sum() > 0:
        print("positive")
    return x * 1


def writes_a_global(x):
    global TOTAL
    if x.sum() > 0:
        TOTAL = TOTAL + 1
    return x * 1


def writes_around(x):
    count = 0

    def bump():
        nonlocal count
        count += 1

    if x.sum() > 0:
        bump()
    return x * 1, count


def extends(x):
    parts = [x]
    if x.sum() > 0:
        parts += [x * 2]
    return parts


def consumes(x):
    items = iter([1, 2, 3])
    if x.sum() > 0:
        next(items)
    return x * next(items)


def text(x):
    return f"sum {x.sum()}", x * 1


def shown(x):
    return str([x.sum()]), x * 1


def shapes_differ(x):
    if x.sum() > 0:
        y = x[:1]
    else:
        y = x
    return y * 1


def dtypes_differ(x):
    if x.sum() > 0:
        y = x.long()
    else:
        y = x
    return y * 1


def structures_differ(x):
    if x.sum() > 0:
        return x, x
    return x * 1


def unset(x):
    if x.sum() > 0:
        y = x * 2
    if x.sum() > 0:
        return y
    return x * 1


def swallowed(x):
    try:
        if x.sum() > 0:
            LOG.append(1)
    except RuntimeError:
        pass
    return x * 1


def aliased(x):
    y = x
    if x.sum() > 100:
        y = x * 2
    y += 1
    return y


def recursive(x):
    return recursive(x - 1) if x.sum() > 0 else x * 1


def raises_in_a_loop(x):
    while x.sum() < 10:
        x = x + 1
        if x.max() > 9:
            raise ValueError("too large")
    return x


def generator(x):
    def pieces():
        if x.sum() > 0:
            yield x
        yield x * 2

    return list(pieces())


def changes_size(x):
    while x.sum() < 10:
        x = dg.cat([x, x + 1])
    return x


REFUSED = [
    (appends, r"calls \.append\(\) of a list"),
    (assigns_attribute, r"changes Counter\.last"),
    (changes_in_a_call, r"changes Counter\.calls"),
    (writes_an_item, r"changes dict\[\.\.\.\]"),
    (prints, r"calls print\(\)"),
    (writes_a_global, "writes to variable 'TOTAL'"),
    (writes_around, "writes to variable 'count'"),
    (extends, "changes a list in place"),
    (consumes, r"calls next\(\)"),
    (text, "the text of a tensor needs the data"),
    (shown, "the text of a tensor needs the data"),
    (shapes_differ, r"give 'y' f32\[1\] and f32\[3\]"),
    (dtypes_differ, r"give 'y' i64\[3\] and f32\[3\]"),
    (structures_differ, r"return \(f32\[3\], f32\[3\]\) and f32\[3\]"),
    (unset, r"`x\.sum\(\) > 0` on line \d+ give 'y' f32\[3\] and nothing"),
    (swallowed, r"calls \.append\(\) of a list"),
    (aliased, "known by another name"),
    (recursive, "a recursion that only data ends"),
    (raises_in_a_loop, "raises ValueError: too large"),
    (generator, "is a generator"),
    (changes_size, r"the loop over `x\.sum\(\) < 10` on line \d+ gives it f32\[3\]"),
]


@pytest.mark.parametrize(("f", "why"), REFUSED, ids=[f.__name__ for f, _ in REFUSED])
def test_refused(f, why, capsys) -> None:
    def effects():
        return list(LOG), TOTAL, MODEL.calls, dict(MODEL.seen), capsys.readouterr().out

    found = []
    for call in (f, dg.compile(f)):
        for values in ([1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]):
            LOG.clear()
            MODEL.calls = 0
            MODEL.seen = {}
            globals()["TOTAL"] = 0
            x = dg.tensor(values)
            if call is not f and values[0] > 0:
                with pytest.warns(EagerFallbackWarning, match=why) as caught:
                    result = call(x)
                assert len(caught) == 1
                assert f"{__file__}:" in str(caught[0].message)
            else:
                result = call(x)
            found.append((repr(result), x.tolist(), *effects()))
    assert found[:2] == found[2:]
    with pytest.raises(CaptureFailure, match=why):
        dg.compile(f, fullgraph=True)(dg.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(CaptureFailure, match=why):
        dg.trace(f, dg.tensor([1.0, 2.0, 3.0]))


def test_code_without_source_is_refused() -> None:
    space = {}
    text = "def f(x):\n    return x * 2 if x.sum() > 0 else x * 1\n"
    exec(compile(text, "<not in any file>", "exec"), space)
    f = space["f"]
    with pytest.warns(EagerFallbackWarning, match="the source of 'f' is not known"):
        assert dg.compile(f)(dg.ones(2)).tolist() == [2, 2]


def test_other_calls_of_the_function_are_captured() -> None:
    def f(x, log):
        if log and x.sum() > 0:
            LOG.append(1)
        return x * 1

    fast = dg.compile(f)
    with pytest.warns(EagerFallbackWarning, match="append"):
        fast(dg.ones(2), True)
    fast(dg.ones(2), False)
    assert len(fast.graphs) == 1


# -- gradients of what was not computed ------------------------------------------------------------


class Either(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        if x.sum() > 0:
            return self.one(x)
        return self.other(x)


def test_parameters_of_the_branch_not_taken_have_no_gradient() -> None:
    model = Either()
    fast = dg.compile(model)
    with pytest.warns(EagerFallbackWarning, match="zeros instead of none.*x.sum\\(\\) > 0"):
        fast(dg.ones(2)).sum().backward()
    assert model.one.weight.grad is not None
    assert model.other.weight.grad is None
    assert not fast.graphs


def test_whole_steps_leave_the_branch_not_taken_alone() -> None:
    model = Either()
    optimizer = dg.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)
    before = model.other.weight.detach().clone()

    @dg.compile
    def step(x):
        optimizer.zero_grad()
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        return loss

    with pytest.warns(EagerFallbackWarning, match="zeros instead of none"):
        step(dg.ones(2))
    assert dg.equal(model.other.weight, before)


def test_branches_on_different_parameters_are_captured_without_gradients() -> None:
    model = Either()
    fast = dg.compile(model, fullgraph=True)
    with dg.no_grad():
        for x in (dg.ones(2), -dg.ones(2)):
            assert dg.allclose(fast(x), model(x))
    assert len(fast.graphs) == 1
    assert "if(" in str(dg.trace(model, dg.ones(2)))

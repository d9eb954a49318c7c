"""What functions find outside: closures, globals, grad modes; recursion and threads."""

from __future__ import annotations

import threading
from typing import Any

from .harness import Cases, data, error_of, filled

cases = Cases()

# -- closures and globals --------------------------------------------------------------------------


@cases()
def a_captured_number_changes(dg, compile):
    k = 2

    @compile
    def f(x):
        return x * k

    yield f(data(dg, 3))
    k = 5
    yield f(data(dg, 3))
    k = 0.5
    yield f(data(dg, 3))
    k = 2
    yield f(data(dg, 3))


@cases()
def a_captured_tensor_is_rebound(dg, compile):
    w = data(dg, 3)

    @compile
    def f(x):
        return x * w

    x = data(dg, 3, low=2)
    yield f(x)
    w = data(dg, 3, low=7)
    yield f(x)
    w.mul_(2)
    yield f(x)
    w = data(dg, 1, low=4)
    yield f(x)
    w = 3
    yield f(x)


@cases()
def a_captured_list_grows(dg, compile):
    scales = [2.0]

    @compile
    def f(x):
        for s in scales:
            x = x * s
        return x

    yield f(data(dg, 3))
    scales.append(3.0)
    yield f(data(dg, 3))
    scales[0] = 7.0
    yield f(data(dg, 3))
    scales.clear()
    yield f(data(dg, 3))


@cases()
def a_captured_dict_changes(dg, compile):
    options = {"scale": 2, "weights": [data(dg, 3)]}

    @compile
    def f(x):
        y = x * options["scale"]
        for w in options["weights"]:
            y = y + w
        return y if options.get("bias") is None else y + options["bias"]

    yield f(data(dg, 3))
    options["scale"] = 4
    yield f(data(dg, 3))
    options["weights"].append(data(dg, 3, low=3))
    yield f(data(dg, 3))
    options["bias"] = 1.5
    yield f(data(dg, 3))
    del options["bias"]
    options["weights"][0] = data(dg, 3, low=9)
    yield f(data(dg, 3))


@cases()
def a_captured_function_is_replaced(dg, compile):
    act = dg.relu

    @compile
    def f(x):
        return act(x)

    yield f(data(dg, 4))
    act = dg.tanh
    yield f(data(dg, 4))

    def triple(x):
        return x * 3

    act = triple
    yield f(data(dg, 4))


SCALE = 2
TABLE = {"bias": 1.0}
WEIGHT: Any = None


def scaled(x):
    """Reads globals."""
    return x * SCALE + TABLE["bias"] if WEIGHT is None else x * WEIGHT


@cases()
def globals_change(dg, compile):
    global SCALE, WEIGHT
    f = compile(scaled)
    try:
        yield f(data(dg, 3))
        SCALE = 5
        yield f(data(dg, 3))
        TABLE["bias"] = 3.0
        yield f(data(dg, 3))
        WEIGHT = data(dg, 3, low=4)
        yield f(data(dg, 3))
        WEIGHT = data(dg, 3, low=8)
        yield f(data(dg, 3))
        WEIGHT = None
        yield f(data(dg, 3))
    finally:
        SCALE, WEIGHT, TABLE["bias"] = 2, None, 1.0


@cases()
def globals_of_a_called_function_change(dg, compile):
    global SCALE

    @compile
    def f(x):
        return [scaled(x), scaled(x * 2)]

    try:
        yield f(data(dg, 3))
        SCALE = 9
        yield f(data(dg, 3))
    finally:
        SCALE = 2


@cases(may_warn=True)
def a_default_that_is_changed(dg, compile):
    @compile
    def f(x, seen=[]):  # noqa: B006 - the trap itself
        seen.append(len(seen))
        return x + len(seen)

    for _ in range(3):
        yield f(data(dg, 2))


# -- nesting, recursion, threads -------------------------------------------------------------------


@cases()
def recursion(dg, compile):
    @compile
    def f(x, n):
        return x if n == 0 else f(x * 2 + n, n - 1)

    yield f(data(dg, 2), 3)
    yield f(data(dg, 2), 0)
    yield f(data(dg, 2), 5)


@cases()
def compiled_in_compiled(dg, compile):
    inner = compile(lambda x, k: x * k)

    @compile
    def outer(x):
        return inner(x, 2) + inner(x, 3)

    yield outer(data(dg, 3)), inner(data(dg, 3), 4), outer(data(dg, 3))


@cases()
def compiled_functions_made_inside(dg, compile):
    @compile
    def outer(x):
        inner = dg.compile(lambda y: y * 2) if dg.__name__ == "dualgraph" else lambda y: y * 2
        return inner(x) + inner(x + 1)

    yield outer(data(dg, 3))
    yield outer(data(dg, 3))


@cases(mixed="calls from threads come in any order")
def calls_from_threads_with_other_shapes(dg, compile):
    f = compile(lambda x, k: (x * k).sum(0))
    results = {}

    def work(n):
        for _ in range(5):
            results[n] = f(data(dg, n, 2), n % 3)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 7)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    yield [results[n] for n in sorted(results)]


@cases()
def an_exception_in_the_middle_and_another_call(dg, compile):
    @compile
    def f(x, k):
        y = x * 2
        if k > 2:
            raise ValueError("too large")
        return y / k

    yield f(data(dg, 2), 1)
    yield error_of(lambda: f(data(dg, 2), 3))
    yield f(data(dg, 2), 1), f(data(dg, 2), 2)


@cases()
def grad_modes_of_the_caller(dg, compile):
    w = data(dg, 3, grad=True)
    f = compile(lambda x: x * w)
    yield f(data(dg, 3))
    with dg.no_grad():
        yield f(data(dg, 3))
    with dg.inference_mode():
        yield f(data(dg, 3)).requires_grad
    with dg.no_grad(), dg.enable_grad():
        yield f(data(dg, 3))
    yield f(data(dg, 3, grad=True))


@cases()
def grad_modes_inside(dg, compile):
    w = data(dg, 3, grad=True)

    @compile
    def f(x):
        with dg.no_grad():
            a = x * w
        with dg.enable_grad():
            b = x * w
        return a, b, dg.is_grad_enabled()

    yield f(data(dg, 3))
    with dg.no_grad():
        yield f(data(dg, 3))


@cases(may_warn=True)
def the_grad_mode_that_a_function_leaves_on(dg, compile):
    @compile
    def f(x, flag):
        dg.set_grad_enabled(flag)
        return x * 2

    x = data(dg, 2, grad=True)
    yield f(x, True), dg.is_grad_enabled()
    try:
        yield f(x, False), dg.is_grad_enabled()
        yield f(x, True), dg.is_grad_enabled()
        yield f(x, False), dg.is_grad_enabled()
    finally:
        dg.set_grad_enabled(True)


@cases()
def closures_of_one_function(dg, compile):
    def logging(log, k):
        def f(x):
            log.append(k)
            return x * k

        return f

    logs = [[], []]
    one, two = logging(logs[0], 2), logging(logs[1], 3)
    f = compile(lambda x: one(x) + two(x))
    for _ in range(3):
        yield f(data(dg, 2)), logs


@cases(may_warn=True)
def counters_of_one_function(dg, compile):
    def counting(k):
        def f(x):
            nonlocal k
            k += 1
            return x * k

        return f

    one, two, three = counting(0), counting(0), counting(5)
    f = compile(lambda x: one(x) + two(x) * 10 + three(x) * 100)
    for _ in range(3):
        yield f(data(dg, 2))
    one(data(dg, 2))
    yield f(data(dg, 2))
    two(data(dg, 2))
    yield f(data(dg, 2))


@cases()
def tensors_kept_by_closures_of_one_function(dg, compile):
    def keeping(kept):
        def hook(module, args, out):
            kept.append(out.detach())

        return hook

    model = filled(dg, dg.nn.Sequential(dg.nn.Linear(2, 2), dg.nn.Tanh(), dg.nn.Linear(2, 2)))
    kept = [[], [], []]
    for layer, store in zip(model, kept, strict=True):
        layer.register_forward_hook(keeping(store))
    f = compile(model)
    for i in range(3):
        yield f(data(dg, 2) + i), kept

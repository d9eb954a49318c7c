"""State that a function reaches in roundabout ways, changed between calls."""

from __future__ import annotations

import collections
import functools
import itertools
import operator
import threading
import types
from typing import Any, NamedTuple

from .harness import Cases, data, filled

cases = Cases()


class Settings:
    """Something with attributes."""

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)


def lookup(read: Any) -> Any:
    """A case of `read`, which is called with x and with settings whose `scale` changes."""

    def run(dg, compile):
        settings = Settings(scale=2)
        f = compile(lambda x: read(x, settings))
        for scale in (2, 3, 3, 0.5, 2):
            settings.scale = scale
            yield f(data(dg, 3))

    run.__name__ = read.__name__
    return cases()(run)


@lookup
def by_getattr(x, settings):
    return x * getattr(settings, "sca" + "le")


@lookup
def by_vars(x, settings):
    return x * vars(settings)["scale"]


@lookup
def by_the_dict_of_the_object(x, settings):
    return x * next(v for k, v in settings.__dict__.items() if k == "scale")


@lookup
def by_attrgetter(x, settings):
    return x * operator.attrgetter("scale")(settings)


@lookup
def in_an_inner_function(x, settings):
    def outer():
        def inner():
            return settings.scale

        return inner

    return x * outer()()


@lookup
def in_a_comprehension(x, settings):
    return sum([x * settings.scale for _ in range(2)]) + sum(settings.scale for _ in range(2))


@lookup
def in_a_generator_function(x, settings):
    def pieces():
        yield x
        yield x * settings.scale

    first, second = pieces()
    return first + second


@lookup
def in_a_sort_key(x, settings):
    order = sorted([1, 2, 3], key=lambda i: abs(i - settings.scale))
    return x * order[0]


@lookup
def in_text(x, settings):
    return x * len(f"{settings.scale}" + "{}".format(settings.scale))  # noqa: UP032 - both ways


@lookup
def in_an_exception(x, settings):
    try:
        raise ValueError(settings.scale)
    except ValueError as error:
        return x * error.args[0]


@lookup
def in_a_context_manager(x, settings):
    class Scaled:
        def __enter__(self):
            return settings.scale

        def __exit__(self, *exception):
            return False

    with Scaled() as scale:
        return x * scale


@lookup
def as_a_truth_value(x, settings):
    return x * 2 if settings.scale > 1 and settings.scale != 3 else -x


@lookup
def as_a_slice_and_an_index(x, settings):
    return (
        x[: int(settings.scale)].sum()
        + x[int(settings.scale) - 1] * [1, 5, 7][int(settings.scale) - 1]
    )


@lookup
def by_match(x, settings):
    match settings.scale:
        case 2:
            return x * 2
        case int(n):
            return x + n
        case _:
            return -x


@cases()
def properties_and_descriptors(dg, compile):
    class Doubled:
        def __get__(self, instance, owner):
            return instance.base * 2

    class Net:
        base = 1
        doubled = Doubled()

        @property
        def tripled(self):
            return self.base * 3

        @functools.cached_property
        def kept(self):
            return self.base * 100

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return self.base * 7

    net = Net()
    f = compile(lambda x: x * net.doubled + net.tripled + net.kept + net.no_such_name)
    yield f(data(dg, 2))
    net.base = 4
    yield f(data(dg, 2))
    net.kept = 5
    yield f(data(dg, 2))
    net.no_such_name = 1
    yield f(data(dg, 2))


@cases()
def slots_and_named_tuples(dg, compile):
    class Slotted:
        __slots__ = ("pair", "scale")

    class Pair(NamedTuple):
        a: Any
        b: Any

    state = Slotted()
    state.scale, state.pair = 2, Pair(1, [2])
    f = compile(lambda x: x * state.scale + state.pair.a + sum(state.pair.b))
    yield f(data(dg, 2))
    state.scale = 3
    yield f(data(dg, 2))
    state.pair = state.pair._replace(a=9)
    yield f(data(dg, 2))
    state.pair.b.append(4)
    yield f(data(dg, 2))


@cases()
def what_is_not_there_yet(dg, compile):
    state, table, names = Settings(), {}, set()

    @compile
    def f(x):
        if hasattr(state, "scale"):
            x = x * state.scale
        if "bias" in table:
            x = x + table["bias"]
        try:
            x = x + table["other"]
        except KeyError:
            x = x - 1
        return x * getattr(state, "last", 2) * (3 if "three" in names else 1) + table.get("end", 0)

    yield f(data(dg, 2))
    state.scale = 5
    yield f(data(dg, 2))
    table["bias"] = 4
    yield f(data(dg, 2))
    table["other"] = data(dg, 2)
    yield f(data(dg, 2))
    state.last = 7
    yield f(data(dg, 2))
    names.add("three")
    yield f(data(dg, 2))
    table["end"] = 10
    yield f(data(dg, 2))
    del state.scale, state.last
    table.clear()
    yield f(data(dg, 2))


@cases()
def containers_of_other_kinds(dg, compile):
    queue, counts = collections.deque([1, 2], maxlen=3), collections.Counter(a=1)
    namespace = types.SimpleNamespace(k=3)

    @compile
    def f(x):
        return x * sum(queue) + counts["a"] * counts["b"] * namespace.k

    yield f(data(dg, 2))
    queue.append(5)
    yield f(data(dg, 2))
    queue.rotate()
    queue.append(7)
    yield f(data(dg, 2))
    counts["b"] += 2
    yield f(data(dg, 2))
    namespace.k = 0
    yield f(data(dg, 2))


@cases()
def lists_sorted_reversed_and_of_equal_items(dg, compile):
    items = [1, 2, 3]
    f = compile(lambda x: x * items[0] + sum(i * k for i, k in enumerate(items)) / len(items))
    yield f(data(dg, 2))
    items.reverse()
    yield f(data(dg, 2))
    items[:] = [True, 2.0, 3]
    yield f(data(dg, 2).long())
    items[:] = [1, 2, 3]
    yield f(data(dg, 2).long())


@cases()
def a_list_that_is_shared_by_two_names(dg, compile):
    one = [1, 2]
    two = one
    f = compile(lambda x: x * sum(one) + len(two))
    yield f(data(dg, 2))
    two = [1, 2]
    yield f(data(dg, 2))
    two.append(5)
    yield f(data(dg, 2))
    one.append(7)
    yield f(data(dg, 2))


@cases(may_warn=True)
def counters_of_itertools(dg, compile):
    count = itertools.count(1)
    cycle = itertools.cycle([1, 5])
    f = compile(lambda x: x * next(count) + next(cycle))
    for _ in range(4):
        yield f(data(dg, 2))


@cases()
def thread_locals(dg, compile):
    local = threading.local()
    local.k = 1
    f = compile(lambda x: x * local.k)
    yield f(data(dg, 2))
    local.k = 3
    yield f(data(dg, 2))


@cases()
def defaults_and_attributes_of_functions(dg, compile):
    def scaled(x, k=2, *, bias=1):
        return x * k + bias + scaled.extra

    scaled.extra = 0
    f = compile(lambda x: scaled(x))
    yield f(data(dg, 2))
    scaled.__defaults__ = (5,)
    yield f(data(dg, 2))
    scaled.extra = 10
    yield f(data(dg, 2))
    scaled.__kwdefaults__["bias"] = 7
    yield f(data(dg, 2))


@cases()
def methods_are_patched(dg, compile):
    class Base(dg.nn.Module):
        def part(self, x):
            return x * 2

        def forward(self, x):
            return self.part(x)

    class Derived(Base):
        def forward(self, x):
            return super().forward(x) + 1

    model = Derived()
    f = compile(model)
    yield f(data(dg, 2))
    Base.part = lambda self, x: x * 3
    yield f(data(dg, 2))
    Derived.part = lambda self, x: x * 5
    yield f(data(dg, 2))
    model.part = lambda x: x * 7
    yield f(data(dg, 2))
    Derived.forward = lambda self, x: x - 1
    yield f(data(dg, 2))


@cases()
def partial_functions_are_rebuilt(dg, compile):
    def scaled(x, k):
        return x * k

    state = Settings(act=functools.partial(scaled, k=2))
    f = compile(lambda x: state.act(x))
    yield f(data(dg, 2))
    state.act = functools.partial(scaled, k=3)
    yield f(data(dg, 2))


@cases()
def a_module_of_python_holds_the_state(dg, compile):
    settings = types.ModuleType("settings")
    settings.scale = 2
    settings.nested = Settings(values=[1, 2])
    f = compile(lambda x: x * settings.scale + sum(settings.nested.values))
    yield f(data(dg, 2))
    settings.scale = 3
    yield f(data(dg, 2))
    settings.nested.values.append(3)
    yield f(data(dg, 2))
    settings.nested = Settings(values=[0])
    yield f(data(dg, 2))


@cases()
def identity_and_types_of_objects(dg, compile):
    state = Settings(one=[1], two=[1], kind=int)

    @compile
    def f(x):
        x = x * 2 if state.one is state.two else x * 3
        x = x + 1 if type(state.one) is list else x - 1
        return x + 10 if isinstance(5, state.kind) else x

    yield f(data(dg, 2))
    state.two = state.one
    yield f(data(dg, 2))
    state.one = (1,)
    yield f(data(dg, 2))
    state.kind = str
    yield f(data(dg, 2))


@cases()
def tensors_in_nested_containers(dg, compile):
    state = Settings(layers=[{"w": data(dg, 2), "k": 1}, {"w": data(dg, 2, low=3), "k": 2}])

    @compile
    def f(x):
        for layer in state.layers:
            x = x * layer["w"] + layer["k"]
        return x

    yield f(data(dg, 2))
    state.layers[0]["w"] = data(dg, 2, low=8)
    yield f(data(dg, 2))
    state.layers[1]["k"] = 5
    yield f(data(dg, 2))
    state.layers[1]["w"].mul_(2)
    yield f(data(dg, 2))
    state.layers = state.layers[::-1]
    yield f(data(dg, 2))
    state.layers.append({"w": data(dg, 1), "k": 0})
    yield f(data(dg, 2))


@cases()
def one_of_several_modules_is_chosen_by_state(dg, compile):
    experts = dg.nn.ModuleDict({k: filled(dg, dg.nn.Linear(2, 2)) for k in "abc"})
    with dg.no_grad():
        for i, p in enumerate(experts.parameters()):
            p.add_(i)
    state = Settings(route=["a", "b"])

    @compile
    def f(x):
        for name in state.route:
            x = experts[name](x)
        return x

    yield f(data(dg, 2))
    state.route[0] = "c"
    yield f(data(dg, 2))
    state.route = ["b"]
    yield f(data(dg, 2))


@cases()
def two_instances_of_one_class(dg, compile):
    class Net(dg.nn.Module):
        def __init__(self, k):
            super().__init__()
            self.linear = filled(dg, dg.nn.Linear(2, 2))
            self.k = k

        def forward(self, x):
            return self.linear(x) * self.k

    nets = [Net(2), Net(3)]
    f = compile(lambda x, i: nets[i](x))
    for i in (0, 1, 0, 1):
        yield f(data(dg, 2), i)
    nets.reverse()
    for i in (0, 1):
        yield f(data(dg, 2), i)
    g = compile(lambda net, x: net(x))
    for net in (*nets, *nets):
        yield g(net, data(dg, 2))


@cases()
def modules_that_come_and_go(dg, compile):
    f = compile(lambda net, x: net(x))
    for i in range(6):  # the memory of one may be that of the next
        net = filled(dg, dg.nn.Linear(2, 2))
        with dg.no_grad():
            net.weight.add_(i)
        yield f(net, data(dg, 2))
        del net

"""The same small programs with modules, run with PyTorch and with us: what they see is equal."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

import dualgraph as dg

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")
PROGRAMS: list[Callable[[Any], Any]] = []


def program(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    PROGRAMS.append(function)
    return function


def refused(call: Callable[[], Any], *kinds: type[Exception]) -> bool:
    """Whether a call raises one of PyTorch's kinds of errors."""
    try:
        call()
    except kinds:
        return True
    return False


def net(f: Any) -> Any:
    nn = f.nn
    block = nn.Sequential(OrderedDict(first=nn.Linear(2, 3), act=nn.ReLU()))
    made = nn.Sequential(block, nn.BatchNorm1d(3), nn.Linear(3, 1))
    with f.no_grad():
        for p in made.parameters():
            p.fill_(0.5)
    return made


def text(x: Any) -> Any:
    """Tensors as lists, everything else as it is."""
    if hasattr(x, "tolist"):
        return x.tolist()
    if isinstance(x, tuple | list):
        return [text(v) for v in x]
    return x


@program
def forward_hooks_in_order(f: Any) -> Any:
    log: list[Any] = []
    m = net(f)
    first = m[0].register_forward_hook(lambda m, a, o: log.append(("last", text(o))))
    m[0].register_forward_hook(lambda m, a, o: o + 1, prepend=True)
    m[0].register_forward_pre_hook(lambda m, a: (a[0] * 2,))
    m[0].register_forward_pre_hook(lambda m, a, k: log.append((len(a), k)), with_kwargs=True)
    log.append(text(m[0](f.ones(2, 2))))
    first.remove()
    m[0](f.ones(1, 2))
    return log


@program
def global_hooks(f: Any) -> Any:
    module = importlib.import_module(f"{f.__name__}.nn.modules.module")
    log: list[Any] = []
    name = lambda m: type(m).__name__  # noqa: E731
    handles = [
        module.register_module_forward_pre_hook(lambda m, a: log.append(("pre", name(m)))),
        module.register_module_forward_hook(
            lambda m, a, k, o: log.append(("post", name(m), k)), with_kwargs=True
        ),
        module.register_module_full_backward_pre_hook(
            lambda m, go: log.append(("back pre", name(m), text(go)))
        ),
        module.register_module_full_backward_hook(
            lambda m, gi, go: log.append(("back", name(m), text(gi), text(go)))
        ),
    ]
    m = f.nn.Sequential(f.nn.Linear(2, 2), f.nn.Hardtanh())
    with f.no_grad():
        for p in m.parameters():
            p.fill_(0.25)
    try:
        m(f.ones(1, 2).requires_grad_()).sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    m(f.ones(1, 2))
    return log


@program
def always_called_hooks(f: Any) -> Any:
    module = importlib.import_module(f"{f.__name__}.nn.modules.module")
    log: list[Any] = []

    class Fails(f.nn.Module):
        def forward(self, x: Any) -> Any:
            raise ValueError("no")

    m = Fails()
    m.register_forward_hook(lambda m, a, o: log.append(("own", o)), always_call=True)
    handle = module.register_module_forward_hook(
        lambda m, a, o: log.append(("all", o)), always_call=True
    )
    log.append(refused(lambda: m(1), ValueError))
    handle.remove()
    return log


@program
def registration_hooks(f: Any) -> Any:
    module = importlib.import_module(f"{f.__name__}.nn.modules.module")
    log: list[Any] = []
    handles = [
        module.register_module_parameter_registration_hook(
            lambda m, n, p: log.append(("parameter", n, None if p is None else tuple(p.shape)))
        ),
        module.register_module_buffer_registration_hook(lambda m, n, b: log.append(("buffer", n))),
        module.register_module_module_registration_hook(
            lambda m, n, c: f.nn.Identity() if n == "act" else log.append(("module", n))
        ),
    ]
    try:
        m = net(f)
    finally:
        for handle in handles:
            handle.remove()
    return log, repr(m)


@program
def backward_hooks_replace_gradients(f: Any) -> Any:
    m = f.nn.Linear(2, 1, bias=False)
    with f.no_grad():
        m.weight.fill_(3.0)
    log: list[Any] = []
    m.register_full_backward_pre_hook(lambda m, go: (go[0] * 10,))
    m.register_full_backward_hook(lambda m, gi, go: log.append((text(gi), text(go))))
    m.register_full_backward_hook(lambda m, gi, go: (gi[0] * 0 + 7,))
    x = f.ones(2, 2).requires_grad_()
    m(x).sum().backward()
    return log, text(x.grad), text(m.weight.grad)


@program
def state_dict_hooks(f: Any) -> Any:
    m = net(f)
    log: list[Any] = []
    m[0].register_state_dict_pre_hook(lambda m, prefix, keep: log.append((prefix, keep)))
    m[0].register_state_dict_post_hook(
        lambda m, state, prefix, meta: log.append((prefix, list(state), meta["version"]))
    )
    m[2]._register_state_dict_hook(lambda m, state, prefix, meta: OrderedDict(only=f.ones(1)))
    return log, list(m.state_dict())


@program
def load_state_hooks(f: Any) -> Any:
    m = net(f)
    log: list[Any] = []
    state = OrderedDict((k.replace("first", "old"), v) for k, v in m.state_dict().items())

    def rename(module: Any, state: Any, prefix: str, *rest: Any) -> None:
        log.append((prefix, len(rest)))
        for key in [k for k in state if "old" in k]:
            state[key.replace("old", "first")] = state.pop(key)

    m.register_load_state_dict_pre_hook(rename)
    m[1]._register_load_state_dict_pre_hook(lambda state, prefix, *rest: log.append(prefix))
    m.register_load_state_dict_post_hook(lambda m, keys: log.append(tuple(map(list, keys))))
    found = m.load_state_dict({**state, "extra": f.ones(1)}, strict=False)
    return log, repr(found)


@program
def loading_strictly(f: Any) -> Any:
    m = net(f)
    state = m.state_dict()
    bad = {**state, "2.weight": f.ones(2, 2)}
    missing = {k: v for k, v in state.items() if k != "2.bias"}
    kinds = [refused(lambda s=s: m.load_state_dict(s), RuntimeError) for s in (bad, missing)]
    return kinds, repr(m.load_state_dict(missing, strict=False))


@program
def loading_by_assignment(f: Any) -> Any:
    m, other = net(f), net(f).double()
    before = m[2].weight
    m[2].weight.requires_grad_(False)
    m.load_state_dict(other.state_dict(), assign=True)
    kinds = [str(p.dtype).split(".")[-1] for p in m.parameters()]
    return kinds, m[2].weight is before, m[2].weight.requires_grad, type(m[2].weight).__name__


@program
def conversions(f: Any) -> Any:
    m = net(f)
    found = []
    for how in ("double", "half", "bfloat16", "float"):
        getattr(m, how)()
        found.append([str(t.dtype).split(".")[-1] for t in m.state_dict().values()])
    m.type(f.float64)
    found.append([str(t.dtype).split(".")[-1] for t in m.state_dict().values()])
    m.requires_grad_(False)
    found.append([p.requires_grad for p in m.parameters()])
    return found


@program
def emptied(f: Any) -> Any:
    m = net(f)
    same = m.to_empty(device="cpu") is m
    return same, [tuple(t.shape) for t in m.state_dict().values()], m[0].first.weight.requires_grad


@program
def paths(f: Any) -> Any:
    m = net(f)
    m.set_submodule("0.act", f.nn.Tanh())
    m.set_submodule("0.late", f.nn.Tanh())
    m[1].register_buffer("kept", f.ones(1))
    kinds = (AttributeError,)
    return (
        repr(m.get_submodule("0")),
        tuple(m.get_parameter("0.first.weight").shape),
        text(m.get_buffer("1.kept")),
        refused(lambda: m.get_submodule("0.nothing"), *kinds),
        refused(lambda: m.get_parameter("1.kept"), *kinds),
        refused(lambda: m.get_buffer("0.first.weight"), *kinds),
        refused(lambda: m.get_submodule("0.first.weight"), *kinds),
        refused(lambda: m.set_submodule("0.other", f.nn.ReLU(), strict=True), *kinds),
        refused(lambda: m.set_submodule("", f.nn.ReLU()), ValueError),
    )


@program
def duplicates(f: Any) -> Any:
    shared = f.nn.Linear(1, 1)
    shared.register_buffer("count", f.ones(1))
    m = f.nn.Sequential(shared, f.nn.Sequential(shared), shared)
    found = []
    for remove in (True, False):
        found.append([n for n, _ in m.named_parameters(remove_duplicate=remove)])
        found.append([n for n, _ in m.named_buffers(remove_duplicate=remove)])
        found.append([n for n, _ in m.named_modules(remove_duplicate=remove)])
        found.append(len(list(m.modules(remove_duplicate=remove))))
    return found, [n for n, _ in m.named_children()], list(m.state_dict())


@program
def buffers(f: Any) -> Any:
    m = f.nn.Module()
    m.register_buffer("kept", f.ones(1))
    m.register_buffer("scratch", f.ones(2), persistent=False)
    m.register_buffer("none", None)
    m.made = f.nn.Buffer(f.zeros(3), persistent=False)
    found = [n for n, _ in m.named_buffers()], list(m.state_dict())
    m.kept = f.zeros(4)
    m.scratch = None
    return (
        *found,
        [n for n, _ in m.named_buffers()],
        refused(lambda: setattr(m, "kept", 3), TypeError),
        refused(lambda: m.register_buffer("kept", f.ones(1)), KeyError) is False,
        refused(lambda: m.register_buffer("a.b", f.ones(1)), KeyError),
    )


@program
def sequential_arithmetic(f: Any) -> Any:
    nn = f.nn
    m = nn.Sequential(nn.ReLU(), nn.Tanh())
    twice, more = m * 2, 3 * nn.Sequential(nn.ReLU())
    m += nn.Sequential(nn.Sigmoid())
    longer = m + twice
    m *= 2
    m.insert(1, nn.GELU())
    m.append(nn.ELU()).extend([nn.SiLU()])
    popped = m.pop(0)
    del m[-1]
    return (
        [repr(v) for v in (m, twice, more, longer, popped, m[1:3])],
        twice[0] is twice[2],
        refused(lambda: m * 0, ValueError),
        refused(lambda: m + 1, ValueError),
    )


@program
def module_containers(f: Any) -> Any:
    nn = f.nn
    many = nn.ModuleList([nn.ReLU()]) + nn.ModuleList([nn.Tanh(), nn.Tanh()])
    many.insert(0, nn.ELU())
    many += [nn.SiLU()]
    named = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Tanh()})
    named.update([("c", nn.ELU())])
    taken = named.pop("a")
    return (
        repr(many),
        len(many),
        repr(many[1:3]),
        repr(named),
        list(named),
        repr(taken),
        "b" in named,
    )


@program
def parameter_containers(f: Any) -> Any:
    nn = f.nn
    many = nn.ParameterList([nn.Parameter(f.ones(2)), f.zeros(1)])
    many.append(f.ones(3))
    many += [nn.Parameter(f.ones(1))]
    named = nn.ParameterDict({"x": nn.Parameter(f.ones(2)), "y": f.zeros(1)})
    other = named | nn.ParameterDict({"z": nn.Parameter(f.ones(1))})
    named |= nn.ParameterDict({"w": nn.Parameter(f.ones(4))})
    copy = named.copy()
    popped = [tuple(named.pop("x").shape), named.popitem()[0]]
    named.setdefault("v", nn.Parameter(f.ones(5)))
    made = named.fromkeys(["p", "q"], f.ones(1))
    found = [
        [
            repr(v).replace(f.__name__, "").replace("FloatTensor", "float32")
            for v in (many, many[1:], named, other)
        ],
        [n for n, _ in many.named_parameters()],
        [n for n, _ in other.named_parameters()],
        list(copy),
        list(reversed(copy)),
        popped,
        named.get("none"),
        list(made),
    ]
    named.clear()
    return found, len(named)


@program
def cooperative_init(f: Any) -> Any:
    class Mixin:
        def __init__(self, size: int = 0) -> None:
            self.size = size

    class Both(f.nn.Module, Mixin):
        call_super_init = True

    class Plain(f.nn.Module):
        pass

    return (
        Both(size=3).size,
        refused(lambda: Plain(3), TypeError),
        refused(lambda: Plain(size=3), TypeError),
    )


@pytest.mark.parametrize("function", PROGRAMS, ids=lambda f: f.__name__)
def test_as_pytorch(function: Callable[[Any], Any]) -> None:
    assert function(dg) == function(torch)

"""Parameters, buffers, modules and hooks that change, come and go between calls."""

from __future__ import annotations

import copy

import numpy as np

from .harness import Cases, data, filled

cases = Cases()


@cases()
def a_parameter_is_replaced(dg, compile):
    model = filled(dg, dg.nn.Linear(3, 2))
    f = compile(model)
    x = data(dg, 2, 3)
    yield f(x)
    model.weight = dg.nn.Parameter(data(dg, 2, 3, low=4))
    yield f(x)
    model.weight = dg.nn.Parameter(data(dg, 5, 3))
    model.bias = None
    yield f(x)


@cases()
def data_of_a_parameter_is_assigned(dg, compile):
    model = filled(dg, dg.nn.Linear(3, 2))
    f = compile(model)
    x = data(dg, 2, 3)
    yield f(x)
    model.weight.data = data(dg, 2, 3, low=4)
    yield f(x)
    model.weight.data.mul_(2)
    yield f(x)
    model.weight.data = data(dg, 2, 3).double()
    model.bias.data = data(dg, 2).double()
    yield f(x.double())


@cases()
def data_assigned_without_gradients(dg, compile):
    model = filled(dg, dg.nn.Linear(3, 2)).eval()
    f = compile(model)
    x = data(dg, 2, 3)
    with dg.no_grad():
        yield f(x)
        model.weight.data = data(dg, 2, 3, low=4)
        yield f(x)
        model.weight.data[0] = 9
        yield f(x)
        model.weight[1].zero_()
        yield f(x)
        model.weight.copy_(data(dg, 2, 3, low=-3))
        yield f(x)


@cases()
def written_through_numpy(dg, compile):
    model = filled(dg, dg.nn.Linear(3, 2)).eval()
    shared = data(dg, 3)
    f = compile(lambda x: model(x * shared))
    x = data(dg, 2, 3)
    with dg.no_grad():
        yield f(x)
        shared.numpy()[0] = 5
        yield f(x)
        model.weight.detach().numpy()[...] = 2
        yield f(x)


@cases()
def written_through_a_detached_view(dg, compile):
    w = data(dg, 4)
    f = compile(lambda x: x * w)
    view, flat = w.detach()[1:3], w.view(2, 2)
    yield f(data(dg, 4))
    view.fill_(9)
    yield f(data(dg, 4))
    flat[0] = 4
    yield f(data(dg, 4))


@cases()
def dtype_of_the_model_changes(dg, compile):
    model = filled(dg, dg.nn.Linear(3, 2))
    f = compile(model)
    yield f(data(dg, 2, 3))
    model.double()
    yield f(data(dg, 2, 3).double())
    model.float()
    yield f(data(dg, 2, 3))


@cases()
def requires_grad_is_toggled(dg, compile):
    model = filled(dg, dg.nn.Sequential(dg.nn.Linear(3, 3), dg.nn.Linear(3, 2)))
    f = compile(model)
    x = data(dg, 2, 3)
    for frozen in (False, True, False):
        model[0].requires_grad_(not frozen)
        f(x).sum().backward()
        yield model
    model.requires_grad_(False)
    yield f(x)


@cases()
def a_state_dict_is_loaded(dg, compile):
    model, other = filled(dg, dg.nn.Linear(3, 2)), dg.nn.Linear(3, 2)
    f = compile(model)
    x = data(dg, 2, 3)
    with dg.no_grad():
        for p in other.parameters():
            p.fill_(0.25)
    for grad in (True, False):
        with dg.set_grad_enabled(grad):
            yield f(x)
            saved = copy.deepcopy(model.state_dict())
            model.load_state_dict(other.state_dict())
            yield f(x)
            model.load_state_dict(saved)
            yield f(x)


@cases()
def a_state_dict_is_loaded_by_assignment(dg, compile):
    model = filled(dg, dg.nn.Linear(3, 2))
    f = compile(model)
    yield f(data(dg, 2, 3))
    model.load_state_dict({"weight": data(dg, 2, 3), "bias": data(dg, 2)}, assign=True)
    yield f(data(dg, 2, 3))


@cases()
def a_module_is_replaced(dg, compile):
    model = filled(dg, dg.nn.Sequential(dg.nn.Linear(3, 3), dg.nn.ReLU(), dg.nn.Linear(3, 2)))
    f = compile(model)
    x = data(dg, 2, 3)
    yield f(x)
    model[1] = dg.nn.Tanh()
    yield f(x)
    model[1] = dg.nn.Identity()
    yield f(x)
    model.append(dg.nn.Sigmoid())
    yield f(x)
    del model[0]
    yield f(x)


@cases()
def a_forward_is_replaced(dg, compile):
    model = filled(dg, dg.nn.Linear(3, 3))
    f = compile(model)
    x = data(dg, 2, 3)
    yield f(x)
    inner = model.forward
    model.forward = lambda x: inner(x) * 2
    yield f(x)
    del model.forward
    yield f(x)


@cases()
def hooks_come_and_go(dg, compile):
    model = filled(dg, dg.nn.Linear(3, 3))
    f = compile(model)
    x = data(dg, 2, 3)
    yield f(x)
    hook = model.register_forward_hook(lambda m, args, out: out * 2)
    yield f(x)
    pre = model.register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    yield f(x)
    hook.remove()
    yield f(x)
    pre.remove()
    yield f(x)


@cases()
def backward_hooks_come_and_go(dg, compile):
    model = filled(dg, dg.nn.Linear(3, 2))
    f = compile(model)
    x = data(dg, 2, 3)
    f(x).sum().backward()
    hook = model.weight.register_hook(lambda g: g * 10)
    f(x).sum().backward()
    yield model
    hook.remove()
    f(x).sum().backward()
    yield model


@cases()
def buffers_and_parameters_are_registered_later(dg, compile):
    class Net(dg.nn.Module):
        def forward(self, x):
            y = x * 2
            if getattr(self, "bias", None) is not None:
                y = y + self.bias
            return y + sum(b.sum() for b in self.buffers())

    model = Net()
    f = compile(model)
    x = data(dg, 3)
    yield f(x)
    model.register_parameter("bias", dg.nn.Parameter(data(dg, 3)))
    yield f(x)
    model.register_buffer("extra", data(dg, 2))
    yield f(x)
    model.register_buffer("extra", data(dg, 5))
    yield f(x)
    model.bias = None
    yield f(x)


@cases()
def shared_modules_and_tied_weights(dg, compile):
    shared = filled(dg, dg.nn.Linear(3, 3))
    model = dg.nn.Sequential(shared, dg.nn.ReLU(), shared)
    head = filled(dg, dg.nn.Linear(3, 3))
    f = compile(lambda x: head(model(x)))
    x = data(dg, 2, 3)
    f(x).sum().backward()
    yield model, head
    head.weight = shared.weight
    f(x).sum().backward()
    yield f(x), model, head
    head.weight = dg.nn.Parameter(data(dg, 3, 3))
    yield f(x)


@cases()
def a_deep_copy_of_a_compiled_model(dg, compile):
    model = filled(dg, dg.nn.Linear(3, 2))
    f = compile(model)
    x = data(dg, 2, 3)
    yield f(x)
    other = copy.deepcopy(model)
    with dg.no_grad():
        other.weight.mul_(3)
    g = compile(other)
    yield g(x), f(x)


@cases()
def lists_of_tensors_as_state(dg, compile):
    weights = [data(dg, 3, grad=True), data(dg, 3, low=2, grad=True)]

    @compile
    def f(x):
        for w in weights:
            x = x * w
        return x.sum()

    f(data(dg, 3)).backward()
    yield weights
    weights.append(data(dg, 3, low=5, grad=True))
    f(data(dg, 3)).backward()
    yield weights
    weights.reverse()
    weights.pop()
    f(data(dg, 3)).backward()
    yield weights


@cases()
def parameter_lists_and_dicts_grow(dg, compile):
    class Net(dg.nn.Module):
        def __init__(self):
            super().__init__()
            self.ws = dg.nn.ParameterList([dg.nn.Parameter(data(dg, 3))])
            self.named = dg.nn.ModuleDict({"a": filled(dg, dg.nn.Linear(3, 3))})

        def forward(self, x):
            for w in self.ws:
                x = x * w
            for name in self.named:
                x = self.named[name](x)
            return x

    model = Net()
    f = compile(model)
    x = data(dg, 2, 3)
    yield f(x)
    model.ws.append(dg.nn.Parameter(data(dg, 3, low=3)))
    yield f(x)
    model.named["b"] = filled(dg, dg.nn.Linear(3, 2))
    yield f(x)
    del model.named["a"]
    yield f(x)


@cases()
def kinds_of_captured_tensors_change(dg, compile):
    w = data(dg, 3)
    f = compile(lambda x: x * w)
    x = data(dg, 3)
    yield f(x)
    w.requires_grad_()
    yield f(x)
    w.data = data(dg, 1)
    yield f(x)
    w.data = data(dg, 3).double()
    yield f(x)


@cases()
def the_gradient_as_state(dg, compile):
    w = data(dg, 3, grad=True)

    @compile
    def f(x):
        return x * 2 if w.grad is None else x + w.grad

    x = data(dg, 3)
    yield f(x)
    w.square().sum().backward()
    yield f(x)
    w.grad.mul_(3)
    yield f(x)
    w.grad = None
    yield f(x)


@cases()
def captured_arrays_and_numbers_of_numpy(dg, compile):
    scale = np.float32(2)
    sizes = np.array([1, 2])

    @compile
    def f(x):
        return x * scale + int(sizes.sum())

    yield f(data(dg, 3))
    scale = np.float32(5)
    yield f(data(dg, 3))
    sizes[0] = 10
    yield f(data(dg, 3))


@cases()
def a_class_attribute_changes(dg, compile):
    class Net(dg.nn.Module):
        scale = 2

        @property
        def factor(self):
            return self.scale * 10

        def forward(self, x):
            return x * self.factor

    model = Net()
    f = compile(model)
    yield f(data(dg, 2))
    Net.scale = 3
    yield f(data(dg, 2))
    model.scale = 4
    yield f(data(dg, 2))


@cases()
def module_level_options_of_the_library(dg, compile):
    f = compile(lambda x: (x * dg.ones(2), dg.full((2,), 1.5)))
    yield f(data(dg, 2))
    dg.set_default_dtype(dg.float64)
    try:
        yield f(data(dg, 2))
    finally:
        dg.set_default_dtype(dg.float32)
    yield f(data(dg, 2))


@cases()
def the_function_looks_at_the_module(dg, compile):
    model = filled(dg, dg.nn.Sequential(dg.nn.Linear(3, 3), dg.nn.ReLU()))

    @compile
    def f(x):
        for name, p in model.named_parameters():
            x = x + p.sum() * len(name)
        return x * len(list(model.children())) * sum(p.numel() for p in model.parameters())

    yield f(data(dg, 3))
    model.append(filled(dg, dg.nn.Linear(3, 1)))
    yield f(data(dg, 3))

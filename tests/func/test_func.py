"""``dualgraph.func`` against ``torch.func``: the same functions, written once for both."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn

torch: Any = pytest.importorskip("torch")
# PyTorch warns of parts of itself, and of what is slow in its own maps.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(4, 3))
OTHER = RNG.normal(size=(3, 5))
VECTOR = RNG.normal(size=3)
IMAGES = RNG.normal(size=(4, 2, 6, 6))
KERNEL = RNG.normal(size=(3, 2, 3, 3))
INDEX = np.array([2, 0, 1, 1])


def arrays(tree: Any) -> list[np.ndarray]:
    """The leaves as NumPy arrays, in order."""
    if isinstance(tree, dict):
        return [a for k in sorted(tree) for a in arrays(tree[k])]
    if isinstance(tree, tuple | list):
        return [a for x in tree for a in arrays(x)]
    return [tree.detach().numpy()]


def same(ours: Any, theirs: Any, tol: float = 1e-8) -> None:
    found, wanted = arrays(ours), arrays(theirs)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tol, atol=tol)


def both(case: Callable[..., Any], *inputs: np.ndarray) -> None:
    """`case(library, *tensors)` gives the same under both libraries."""
    same(case(dg, *map(dg.tensor, inputs)), case(torch, *map(torch.tensor, inputs)))


# Functions of one vector, and of what they are made.
VECTORS: dict[str, Callable[[Any, Any], Any]] = {
    "pointwise": lambda t, x: t.sin(x) * t.exp(-x) + x**3,
    "matrix": lambda t, x: t.outer(x, x) @ x.tanh(),
    "softmax": lambda t, x: t.softmax(x, 0) * t.logsumexp(x, 0),
    "product": lambda t, x: x.prod() * x,
    "sorted": lambda t, x: t.sort(x)[0] * t.arange(3, dtype=x.dtype),
    "running": lambda t, x: x.cumsum(0) * x.cumprod(0),
    "indexed": lambda t, x: x[[2, 0]] * x[1:],
    "where": lambda t, x: t.where(x > 0, x * x, x.sin()),
    "joined": lambda t, x: t.cat([x, x.flip(0)]).reshape(2, 3) * x,
    "norm": lambda t, x: t.nn.functional.layer_norm(x, (3,)) * x.norm(),
    "conv": lambda t, x: t.nn.functional.conv1d(x.reshape(1, 1, 3), x[:2].reshape(1, 1, 2))[0, 0],
    "written": lambda t, x: written(t, x),
    "masked": lambda t, x: t.nn.functional.gelu(x.masked_fill(x < -0.1, 0.5)),
    "solved": lambda t, x: t.linalg.inv(t.outer(x, x) + 2 * t.eye(3, dtype=x.dtype)) @ x,
}


def written(t: Any, x: Any) -> Any:
    y = x * 2
    y[0] = x[1] * x[2]
    y.mul_(x)
    return y.add_(1)


JACOBIANS = {
    "jacrev": lambda t, f: t.func.jacrev(f),
    "jacfwd": lambda t, f: t.func.jacfwd(f),
    "chunks": lambda t, f: t.func.jacrev(f, chunk_size=2),
    "one by one": lambda t, f: t.func.jacrev(f, chunk_size=1),
    "forward over reverse": lambda t, f: t.func.jacfwd(t.func.jacrev(f)),
    "reverse over forward": lambda t, f: t.func.jacrev(t.func.jacfwd(f)),
    "forward twice": lambda t, f: t.func.jacfwd(t.func.jacfwd(f)),
    "reverse twice": lambda t, f: t.func.jacrev(t.func.jacrev(f)),
}


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("kind", JACOBIANS)
def test_jacobians(name: str, kind: str) -> None:
    function = VECTORS[name]

    def case(t: Any, x: Any) -> Any:
        # PyTorch's own second derivatives are right for all of these in reverse mode alone.
        second = t is torch and (" over " in kind or "twice" in kind)
        return JACOBIANS["reverse twice" if second else kind](t, lambda x: function(t, x))(x)

    both(case, VECTOR)


@pytest.mark.parametrize("name", [n for n in VECTORS if n != "solved"])
def test_maps_and_their_gradients(name: str) -> None:
    function = VECTORS[name]
    case = lambda t, m: t.func.vmap(lambda x: function(t, x))(m)  # noqa: E731
    if name != "written":  # PyTorch cannot map the assignment of an element
        both(case, MATRIX)
        both(lambda t, m: t.func.grad(lambda m: case(t, m).sum())(m), MATRIX)
        loss = lambda t: lambda x: function(t, x).sum()  # noqa: E731
        both(lambda t, m: t.func.vmap(t.func.grad(loss(t)))(m), MATRIX)
        both(lambda t, m: t.func.vmap(t.func.hessian(loss(t)))(m), MATRIX)


CASES: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "axes": (
        lambda t, a, b: t.func.vmap(lambda x, y: x * y.sum(), in_dims=(1, 0), out_dims=1)(a, b.T),
        (OTHER.T @ OTHER, OTHER),
    ),
    "one without a batch": (
        lambda t, a, b: t.func.vmap(lambda x, w: (x @ w).relu(), (0, None))(a, b),
        (MATRIX, OTHER),
    ),
    "nested arguments": (
        lambda t, a, b: t.func.vmap(
            lambda p, s: {"y": p["a"] * p["b"][0], "z": (p["b"][0].sum() + s,)},
            in_dims=({"a": 0, "b": [None]}, None),
        )({"a": a, "b": [b[:, 0]]}, 2.0),
        (MATRIX, OTHER),
    ),
    "nested maps": (
        lambda t, a, b: t.func.vmap(t.func.vmap(lambda x, y: x * y, (None, 0)), (0, None))(a, b),
        (VECTOR, MATRIX[:, 0]),
    ),
    "chunks": (lambda t, a: t.func.vmap(lambda x: x.sum() * x, chunk_size=3)(a), (MATRIX,)),
    "chosen elements": (
        lambda t, a, i: t.func.vmap(lambda x, i: t.index_select(x, 0, i.reshape(1)))(a, i),
        (MATRIX, INDEX),
    ),
    "gathered": (
        lambda t, a, i: t.func.vmap(lambda x, i: x.gather(0, i.reshape(1)))(a, i),
        (MATRIX, INDEX),
    ),
    "images": (
        lambda t, x, w: t.func.vmap(
            lambda x: t.nn.functional.max_pool2d(t.nn.functional.conv2d(x[None], w), 2)
        )(x),
        (IMAGES, KERNEL),
    ),
    "kernels": (
        lambda t, x, w: t.func.vmap(lambda w: t.nn.functional.conv2d(x, w))(
            t.stack([w, 2 * w, w.sin()])
        ),
        (IMAGES, KERNEL),
    ),
    "sums of squares by weights": (
        lambda t, x, w: t.func.vmap(
            t.func.grad(lambda w, x: (t.nn.functional.conv2d(x[None], w) ** 2).sum()), (None, 0)
        )(w, x),
        (IMAGES, KERNEL),
    ),
    "losses of samples": (
        lambda t, x, w, i: t.func.vmap(
            t.func.grad(lambda w, x, i: t.nn.functional.cross_entropy(x @ w, i)), (None, 0, 0)
        )(w, x, i),
        (MATRIX, OTHER, INDEX),
    ),
    "value and auxiliary output": (
        lambda t, x: t.func.grad_and_value(lambda x: ((x**2).sum(), x.sin()), has_aux=True)(x),
        (VECTOR,),
    ),
    "several arguments": (
        lambda t, a, b: t.func.grad(lambda x, y: (x @ y).sin().sum(), argnums=(0, 1))(a, b),
        (MATRIX, OTHER),
    ),
    "jacobian with an auxiliary output": (
        lambda t, x: t.func.jacrev(lambda x: (x.sin() * x.sum(), x * 2), has_aux=True)(x),
        (VECTOR,),
    ),
    "forward jacobian with an auxiliary output": (
        lambda t, x: t.func.jacfwd(lambda x: (x.sin() * x.sum(), x * 2), has_aux=True)(x),
        (VECTOR,),
    ),
    "jacobians of nested outputs": (
        lambda t, x, y: t.func.jacrev(lambda x, y: {"p": x.outer(y), "q": y.sum()}, (0, 1))(x, y),
        (VECTOR, VECTOR * 2),
    ),
    "forward jacobians of nested outputs": (
        lambda t, x, y: t.func.jacfwd(lambda x, y: {"p": x.outer(y), "q": y.sum()}, (0, 1))(x, y),
        (VECTOR, VECTOR * 2),
    ),
    "tangents": (
        lambda t, x, y: t.func.jvp(lambda x, y: (x * y, x.sum()), (x, y), (y, x)),
        (VECTOR, VECTOR * 2),
    ),
    "gradient of a tangent": (
        lambda t, x: t.func.grad(
            lambda x: t.func.jvp(lambda z: (z.sin() ** 2).sum(), (x,), (x * x,))[1]
        )(x),
        (VECTOR,),
    ),
    "tangent of a gradient": (
        lambda t, x: t.func.jvp(t.func.grad(lambda z: (z.sin() ** 2).sum()), (x,), (x * x,)),
        (VECTOR,),
    ),
    "perturbations are not confused": (
        lambda t, x: t.func.grad(
            lambda x: (x * t.func.grad(lambda y: (x + y).sum())(x.detach() * 0 + 1)).sum()
        )(x),
        (VECTOR,),
    ),
    "tangents are not confused": (
        lambda t, x: t.func.jvp(
            lambda x: x * t.func.jvp(lambda y: x * y, (x,), (t.ones_like(x),))[1],
            (x,),
            (t.ones_like(x),),
        ),
        (VECTOR,),
    ),
    "complex": (
        lambda t, x: t.func.grad(lambda z: (z * z.conj() + z**2).real.sum())(x + 1j * x.flip(0)),
        (VECTOR,),
    ),
    "complex tangents": (
        lambda t, x: t.func.jvp(
            lambda z: (z.exp() * z.abs(), z.conj() * z),
            (x + 1j * x.flip(0),),
            (x * 2 - 0.5j * x,),
        ),
        (VECTOR,),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_as_torch(name: str) -> None:
    case, inputs = CASES[name]
    both(case, *inputs)


def test_vjp_and_linearize_serve_several_times() -> None:
    x = dg.tensor(VECTOR)
    out, pull = dg.func.vjp(lambda x: (x.sin(), {"s": x.sum()}), x)
    again, push = dg.func.linearize(lambda x: x.sin() * x.sum(), x)
    for scale in (1.0, 2.0):
        (g,) = pull((x * scale, {"s": dg.tensor(scale, dtype=dg.float64)}))
        np.testing.assert_allclose(g, scale * (VECTOR * np.cos(VECTOR) + 1))
        want = (
            np.cos(VECTOR) * scale * VECTOR * VECTOR.sum() + np.sin(VECTOR) * scale * VECTOR.sum()
        )
        np.testing.assert_allclose(push(x * scale), want)
    assert not out[0].requires_grad
    assert not again.requires_grad


def test_gradients_go_on_through_transforms() -> None:
    x = dg.tensor(MATRIX, requires_grad=True)
    w = dg.tensor(OTHER, requires_grad=True)
    rows = dg.func.vmap(dg.func.grad(lambda r: ((r @ w) ** 2).sum()))(x)
    rows.sum().backward()
    a, b = torch.tensor(MATRIX, requires_grad=True), torch.tensor(OTHER, requires_grad=True)
    torch.func.vmap(torch.func.grad(lambda r: ((r @ b) ** 2).sum()))(a).sum().backward()
    same((x.grad, w.grad), (a.grad, b.grad))
    with dg.no_grad():
        assert not dg.func.grad(lambda r: (r @ w).sum())(x[0]).requires_grad
    assert not dg.func.grad(lambda r: (r**2).sum())(dg.tensor(VECTOR)).requires_grad


def test_results_without_a_gradient() -> None:
    x = dg.tensor(VECTOR)
    zero = dg.func.grad(lambda x, y: (y * y).sum())(x, x)
    np.testing.assert_array_equal(zero, np.zeros(3))
    value, tangent = dg.func.jvp(lambda x: dg.ones(2), (x,), (x,))
    np.testing.assert_array_equal(tangent, np.zeros(2))
    with pytest.raises(RuntimeError, match="independent of the inputs"):
        dg.func.jvp(lambda x: dg.ones(2), (x,), (x,), strict=True)
    assert value.shape == (2,)


def test_writes_to_arguments_are_carried_out() -> None:
    x, seen = dg.tensor(MATRIX), MATRIX.copy()

    def double(row: Any) -> Any:
        row.mul_(2)
        return row.sum()

    np.testing.assert_allclose(dg.vmap(double)(x), 2 * seen.sum(1))
    np.testing.assert_allclose(x, 2 * seen)


def test_random_draws() -> None:
    x = dg.zeros(64, 5)
    draw = lambda row: row + dg.rand(5)  # noqa: E731
    with pytest.raises(RuntimeError, match="randomness error mode"):
        dg.vmap(draw)(x)
    alike = dg.vmap(draw, randomness="same")(x).numpy()
    assert (alike == alike[0]).all()
    apart = dg.vmap(draw, randomness="different")(x).numpy()
    assert len(np.unique(apart)) == apart.size
    kept = dg.vmap(lambda row: nn.functional.dropout(row + 1, 0.5), randomness="different")(x)
    assert 0.3 < float((kept == 0).float().mean()) < 0.7
    order = dg.vmap(lambda row: dg.randperm(5), randomness="different")(x).numpy()
    assert (np.sort(order, 1) == np.arange(5)).all()
    assert len(np.unique(order, axis=0)) > 10


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda x: dg.vmap(lambda y: y)(), ValueError, "got no inputs"),
        (lambda x: dg.vmap(lambda y: y, in_dims=(0, 0))(x), ValueError, "not compatible"),
        (lambda x: dg.vmap(lambda y: y, in_dims=7)(x), ValueError, "in_dim=7"),
        (lambda x: dg.vmap(lambda y: y, in_dims=(None,))(x), ValueError, "at least one"),
        (lambda x: dg.vmap(lambda y, z: y)(x, x.T), ValueError, "same size"),
        (lambda x: dg.vmap(lambda y: 3)(x), ValueError, "must only return"),
        (lambda x: dg.vmap(lambda y: y.item())(x[:, 0]), RuntimeError, "item"),
        (lambda x: dg.vmap(lambda y: y if y.sum() > 0 else -y)(x), RuntimeError, "control flow"),
        (lambda x: dg.vmap(lambda y: y, randomness="no")(x), RuntimeError, "randomness"),
        (lambda x: dg.vmap(lambda y: y, chunk_size=0)(x), ValueError, "chunk_size"),
        (lambda x: dg.func.grad(lambda y: y)(x), RuntimeError, "scalar tensor"),
        (lambda x: dg.func.grad(lambda y: 1.0)(x), RuntimeError, "return a Tensor"),
        (lambda x: dg.func.grad(lambda y: y.sum(), argnums=1)(x), RuntimeError, "argnum"),
        (lambda x: dg.func.grad(lambda y: y.sum())(x > 0), RuntimeError, "floating point"),
        (lambda x: dg.func.jvp(lambda y: y, (x,), (x, x)), RuntimeError, "structure"),
        (lambda x: dg.func.jvp(lambda y: y, (x,), (x[0],)), RuntimeError, "tangent"),
        (lambda x: dg.func.jvp(lambda y: y, x, x), RuntimeError, "tuple"),
        (lambda x: dg.func.functionalize(lambda y: y), NotImplementedError, "dg.trace"),
        (lambda x: dg.vmap(lambda y: y.sum().backward())(x), RuntimeError, "backward"),
    ],
)
def test_refused(call: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call(dg.tensor(MATRIX))


def net() -> nn.Sequential:
    dg.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.GroupNorm(1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)
    )


def test_gradients_of_samples_are_those_of_batches_of_one() -> None:
    model, images, labels = net(), dg.tensor(IMAGES, dtype=dg.float32), dg.tensor(INDEX)
    state = {k: v.detach() for k, v in model.named_parameters()}

    def loss(state: Any, image: Any, label: Any) -> Any:
        scores = dg.func.functional_call(model, state, (image[None],))
        return nn.functional.cross_entropy(scores, label[None])

    found = dg.func.vmap(dg.func.grad(loss), in_dims=(None, 0, 0))(state, images, labels)
    for i in range(4):
        model.zero_grad()
        nn.functional.cross_entropy(model(images[i : i + 1]), labels[i : i + 1]).backward()
        for name, p in model.named_parameters():
            np.testing.assert_allclose(found[name][i], p.grad, rtol=1e-4, atol=1e-5)


def test_ensembles() -> None:
    models = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh()).eval() for _ in range(3)]
    parameters, buffers = dg.func.stack_module_state(models)
    assert parameters["0.weight"].shape == (3, 4, 3)
    assert parameters["0.weight"].requires_grad
    x = dg.tensor(MATRIX, dtype=dg.float32)

    def call(p: Any, b: Any) -> Any:
        return dg.func.functional_call(models[0], (p, b), x)

    together = dg.vmap(call)(parameters, buffers)
    for i, model in enumerate(models):
        np.testing.assert_allclose(together[i].detach(), model(x).detach(), rtol=1e-5, atol=1e-6)
    models[0].train()
    with pytest.raises(RuntimeError, match="training/eval"):
        dg.func.stack_module_state(models)


def test_functional_call_puts_everything_back() -> None:
    tied = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    tied[1].weight = tied[0].weight
    x, own = dg.ones(1, 3), tied[0].weight
    out = dg.func.functional_call(tied, {"0.weight": dg.eye(3) * 2}, x)
    np.testing.assert_allclose(out, [[4, 4, 4]])
    assert tied[0].weight is own
    assert tied[1].weight is own
    apart = dg.func.functional_call(tied, {"0.weight": dg.eye(3)}, x, tie_weights=False)
    np.testing.assert_allclose(apart.detach(), (x @ own.T).detach())
    with pytest.raises(ValueError, match="Missing"):
        dg.func.functional_call(nn.Linear(2, 2), {"weight": dg.eye(2)}, (x,), strict=True)
    with pytest.raises(AttributeError):
        dg.func.functional_call(tied, {"2.weight": dg.eye(3)}, x)
    norm = nn.BatchNorm1d(3)
    mean = dg.zeros(3)
    dg.func.functional_call(norm, {"running_mean": mean}, dg.randn(8, 3))
    assert float(mean.abs().sum()) > 0
    assert float(norm.running_mean.abs().sum()) == 0
    dg.func.replace_all_batch_norm_modules_(norm)
    assert norm.running_mean is None


TRANSFORMED = {
    "grad": lambda x: dg.func.grad(lambda r: (r.sin() ** 2).sum())(x[0]),
    "vmap": dg.vmap(lambda r: r.softmax(0) @ r),
    "samples": dg.vmap(dg.func.grad(lambda r: (r.tanh() ** 2).sum())),
    "tangent": lambda x: dg.func.jvp(lambda r: r.exp() * r, (x,), (x,))[1],
    "hessian": lambda x: dg.func.hessian(lambda r: (r.sin() * r.prod()).sum())(x[0]),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_in_graphs(name: str) -> None:
    x = dg.tensor(MATRIX)
    want = TRANSFORMED[name](x)
    function = lambda x: TRANSFORMED[name](x) * 2  # noqa: E731
    fast = dg.compile(function, fullgraph=True, execution="interpreter")
    for scale in (1.0, 0.5):
        got, plain = fast(x * scale), function(x * scale)
        np.testing.assert_allclose(got, plain, rtol=1e-9)
    graph = dg.trace(TRANSFORMED[name], x)
    assert tuple(graph.outputs[0].shape) == tuple(want.shape)


def test_gradients_of_samples_in_a_graph() -> None:
    """A module's tensors are replaced while it is traced, and are its own again afterwards."""
    model, x, labels = nn.Linear(3, 2), dg.tensor(MATRIX, dtype=dg.float32), dg.tensor(INDEX % 2)
    weight = model.weight

    def gradients(state: Any, x: Any, labels: Any) -> Any:
        def loss(state: Any, row: Any, label: Any) -> Any:
            scores = dg.func.functional_call(model, state, (row[None],))
            return nn.functional.cross_entropy(scores, label[None])

        return dg.vmap(dg.func.grad(loss), in_dims=(None, 0, 0))(state, x, labels)

    state = {k: v.detach() for k, v in model.named_parameters()}
    fast = dg.compile(gradients, fullgraph=True, execution="interpreter")
    for scale in (1.0, 2.0):
        state["weight"] = weight.detach() * scale
        got, want = fast(state, x, labels), gradients(state, x, labels)
        for name in want:
            np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-6)
    assert model.weight is weight


def test_compiled_functions_under_transforms_run_as_plain_ones() -> None:
    fast = dg.compile(lambda r: (r.sin() * r).sum())
    x = dg.tensor(MATRIX)
    plain = dg.vmap(lambda r: (r.sin() * r).sum())(x)
    np.testing.assert_allclose(dg.vmap(fast)(x), plain)
    same(dg.func.jvp(fast, (x,), (x,)), dg.func.jvp(lambda r: (r.sin() * r).sum(), (x,), (x,)))


def test_values_outlive_their_transform_or_say_so() -> None:
    kept: list[Any] = []
    x = dg.tensor(VECTOR)
    dg.func.jvp(lambda x: kept.append(x * 2) or x, (x,), (x,))
    np.testing.assert_allclose((kept[0] + 1).numpy(), 2 * VECTOR + 1)
    dg.vmap(lambda r: kept.append(r) or r)(x)
    with pytest.raises(RuntimeError, match="outside of it"):
        kept[1] + 1


def test_orders_of_transforms_agree() -> None:
    x = dg.tensor(MATRIX)
    loss = lambda r: (r.exp() * r.sum()).sum()  # noqa: E731
    wanted = dg.func.vmap(dg.func.hessian(loss))(x).numpy()
    reverse, forward = dg.func.jacrev, dg.func.jacfwd
    for outer, inner in itertools.product((reverse, forward), repeat=2):
        np.testing.assert_allclose(dg.vmap(outer(inner(loss)))(x), wanted, rtol=1e-10)


def test_tensors_from_outside_that_are_written_to() -> None:
    norm, x = nn.BatchNorm1d(3), dg.tensor(MATRIX, dtype=dg.float32)
    with pytest.raises(RuntimeError, match="inplace arithmetic"):
        dg.vmap(lambda batch: norm(batch))(dg.stack([x, x * 2]))
    assert norm.running_mean.shape == (3,)
    np.testing.assert_array_equal(norm.running_mean, np.zeros(3))
    dg.func.jvp(norm, (x,), (x,))
    np.testing.assert_allclose(norm.running_mean, 0.1 * x.mean(0), rtol=1e-5)
    fresh = dg.vmap(lambda row: written_in(dg.zeros(3, dtype=row.dtype), row))(x)
    np.testing.assert_allclose(fresh[:, 0], x[:, 1])


def written_in(out: Any, row: Any) -> Any:
    out[0] = row[1]
    return out


def test_what_is_printed() -> None:
    shown: list[str] = []
    x = dg.ones(2)
    dg.vmap(lambda r: shown.append(repr(r)) or r)(dg.ones(3, 2))
    dg.func.jvp(lambda r: shown.append(repr(r)) or r, (x,), (x,))
    assert shown[0].startswith("BatchedTensor(lvl=1, bdim=0, value=")
    assert shown[1] == "tensor([1., 1.], tangent=tensor([1., 1.]))"


def test_functions_that_read_on_the_host_run_for_each_element() -> None:
    edges, x = dg.tensor(np.sort(MATRIX, 1)), dg.tensor(MATRIX)
    both(
        lambda t, e, x: t.func.vmap(lambda e, x: t.searchsorted(e, x))(e, x), edges.numpy(), MATRIX
    )
    found = dg.vmap(lambda e: dg.bucketize(x[0], e))(edges)
    wanted = dg.stack([dg.bucketize(x[0], e) for e in edges])
    np.testing.assert_array_equal(found, wanted)
    nested = dg.vmap(lambda e: dg.vmap(lambda v: dg.searchsorted(e, v))(x))(edges)
    assert nested.shape == (4, 4, 3)
    known = dg.vmap(lambda r: dg.isin(r, x[0]))(x)
    np.testing.assert_array_equal(known, dg.isin(x, x[0]))

"""nn.utils against PyTorch's: parameters as a vector, batch norm put into the layer before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph_compiler.errors import ArgumentError, DTypeError

from .parity import close, copy_state, ours

torch = pytest.importorskip("torch")


def test_parameters_as_a_vector_and_back() -> None:
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Conv2d(1, 2, 2))
    mine = nn.Sequential(nn.Linear(3, 2), nn.Conv2d(1, 2, 2))
    copy_state(theirs, mine)
    vector = nn.utils.parameters_to_vector(mine.parameters())
    close(vector, torch.nn.utils.parameters_to_vector(theirs.parameters()))
    (vector * vector).sum().backward()
    close(mine[0].weight.grad, 2 * theirs[0].weight)
    nn.utils.vector_to_parameters(vector * 2, mine.parameters())
    for p, q in zip(mine.parameters(), theirs.parameters()):
        close(p, 2 * q)
        assert p.is_leaf
    before = vector.detach().clone()
    for wrong in (dg.zeros(5), dg.zeros(len(vector) + 1)):
        with pytest.raises(ArgumentError, match="elements"):
            nn.utils.vector_to_parameters(wrong, mine.parameters())
    with pytest.raises(DTypeError, match="expected a Tensor"):
        nn.utils.vector_to_parameters([1.0], mine.parameters())
    close(nn.utils.parameters_to_vector(mine.parameters()), 2 * torch.tensor(before.numpy()))


def test_vectors_in_a_compiled_step() -> None:
    """A step along the gradient on the flat vector of parameters."""
    found = []
    for wrap in (lambda f: f, dg.compile):
        dg.manual_seed(0)
        model = nn.Linear(3, 2)

        def step(x: Any, model: nn.Linear = model) -> Any:
            loss = model(x).square().mean()
            grads = dg.autograd.grad(loss, list(model.parameters()))
            flat = nn.utils.parameters_to_vector(model.parameters())
            change = nn.utils.parameters_to_vector(grads)
            nn.utils.vector_to_parameters(flat - 0.1 * change, model.parameters())
            return loss.detach()

        run = wrap(step)
        found.append([run(dg.ones(4, 3) * i).item() for i in range(1, 5)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


LAYERS: list[tuple[str, tuple[Any, ...], str, tuple[int, ...]]] = [
    ("Conv2d", (3, 4, 3), "BatchNorm2d", (2, 3, 5, 5)),
    ("Conv1d", (3, 4, 2), "BatchNorm1d", (2, 3, 5)),
    ("ConvTranspose2d", (3, 4, 2), "BatchNorm2d", (2, 3, 4, 4)),
    ("Linear", (3, 4), "BatchNorm1d", (5, 3)),
]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case[0])
def test_fusing_batch_norm(case: Any, bias: bool, affine: bool) -> None:
    name, args, norm, shape = case
    layers = []
    for module in (torch.nn, nn):
        layer = getattr(module, name)(*args, bias=bias)
        layers.append([layer, getattr(module, norm)(4, affine=affine)])
    for theirs, mine in zip(*layers):
        copy_state(theirs, mine)
    theirs_bn, mine_bn = layers[0][1], layers[1][1]
    theirs_bn.running_mean.uniform_(-1, 1)
    theirs_bn.running_var.uniform_(0.5, 2)
    copy_state(theirs_bn, mine_bn)
    with pytest.raises(ArgumentError, match="only for eval"):
        nn.utils.fuse_conv_bn_eval(*layers[1])
    fused = []
    for module, pair in zip((torch.nn, nn), layers):
        for m in pair:
            m.eval()
        if name == "Linear" and module is torch.nn and not affine:
            fused.append(None)  # PyTorch's needs a weight
        elif name == "Linear":
            fused.append(module.utils.fuse_linear_bn_eval(*pair))
        else:
            fused.append(module.utils.fuse_conv_bn_eval(*pair, transpose="Transpose" in name))
    if fused[0] is not None:
        close(fused[1].weight, fused[0].weight)
        close(fused[1].bias, fused[0].bias)
    assert isinstance(fused[1].bias, nn.Parameter)
    x = ours(torch.randn(shape))
    wanted = mine_bn(layers[1][0](x)).detach().numpy()
    np.testing.assert_allclose(fused[1](x).detach().numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_fusing_refuses() -> None:
    layer = nn.Linear(3, 4).eval()
    with pytest.raises(ArgumentError, match="features"):
        nn.utils.fuse_linear_bn_eval(layer, nn.BatchNorm1d(3).eval())
    with pytest.raises(ArgumentError, match="running_mean"):
        nn.utils.fuse_linear_bn_eval(layer, nn.BatchNorm1d(4, track_running_stats=False).eval())

"""Resizing with symbolic sizes, traced and exported: the same weights as with numbers."""

from __future__ import annotations

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph_compiler.graph import interpret

MODES = [("nearest", None), ("bilinear", False), ("bilinear", True), ("bicubic", False)]


@pytest.mark.parametrize(("mode", "aligned"), MODES)
def test_symbolic_sizes(mode: str, aligned: bool | None) -> None:
    def grow(x: dg.Tensor) -> dg.Tensor:
        return F.interpolate(x, scale_factor=2, mode=mode, align_corners=aligned)

    sample = dg.randn(1, 2, 5, 4)
    graph = dg.trace(grow, sample, dynamic_shapes={"x": {2: "h", 3: "w"}})
    for shape in ((1, 2, 5, 4), (1, 2, 3, 7)):
        x = dg.randn(*shape)
        (found,) = interpret(graph, [x.numpy()])
        np.testing.assert_allclose(found, grow(x).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("size", [(3, 4), (5, 20), (16, 2)])
def test_antialias_matches_pytorch(mode: str, aligned: bool, size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 3, 11, 9))
    options = {"mode": mode, "align_corners": aligned, "antialias": True}
    ours = F.interpolate(dg.from_numpy(x), size, **options)
    theirs = torch.nn.functional.interpolate(torch.from_numpy(x), size, **options)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6, atol=1e-6)


def test_affine_grid_reads_what_it_maps() -> None:
    """The identity gives the image; a half turn gives it turned round."""
    x = dg.randn(1, 2, 4, 5)
    same = dg.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    turned = -same
    for theta, expected in ((same, x), (turned, x.flip(2, 3))):
        grid = F.affine_grid(theta, x.shape, align_corners=False)
        found = F.grid_sample(x, grid, align_corners=False)
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_affine_grid_of_volumes_matches_pytorch() -> None:
    torch = pytest.importorskip("torch")
    theta = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    for aligned in (False, True):
        ours = F.affine_grid(dg.from_numpy(theta), (2, 1, 3, 2, 4), aligned)
        theirs = torch.nn.functional.affine_grid(
            torch.from_numpy(theta), [2, 1, 3, 2, 4], align_corners=aligned
        )
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-5)


def test_maxima_go_back() -> None:
    x = dg.tensor([[[[1.0, 5, 2, 0], [3, 4, 6, 7]]]])
    top, places = F.max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(
        F.max_unpool2d(top, places, 2).numpy(), [[[[0, 5, 0, 0], [0, 0, 0, 7]]]]
    )
    with pytest.raises(ValueError, match="output_size"):
        F.max_unpool2d(top, places, 2, output_size=(9, 9))

"""Batch normalisation under vmap."""

from __future__ import annotations

from ..nn import Module
from ..nn.modules.norm import _BatchNorm


def replace_all_batch_norm_modules_(root: Module) -> Module:
    """Let all batch norms in `root` normalise by their batch alone, without running statistics.

    Those would be written inside of a map, once for each sample. Returns `root`.
    """
    for module in root.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean = None
            module.running_var = None
            module.num_batches_tracked = None
            module.track_running_stats = False
    return root

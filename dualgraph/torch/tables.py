"""Where PyTorch's names are found when not in the module of dualgraph's that is called the same."""

from __future__ import annotations

__all__ = ["HIDDEN", "MODULES", "NAMES", "SPREAD"]

# Modules that are arranged otherwise here.
MODULES = {
    "torch.cuda.amp": "dualgraph.amp.cuda_amp",
    "torch.cuda.random": "dualgraph.cuda",
    "torch.nn.modules.adaptive": "dualgraph.nn.modules.linear",
    "torch.nn.modules.batchnorm": "dualgraph.nn.modules.norm",
    "torch.nn.modules.channelshuffle": "dualgraph.nn.modules.shape",
    "torch.nn.modules.distance": "dualgraph.nn.modules.loss",
    "torch.nn.modules.flatten": "dualgraph.nn.modules.shape",
    "torch.nn.modules.instancenorm": "dualgraph.nn.modules.norm",
    "torch.nn.modules.normalization": "dualgraph.nn.modules.norm",
    "torch.nn.modules.padding": "dualgraph.nn.modules.shape",
    "torch.nn.modules.pixelshuffle": "dualgraph.nn.modules.shape",
    "torch.nn.modules.sparse": "dualgraph.nn.modules.linear",
    "torch.nn.modules.upsampling": "dualgraph.nn.modules.shape",
    "torch.optim.adamw": "dualgraph.optim.adam",
}

# Single names that mean something else, or nothing, in the module that is called the same.
NAMES = {
    "torch.trace": "dualgraph.functions.linalg:trace",
    "torch.__version__": "dualgraph.version:__version__",
    "torch.nn.modules.linear.NonDynamicallyQuantizableLinear": (
        "dualgraph.nn.modules.attention:NonDynamicallyQuantizableLinear"
    ),
}

# Packages whose modules may have any name of one of ours, where files are cut otherwise.
SPREAD = {"torch.nn.modules": "dualgraph.nn"}

# Modules of dualgraph's that show nothing of PyTorch's.
HIDDEN = {"cli", "control", "functions", "legacy", "tape_form", "torch", "tracing", "transforms"}

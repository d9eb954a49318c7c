"""dualgraph: define-by-run and define-and-run in one framework, with PyTorch's vocabulary."""

from __future__ import annotations

import warnings as _warnings
from math import e, inf, nan, pi
from os import environ as _environ
from typing import TYPE_CHECKING
from typing import Any as _Any

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.dtypes import DType as dtype
from dualgraph_compiler.dtypes import (
    bfloat16,
    complex64,
    complex128,
    float4_e2m1fn,
    float6_e2m3fn,
    float6_e3m2fn,
    float8_e4m3fn,
    float8_e4m3fnuz,
    float8_e5m2,
    float8_e5m2fnuz,
    float8_e8m0fnu,
    float16,
    float32,
    float64,
    int2,
    int4,
    int8,
    int16,
    int32,
    int64,
    uint2,
    uint4,
    uint8,
    uint16,
    uint32,
    uint64,
)
from dualgraph_compiler.dtypes import bool_ as bool
from dualgraph_compiler.errors import DualGraphError, OutOfMemory
from dualgraph_runtime.device import Device as device

from . import autograd, cuda, functions, special
from ._interop import from_dlpack
from ._promote import (
    get_default_device,
    get_default_dtype,
    set_default_device,
    set_default_dtype,
)
from ._random import (
    Generator,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from ._repr import set_printoptions
from ._settings import (
    are_deterministic_algorithms_enabled,
    get_deterministic_debug_mode,
    get_float32_matmul_precision,
    get_num_threads,
    is_deterministic_algorithms_warn_only_enabled,
    is_warn_always_enabled,
    set_deterministic_debug_mode,
    set_float32_matmul_precision,
    set_num_threads,
    set_warn_always,
    use_deterministic_algorithms,
)
from ._tensor import Size, Tensor
from .autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .control import cond, scan, while_loop
from .functions import *  # noqa: F403 (its __all__ lists them)
from .legacy import (
    BFloat16Tensor,
    BoolTensor,
    ByteTensor,
    CharTensor,
    DoubleTensor,
    FloatTensor,
    HalfTensor,
    IntTensor,
    LongTensor,
    ShortTensor,
    set_default_tensor_type,
    typename,
)
from .tape_form import GradientTape, UnconnectedGradients
from .tracing import (
    CompiledFunction,
    Graph,
    Session,
    audit,
    compile,
    gradients,
    placeholder,
    trace,
)

if TYPE_CHECKING:
    from . import (
        accelerator,
        amp,
        backends,
        compiler,
        cpu,
        distributed,
        distributions,
        fft,
        func,
        jit,
        linalg,
        mps,
        multiprocessing,
        nn,
        onnx,
        optim,
        random,
        serialization,
        signal,
        testing,
        types,
        utils,
        version,
        xpu,
    )
    from .amp import (
        GradScaler,
        autocast,
        clear_autocast_cache,
        get_autocast_dtype,
        is_autocast_cache_enabled,
        is_autocast_enabled,
        set_autocast_cache_enabled,
        set_autocast_dtype,
        set_autocast_enabled,
    )
    from .func import vmap
    from .nn.functional import (
        adaptive_avg_pool1d as adaptive_avg_pool1d,
    )
    from .nn.functional import (
        adaptive_max_pool1d as adaptive_max_pool1d,
    )
    from .nn.functional import (
        avg_pool1d as avg_pool1d,
    )
    from .nn.functional import (
        bilinear as bilinear,
    )
    from .nn.functional import (
        celu as celu,
    )
    from .nn.functional import (
        channel_shuffle as channel_shuffle,
    )
    from .nn.functional import (
        conv1d as conv1d,
    )
    from .nn.functional import (
        conv2d as conv2d,
    )
    from .nn.functional import (
        conv3d as conv3d,
    )
    from .nn.functional import (
        conv_transpose1d as conv_transpose1d,
    )
    from .nn.functional import (
        conv_transpose2d as conv_transpose2d,
    )
    from .nn.functional import (
        conv_transpose3d as conv_transpose3d,
    )
    from .nn.functional import (
        group_norm as group_norm,
    )
    from .nn.functional import (
        hardshrink as hardshrink,
    )
    from .nn.functional import (
        layer_norm as layer_norm,
    )
    from .nn.functional import (
        max_pool1d as max_pool1d,
    )
    from .nn.functional import (
        max_pool2d as max_pool2d,
    )
    from .nn.functional import (
        max_pool3d as max_pool3d,
    )
    from .nn.functional import (
        pairwise_distance as pairwise_distance,
    )
    from .nn.functional import (
        pixel_shuffle as pixel_shuffle,
    )
    from .nn.functional import (
        pixel_unshuffle as pixel_unshuffle,
    )
    from .nn.functional import (
        prelu as prelu,
    )
    from .nn.functional import (
        rms_norm as rms_norm,
    )
    from .nn.functional import (
        rrelu as rrelu,
    )
    from .nn.functional import (
        selu as selu,
    )
    from .nn.functional import (
        threshold as threshold,
    )
    from .serialization import load, save

__version__ = "0.1.0"

# Division by zero, overflow and NaN are values here, as in PyTorch; NumPy would warn of each. Only
# warnings raised by our own kernels are silenced: the user's NumPy code keeps its own.
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"dualgraph(_compiler)?\.")

if _environ.get("DUALGRAPH_EXECUTION") != "interpreter":
    from dualgraph_runtime.native.eager import enable as _enable

    _enable()

half, float, double = float16, float32, float64
short, int, long = int16, int32, int64
cfloat, cdouble = complex64, complex128

# What PyTorch code passes as `layout=` and `memory_format=`; elements are always strided here.
strided = "strided"
layout = memory_format = str
contiguous_format, preserve_format = "contiguous_format", "preserve_format"
channels_last, channels_last_3d = "channels_last", "channels_last_3d"

newaxis = None
OutOfMemoryError = OutOfMemory

# Imported when first used, so that `import dualgraph` stays quick.
_LAZY = {
    **{
        name: f".{name}"
        for name in (
            "accelerator",
            "amp",
            "backends",
            "compiler",
            "cpu",
            "distributed",
            "distributions",
            "fft",
            "func",
            "jit",
            "linalg",
            "mps",
            "multiprocessing",
            "nn",
            "onnx",
            "optim",
            "random",
            "serialization",
            "signal",
            "testing",
            "types",
            "utils",
            "version",
            "xpu",
        )
    },
    **{
        name: f".amp:{name}"
        for name in (
            "GradScaler",
            "GradScaler",
            "GradScaler",
            "autocast",
            "clear_autocast_cache",
            "get_autocast_dtype",
            "is_autocast_cache_enabled",
            "is_autocast_enabled",
            "set_autocast_cache_enabled",
            "set_autocast_dtype",
            "set_autocast_enabled",
        )
    },
    "vmap": ".func:vmap",
    "is_anomaly_check_nan_enabled": ".autograd.anomaly_mode:is_anomaly_check_nan_enabled",
    "is_anomaly_enabled": ".autograd.anomaly_mode:is_anomaly_enabled",
    "is_inference_mode_enabled": ".autograd:is_inference_mode_enabled",
    "load": ".serialization:load",
    "save": ".serialization:save",
}


def __getattr__(name: str) -> _Any:
    target = _LAZY.get(name)
    if target is None:
        from ._aliases import alias

        value = None if name.startswith("__") else alias(name)
        if value is None:
            raise AttributeError(_missing(name), name=name)
        globals()[name] = value
        return value
    import importlib

    module, _, attribute = target.partition(":")
    found = importlib.import_module(module, __name__)
    value = getattr(found, attribute) if attribute else found
    globals()[name] = value
    return value


def _missing(name: str) -> str:
    """What to say of a name that there is not."""
    message = f"module {__name__!r} has no attribute {name!r}"
    if name.startswith("_"):
        return message
    from .torch.missing import hint

    return f"{message}: {hint('torch', name, __all__)}"


__all__ = [
    "dtype",
    "float4_e2m1fn",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "int2",
    "int4",
    "uint2",
    "uint4",
    "bfloat16",
    "complex64",
    "complex128",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "half",
    "float",
    "double",
    "short",
    "int",
    "long",
    "cfloat",
    "cdouble",
    "e",
    "inf",
    "nan",
    "pi",
    "Dim",
    "DualGraphError",
    "device",
    "autograd",
    "cuda",
    "special",
    "from_dlpack",
    "get_default_device",
    "get_default_dtype",
    "set_default_device",
    "set_default_dtype",
    "Generator",
    "default_generator",
    "get_rng_state",
    "initial_seed",
    "manual_seed",
    "seed",
    "set_rng_state",
    "set_printoptions",
    "are_deterministic_algorithms_enabled",
    "get_deterministic_debug_mode",
    "get_float32_matmul_precision",
    "get_num_threads",
    "is_deterministic_algorithms_warn_only_enabled",
    "is_warn_always_enabled",
    "set_deterministic_debug_mode",
    "set_float32_matmul_precision",
    "set_num_threads",
    "set_warn_always",
    "use_deterministic_algorithms",
    "BFloat16Tensor",
    "BoolTensor",
    "ByteTensor",
    "CharTensor",
    "DoubleTensor",
    "FloatTensor",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "ShortTensor",
    "set_default_tensor_type",
    "typename",
    "Size",
    "Tensor",
    "enable_grad",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
    "GradientTape",
    "UnconnectedGradients",
    "cond",
    "scan",
    "while_loop",
    "CompiledFunction",
    "Graph",
    "Session",
    "audit",
    "compile",
    "gradients",
    "placeholder",
    "trace",
    "layout",
    "memory_format",
    "strided",
    "contiguous_format",
    "preserve_format",
    "channels_last",
    "channels_last_3d",
    "newaxis",
    "OutOfMemoryError",
    "accelerator",
    "amp",
    "GradScaler",
    "autocast",
    "backends",
    "compiler",
    "cpu",
    "distributed",
    "distributions",
    "fft",
    "func",
    "jit",
    "linalg",
    "mps",
    "multiprocessing",
    "nn",
    "onnx",
    "optim",
    "serialization",
    "signal",
    "random",
    "testing",
    "types",
    "utils",
    "version",
    "clear_autocast_cache",
    "get_autocast_dtype",
    "is_autocast_cache_enabled",
    "is_autocast_enabled",
    "set_autocast_cache_enabled",
    "set_autocast_dtype",
    "set_autocast_enabled",
    "vmap",
    "xpu",
    "load",
    "save",
]
__all__ += functions.__all__

"""What of PyTorch's vocabulary is left out on purpose, and why."""

from __future__ import annotations

import functools
import re

__all__ = ["REASONS", "reason"]

# Why, and patterns of full names: `*` stands for any text.
REASONS: list[tuple[str, str]] = [
    (
        "elements are always strided and dense: there are no sparse layouts",
        """
        torch.sparse torch.sparse.* torch.sparse_* torch.Tensor.*sparse* torch.optim.SparseAdam
        torch.*_indices_copy torch.indices_copy torch.values_copy torch.dsmm torch.hsmm torch.hspmm
        torch.saddmm torch.smm torch.spmm torch.sspaddmm torch.resize_as_sparse_ torch.jagged
        torch.Tensor.coalesce torch.Tensor.is_coalesced torch.Tensor.*_indices
        torch.Tensor.indices torch.Tensor.values torch.Tensor.to_dense torch.Tensor.dense_dim
        torch.Tensor.smm torch.Tensor.sspaddmm
        """,
    ),
    (
        "tensors are dense: neither nested nor masked ones exist (nn.utils.rnn packs sequences)",
        """
        torch.nested torch.nested.* torch.masked torch.masked.* torch.Tensor.is_nested
        torch.Tensor.to_padded_tensor
        """,
    ),
    (
        "quantised models are ONNX models here: `dualgraph quantize`, docs/quantization.md",
        """
        torch.quantization torch.quantization.* torch.ao torch.ao.* torch.*quantize* torch.q_*
        torch.qscheme torch.qint* torch.quint* torch.quantized_* torch.per_channel_*
        torch.per_tensor_* torch.int_repr torch.fbgemm_* torch.*fake_quant* torch.QInt*Storage
        torch.QUInt*Storage torch.choose_qparams_optimized torch.empty_quantized
        torch.Tensor.*quantize* torch.Tensor.q_* torch.Tensor.qscheme torch.Tensor.int_repr
        torch.Tensor.is_quantized torch.nn.quantized* torch.nn.qat* torch.nn.intrinsic*
        torch.nn.quantizable*
        """,
    ),
    (
        "training runs in one process",
        """
        torch.distributed.* torch.nn.parallel.* torch.utils.data.DistributedSampler
        torch.is_distributed torch.Tensor.is_distributed torch.futures torch.futures.*
        """,
    ),
    (
        "graphs are made by dualgraph.trace and dualgraph.compile, files by torch.onnx.export",
        """
        torch.jit torch.jit.* torch.fx torch.fx.* torch.export torch.export.* torch.package
        torch.package.* torch.Sym* torch.sym_* torch.fork torch.wait torch.parse_*
        torch.import_ir_module* torch.merge_type_from_type_comment torch.unify_type_list
        torch.onnx.ONNXProgram torch.onnx.InputObserver torch.onnx.ExportableModule torch.onnx.ops
        torch.compiler.*_unsafe torch.compiler.cudagraph_* torch.compiler.config
        torch.compiler.*cache_artifacts torch.compiler.set_enable_guard_collectives
        torch.compiler.substitute_in_graph torch.compiler.wrap_numpy torch.compiler.set_stance
        torch.compiler.load_compiled_function torch.compiler.allow_in_graph
        torch.compiler.assume_constant_result torch.compiler.nested_compile_region
        torch.compiler.keep_* torch.compiler.*default_backend torch.compiler.list_backends
        """,
    ),
    (
        "operators are Python classes (dualgraph_compiler.ops): there is no registry in C++ and "
        "no dispatch to override",
        """
        torch.library torch.library.* torch.overrides torch.overrides.* torch._C torch._C.*
        torch.ops torch.ops.* torch.nn.functional.*torch_function* torch.DispatchKey*
        torch.classes* torch.utils.*privateuse1* torch.utils.*cpp* torch.utils.ThroughputBenchmark
        torch.utils.cmake_prefix_path torch.utils.set_module torch.utils.cpp_extension*
        torch.autograd.NestedIOFunction torch.autograd.enforce_grad_layout_policy
        torch.autograd.variable torch.compiled_with_cxx11_abi torch.get_file_path
        torch.prepare_multiprocessing_environment torch.Tensor.*_data_ptr
        """,
    ),
    (
        "an implementation detail of PyTorch that it has among its public names",
        """
        torch.cudnn_* torch.miopen_* torch.mkldnn_* torch.native_* torch.batch_norm_*
        torch.unsafe_* torch.*_copy torch.fused_moving_avg* torch.slice_inverse
        torch.nn.functional.native_* torch.nn.functional.scaled_* torch.nn.functional.grouped_mm
        torch.nn.functional.ScalingType torch.nn.functional.SwizzleType
        torch.nn.functional.GRID_SAMPLE_* torch.affine_grid_generator torch.embedding_renorm_
        torch.norm_except_dim torch.convolution torch.grid_sampler* torch.feature_dropout*
        torch.autocast_*_nesting torch.*_cell torch.gru torch.lstm torch.rnn_*
        torch.frobenius_norm torch.nuclear_norm torch.hash_tensor torch.profiler_*
        torch.Tensor.hash_tensor torch.Tensor.module_load torch.Tensor.slice_inverse
        torch.Tensor.unsafe_* torch.Tensor.is_set_to torch.Tensor.dim_order torch.Tensor.reinforce
        torch.init_num_threads torch.nn.factory_kwargs
        torch.utils.checkpoint.* torch.autograd.graph.set_* torch.autograd.graph.region_*
        torch.nn.LinearCrossEntropyOptions torch.cuda.amp.amp_definitely_not_available
        torch.thread_safe_generator torch.random.thread_safe_generator
        torch.binary_cross_entropy_with_logits torch.*_with_indices torch.*_loss torch.kl_div
        torch.pdist torch.constant_pad_nd torch.nn.functional.*_with_indices
        torch.serialization.get_* torch.serialization.set_* torch.serialization.*_storage*
        torch.serialization.*_to_* torch.serialization.validate_* torch.serialization.mkdtemp
        torch.serialization.check_* torch.serialization.location_tag
        torch.serialization.register_package torch.serialization.StorageType
        torch.serialization.LoadEndianness torch.serialization.default_restore_location
        torch.serialization.skip_data torch.serialization.SourceChangeWarning
        torch.nn.parameter.UninitializedTensorMixin torch.onnx.errors torch.embedding_bag
        torch.autograd.set_multithreading_enabled torch.utils.swap_tensors torch.Tensor.index
        torch.Tensor.grad_dtype torch.func.debug_unwrap torch.serialization.normalize_*
        torch.sym_constrain*
        torch.Tensor.as_subclass torch.Tensor.sparse* torch.Tag
        torch.testing.FileCheck torch.multiprocessing.reducer torch.nn.NLLLoss2d
        torch.set_autocast_cache_enabled torch.is_autocast_cache_enabled torch.segment_reduce
        """,
    ),
    (
        "memory is that of a NumPy or CuPy array (`x.numpy()`, `x.data_ptr()`): there are no "
        "storage objects",
        """
        torch.Tensor.*storage* torch.*Storage torch.is_storage torch.storage torch.types.Storage
        torch.Tensor.set_ torch.*.share_memory* torch.from_file
        """,
    ),
    (
        "devices are the CPU and NVIDIA's GPUs through CuPy",
        """
        torch.xpu torch.xpu.* torch.mps torch.mps.* torch.mtia* torch.is_vulkan_available
        torch.Tensor.ipu torch.Tensor.xpu torch.Tensor.mtia torch.Tensor.to_mkldnn
        torch.*autocast_ipu* torch.*autocast_xla* torch.cpu.Stream* torch.cpu.stream
        torch.cpu.current_stream torch.cpu.Event torch.cpu.get_capabilities torch.accelerator*
        """,
    ),
    (
        "GPU memory, streams and graphs are CuPy's (cupy.cuda), which dualgraph does not wrap",
        """
        torch.cuda.*Stream* torch.cuda.*stream* torch.cuda.*Event* torch.cuda.*graph*
        torch.cuda.*Graph* torch.cuda.*memory_* torch.cuda.memory_* torch.cuda.*MemPool*
        torch.cuda.*mem_pool* torch.cuda.*allocator* torch.cuda.*Allocator* torch.cuda.nvtx
        torch.cuda.nccl torch.cuda.jiterator torch.cuda.tunable* torch.cuda.*power*
        torch.cuda.clock* torch.cuda.temperature torch.cuda.utilization
        torch.cuda.ipc_collect torch.cuda.cudart
        torch.cuda.*gencode* torch.cuda.*arch* torch.cuda.*sync_debug* torch.cuda.comm
        torch.cuda.list_gpu_processes torch.cuda.*Status torch.cuda.*Error* torch.cuda.*Storage
        torch.cuda.check_error torch.cuda.can_device_access_peer torch.cuda.COMPILED*
        torch.cuda.CudaError torch.cuda.caching_* torch.cuda.has_magma torch.cuda.has_half
        torch.Stream torch.Event torch.Tensor.record_stream torch.Tensor.cuda_*
        torch.cuda.GreenContext torch.cuda.current_blas_handle torch.cuda.current_solver_handle
        torch.cuda.device_of torch.cuda.sparse torch.cuda.profiler torch.AcceleratorError
        torch.cuda.default_generators torch.cuda.memory torch.cuda.Memory*
        torch.backends.cuda.cufft* torch.backends.cuda.cuFFT* torch.backends.cuda.*blas*
        torch.backends.cuda.cuBLASModule torch.backends.cuda.*ck_sdpa* torch.backends.cuda.*rocm*
        torch.backends.cuda.can_use_* torch.backends.cuda.SDPAParams
        torch.backends.cuda.preferred_* torch.backends.cuda.*reduction_math*
        """,
    ),
    (
        "profiles are Python's own (cProfile), or `dualgraph` sessions' reports",
        """
        torch.profiler torch.profiler.* torch.autograd.profiler torch.autograd.profiler.*
        torch.utils.bottleneck* torch.utils.benchmark*
        """,
    ),
    (
        "elements of these widths are packed in memory, which arrays here are not",
        """
        torch.bit torch.bits* torch.uint1 torch.uint3 torch.uint5 torch.uint6 torch.uint7 torch.int1
        torch.int3 torch.int5 torch.int6 torch.int7 torch.float4_e2m1fn_x2
        """,
    ),
    (
        "NumPy has no complex numbers of half precision",
        """
        torch.chalf torch.complex32 torch.Tensor.chalf
        """,
    ),
    (
        "PyTorch itself has it no longer: its call only says what to use instead",
        """
        torch.eig torch.symeig torch.lstsq torch.matrix_rank torch.solve torch.Tensor.eig
        torch.Tensor.symeig torch.Tensor.lstsq torch.Tensor.solve torch.Tensor.volatile
        torch.legacy_contiguous_format torch.nn.Container torch.testing.assert_allclose
        torch.cuda.*_cached torch.cuda.reset_max_* torch.has_* torch.Tensor.resize
        torch.Tensor.resize_as torch.cuda.*amp_* torch.nn.utils.stateless*
        torch.utils.data.*DataPipe* torch.utils.data.DataChunk torch.utils.data.functional_datapipe
        torch.utils.data.*validation* torch.utils.data.*determin*
        """,
    ),
    (
        "downloading code and weights is left to the program (huggingface_hub, urllib)",
        """
        torch.hub torch.hub.*
        """,
    ),
    (
        "logging to TensorBoard is its own package's: tensorboardX writes the same files",
        """
        torch.utils.tensorboard*
        """,
    ),
    (
        "there is no such setting: compute and threads are as they are",
        """
        torch.nn.attention.*flash_attention* torch.nn.attention.WARN* torch.set_flush_denormal
        torch.PRIVATE_OPS torch.USE_* torch.*_interop_threads torch.backends.mkl.VERBOSE*
        torch.backends.*.verbose torch.backends.mps.get_* torch.backends.mps.*macos*
        torch.nn.utils.convert_conv*
        """,
    ),
]


@functools.cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    found = []
    for why, names in REASONS:
        alternatives = (re.escape(name).replace(r"\*", ".*") for name in names.split())
        found.append((why, re.compile("|".join(alternatives))))
    return found


def reason(name: str) -> str | None:
    """Why a full name such as ``torch.sparse_coo_tensor`` is left out; None if nothing is known."""
    return next((why for why, pattern in _patterns() if pattern.fullmatch(name)), None)

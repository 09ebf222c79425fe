"""What the contest's reported bans are, and which names stand for what. Data only."""

from __future__ import annotations

RULES = {
    "torch-arithmetic": "torch may allocate and make views in the call path, TileLang computes",
    "import-source": "a kernel may not bring its own device source into TileLang",
    "call-extern": "a kernel may not call functions outside TileLang",
    "raw-cuda": "device code is written in TileLang, not compiled or loaded from elsewhere",
    "data-ptr": "addresses may not be read: results must depend on contents alone",
    "host-device": "no copies between host and device in a call, and no waiting for the device",
    "cached-results": "nothing that came out of one call's data may serve another call",
    "test-case-shape": "a kernel that knows the test's sizes does not serve other ones",
    "other-library": "only TileLang computes, torch and the standard library help",
    "unseen-code": "code that is made while it runs cannot be judged by reading it",
}

# --- libraries ----------------------------------------------------------------------------------

LIBRARIES = ("torch", "tilelang", "tvm", "tvm_ffi")
"""Importable top-level names, beside the standard library."""
NATIVE = ("ctypes", "cffi", "subprocess", "_ctypes")
"""Of the standard library: ways to code that is not Python."""

# --- torch --------------------------------------------------------------------------------------

ALLOCATE = {
    "empty", "empty_like", "empty_strided", "zeros", "zeros_like", "ones", "ones_like", "full",
    "full_like",
}  # fmt: skip
TORCH_FINE = ALLOCATE | {
    "Tensor", "device", "dtype", "Size", "Generator", "is_tensor", "no_grad", "inference_mode",
    "enable_grad", "set_grad_enabled", "as_strided", "iinfo", "finfo", "typename", "layout",
    "version", "OutOfMemoryError", "get_default_dtype", "promote_types", "contiguous_format",
    "strided", "reshape", "squeeze", "unsqueeze", "flatten", "transpose", "permute", "split",
    "chunk", "unbind", "narrow", "broadcast_shapes", "numel", "view_as_real", "select", "movedim",
    "swapaxes", "t", "ravel", "is_floating_point", "pi", "inf", "nan", "e",
}  # fmt: skip
DTYPES = {
    "float16", "bfloat16", "float32", "float64", "half", "float", "double", "int", "long", "short",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
}  # fmt: skip
CUDA_FINE = {
    "is_available", "current_device", "get_device_capability", "get_device_name", "device_count",
    "get_device_properties", "current_stream", "device", "set_device", "default_stream",
    "is_current_stream_capturing", "get_arch_list", "OutOfMemoryError",
}  # fmt: skip
TORCH_DEVICES = {"cuda", "backends", "version", "accelerator"}
TORCH_COMPUTES = {
    "nn", "ops", "linalg", "fft", "special", "_C", "sparse", "autograd", "distributed", "jit",
    "_dynamo", "compiler", "functional", "aten", "_ops", "_inductor",
}  # fmt: skip
"""Modules of torch whose functions compute, or make functions that do."""
TORCH_MODULES = TORCH_DEVICES | TORCH_COMPUTES | {
    "utils", "random", "types", "profiler", "__version__", "__dict__", "_utils", "storage",
}  # fmt: skip
WAITS = {"synchronize", "Event", "Stream", "stream", "wait_stream", "wait_event", "ipc_collect"}
MAKES_FROM_HOST = {"tensor", "as_tensor", "from_numpy", "frombuffer", "asarray", "scalar_tensor"}
GRAPHS = {"CUDAGraph", "graph", "make_graphed_callables"}

# --- tensors ------------------------------------------------------------------------------------

NO_TENSOR = {
    "shape", "dtype", "device", "stride", "size", "dim", "ndim", "ndimension", "numel", "nelement",
    "element_size", "itemsize", "nbytes", "is_contiguous", "is_cuda", "is_floating_point", "layout",
    "get_device", "requires_grad", "storage_offset", "is_complex", "is_cpu", "is_meta",
    "is_sparse", "names", "is_leaf", "__class__", "__len__",
}  # fmt: skip
"""What a tensor says of itself without reading its data."""
TELLS_TENSOR = {
    "shape", "stride", "numel", "nelement", "element_size", "is_contiguous", "is_cuda",
    "storage_offset", "data_ptr", "contiguous", "unsqueeze", "new_empty", "view_as", "detach", "mT",
}  # fmt: skip
"""Attributes that only a tensor has: whatever they are read from is one."""
VIEWS = {
    "view", "reshape", "squeeze", "unsqueeze", "flatten", "unflatten", "transpose", "permute", "t",
    "T", "mT", "H", "mH", "expand", "expand_as", "as_strided", "narrow", "select", "chunk",
    "split", "unbind", "detach", "view_as", "contiguous", "unfold", "movedim", "swapaxes", "data",
    "diagonal", "ravel", "squeeze_", "unsqueeze_", "resize_", "requires_grad_", "tensor_split",
    "split_with_sizes",
    "new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided", "zero_", "fill_",
    "record_stream", "reshape_as", "hsplit", "vsplit", "transpose_", "t_", "set_", "storage",
    "untyped_storage",
}  # fmt: skip
"""Views, allocation and filling with a constant."""
HOST_METHODS = {
    "cpu", "cuda", "item", "tolist", "numpy", "pin_memory", "synchronize", "is_pinned",
    "wait_stream", "share_memory_", "record", "elapsed_time", "query",
}  # fmt: skip
HOST_METHODS_ANYWHERE = HOST_METHODS - {"record", "query"}
"""Those whose names say it even where it is not known what they are called on."""
POINTERS = {"data_ptr", "_cdata", "__cuda_array_interface__", "const_data_ptr", "mutable_data_ptr"}
COMPUTES_ANYWHERE = {
    "matmul", "mm", "bmm", "addmm", "addmm_", "baddbmm", "addbmm", "einsum", "softmax",
    "log_softmax", "sigmoid", "sigmoid_", "relu", "relu_", "silu", "gelu", "tanh", "exp", "exp_",
    "exp2", "log2", "rsqrt", "sqrt_", "mul_", "add_", "sub_", "div_", "copy_", "index_select",
    "index_add_", "index_copy_", "index_put_", "gather", "scatter_", "scatter_add_",
    "scatter_reduce_", "masked_fill", "masked_fill_", "masked_select", "masked_scatter_", "cumsum",
    "cumsum_", "topk", "argsort", "bincount", "float", "half", "bfloat16", "double", "to_dense",
    "repeat_interleave", "take_along_dim", "nonzero", "logsumexp", "amax", "amin", "addcmul_",
    "lerp_", "clamp_", "neg_", "tril", "triu", "type_as", "mv", "dot", "outer", "baddbmm_",
    "roll", "flip", "one_hot", "normal_", "uniform_", "random_", "where", "index_fill_", "clone",
    "__matmul__", "__rmatmul__", "__imatmul__",
}  # fmt: skip
"""Methods that nothing but a tensor (or an array) has, or that mean work on one anyway."""
DUNDERS = {
    "__add__", "__radd__", "__iadd__", "__sub__", "__rsub__", "__isub__", "__mul__", "__rmul__",
    "__imul__", "__truediv__", "__rtruediv__", "__neg__", "__pow__", "__matmul__", "__rmatmul__",
    "__imatmul__", "__and__", "__or__", "__xor__", "__setitem__",
}  # fmt: skip

# --- TileLang -----------------------------------------------------------------------------------

SOURCE_WORDS = {"import_source", "pragma_import_c", "pragma_import_llvm", "import_llvm"}
EXTERN_WORDS = {
    "call_extern", "call_pure_extern", "call_packed", "call_cpacked", "call_llvm_intrin",
    "call_llvm_pure_intrin", "call_packed_lowered", "tvm_call_packed",
}  # fmt: skip
NATIVE_WORDS = {
    "load_inline", "RawKernel", "RawModule", "SourceModule", "CDLL", "PyDLL", "LoadLibrary",
    "register_cuda_postproc", "register_cuda_postproc_callback", "register_hip_postproc",
    "register_hip_postproc_callback", "register_c_postproc", "_compile_kernel", "compile_kernel",
    "NVRTC", "nvrtc", "cuModuleLoad", "cuModuleLoadData", "load_library", "load_module",
    "register_func", "register_global_func",
}  # fmt: skip
"""Ways to bring in compiled or textual device code, or to rewrite what TileLang generates."""
NATIVE_TEXT = ("__global__", "__device__", "asm volatile", "asm(", "#include", 'extern "C"')

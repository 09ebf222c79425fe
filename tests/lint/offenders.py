"""Small kernels, each with one ban in some disguise: rule, name, source. Nobody runs them."""

from __future__ import annotations

HEAD = """
import torch
import tilelang
import tilelang.language as T
"""

DENSE = "def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):\n"
RUN = """
def run_kernel(q, q_pe, kv, k_pe, output, batch, heads, kv_heads, kv_ctx, dim, pe_dim):
"""

PROGRAM = """
def program(n):
    @T.prim_func
    def main(A: T.Tensor((n,), "float16"), B: T.Tensor((n,), "float16")):
        with T.Kernel(T.ceildiv(n, 128), threads=128) as bx:
            for i in T.Parallel(128):
                B[bx * 128 + i] = {body}
    return main

"""

OFFENDERS: dict[str, tuple[str, str]] = {
    # --- torch arithmetic -----------------------------------------------------------------------
    "torch, plainly": ("torch-arithmetic", DENSE + "    out.copy_(torch.matmul(q, kv))\n"),
    "torch by another name": (
        "torch-arithmetic",
        "import torch as helper\nmultiply = helper.bmm\n" + DENSE + "    multiply(q, kv)\n",
    ),
    "torch through getattr": (
        "torch-arithmetic",
        DENSE + "    getattr(torch, 'mat' + 'mul')(q, kv, out=out)\n",
    ),
    "torch through a star import": (
        "torch-arithmetic",
        "from torch import *\n" + DENSE + "    einsum('bhd,bsd->bhs', q, kv)\n",
    ),
    "an operator in a nested function": (
        "torch-arithmetic",
        DENSE + "    def inner(a, b):\n        return a @ b\n    inner(q, kv)\n",
    ),
    "a lambda at the top of the file": (
        "torch-arithmetic",
        "step = lambda a, b: a + b\n" + DENSE + "    step(q, q_pe)\n",
    ),
    "the operator module": (
        "torch-arithmetic",
        "import operator\n" + DENSE + "    operator.mul(q, softmax_scale)\n",
    ),
    "a method by its dunder": ("torch-arithmetic", DENSE + "    q.__matmul__(kv)\n"),
    "torch imported late, by string": (
        "torch-arithmetic",
        "import importlib\n"
        + DENSE
        + "    importlib.import_module('torch.nn.functional').softmax(q, -1)\n",
    ),
    "torch in a table of functions": (
        "torch-arithmetic",
        "OPS = {'sum': torch.sum}\n" + DENSE + "    OPS['sum'](q)\n",
    ),
    "a helper two calls away": (
        "torch-arithmetic",
        "def deep(x):\n    return x.softmax(-1)\ndef helper(x):\n    return deep(x)\n"
        + DENSE
        + "    helper(q)\n",
    ),
    "arithmetic under a decorator that only sounds like TileLang's": (
        "torch-arithmetic",
        "def macro(f):\n    return f\n@macro\ndef work(x):\n    return x @ x\n"
        + DENSE
        + "    work(q)\n",
    ),
    "arithmetic behind a grid that is never opened": (
        "torch-arithmetic",
        "def work(x):\n    if x is None:\n        with T.Kernel(1):\n            pass\n"
        "    return x @ x\n" + DENSE + "    work(q)\n",
    ),
    "work in place by assignment": ("torch-arithmetic", DENSE + "    out[:] = kv[:, 0]\n"),
    "an own autograd function": (
        "torch-arithmetic",
        "class F(torch.autograd.Function):\n    pass\n" + DENSE + "    torch.ops.aten.mm(q, kv)\n",
    ),
    # --- TileLang's back doors ------------------------------------------------------------------
    "import_source, aliased": (
        "import-source",
        "bring = T.import_source\n"
        + PROGRAM.format(body="A[bx * 128 + i]")
        + DENSE
        + "    bring('int x;')\n    program(8)\n",
    ),
    "call_extern in device code": (
        "call-extern",
        PROGRAM.format(body="T.call_extern('float16', 'mine', A[i])") + DENSE + "    program(8)\n",
    ),
    "call_extern by a renamed import": (
        "call-extern",
        "from tilelang.language import call_extern as harmless\n"
        + PROGRAM.format(body="harmless('float16', 'mine', A[i])")
        + DENSE
        + "    program(8)\n",
    ),
    "call_extern through getattr": (
        "call-extern",
        PROGRAM.format(body="getattr(T, 'call' + '_extern')('float16', 'f', A[i])")
        + DENSE
        + "    program(8)\n",
    ),
    # --- device code from elsewhere -------------------------------------------------------------
    "CUDA as text": ("raw-cuda", "CODE = '__global__ void f() {}'\n" + DENSE + "    ...\n"),
    "torch's inline compiler": (
        "raw-cuda",
        "from torch.utils.cpp_extension import load_inline as build\n" + DENSE + "    build('x')\n",
    ),
    "a shared library": ("raw-cuda", "import ctypes\n" + DENSE + "    ctypes.CDLL('libx.so')\n"),
    "a rewritten TileLang source": (
        "raw-cuda",
        "from tilelang.engine import register_cuda_postproc\n" + DENSE + "    ...\n",
    ),
    # --- addresses ------------------------------------------------------------------------------
    "data_ptr": ("data-ptr", DENSE + "    where = q.data_ptr()\n"),
    "data_ptr through getattr": ("data-ptr", DENSE + "    where = getattr(q, 'data_' + 'ptr')()\n"),
    # --- host and device ------------------------------------------------------------------------
    "a length read back": ("host-device", DENSE + "    n = int(kv[0, 0, 0, 0])\n"),
    "item": ("host-device", DENSE + "    if q.max().item() > 0: pass\n"),
    "a copy to the host": ("host-device", DENSE + "    sizes = kv.to('cpu', non_blocking=True)\n"),
    "synchronize, aliased": (
        "host-device",
        "from torch import cuda as device\n" + DENSE + "    device.synchronize()\n",
    ),
    "a table sent to the device": (
        "host-device",
        DENSE + "    where = torch.tensor([1, 2], device=q.device)\n",
    ),
    # --- results kept ---------------------------------------------------------------------------
    "a dictionary of results": (
        "cached-results",
        "SEEN = {}\n" + DENSE + "    SEEN[q.shape] = out\n",
    ),
    "a global": (
        "cached-results",
        "last = None\n" + DENSE + "    global last\n    last = torch.empty_like(out)\n",
    ),
    "a mutable default": (
        "cached-results",
        "def keep(x, into=[]):\n    into.append(x)\n" + DENSE + "    keep(q)\n",
    ),
    "an attribute of the function": ("cached-results", DENSE + "    dense.kept = out\n"),
    "lru_cache": (
        "cached-results",
        "import functools\n@functools.lru_cache\ndef work(x):\n    return x.shape\n"
        + DENSE
        + "    work(q)\n",
    ),
    "a cache under a local name": (
        "cached-results",
        "KEPT = {}\n" + DENSE + "    mine = KEPT\n    mine.setdefault(1, out)\n",
    ),
    "an identity as key": ("cached-results", DENSE + "    key = id(q)\n"),
    "a captured graph": (
        "cached-results",
        DENSE + "    graph = torch.cuda.CUDAGraph()\n    graph.replay()\n",
    ),
    # --- sizes of test cases --------------------------------------------------------------------
    "a length compared": ("test-case-shape", RUN + "    if kv_ctx == 65536: pass\n"),
    "a length in disguise": ("test-case-shape", RUN + "    if 1 << 16 == kv.shape[1]: pass\n"),
    "a table of cases": (
        "test-case-shape",
        "BEST = {(1, 2048): 8, (32, 65536): 4}\n" + RUN + "    BEST.get((batch, kv_ctx))\n",
    ),
    "a schedule for one length": (
        "test-case-shape",
        "TABLE = [{'when': {'kv_ctx': 65536}, 'use': 4}]\n" + RUN + "    TABLE[0]\n",
    ),
    "a match on a length": (
        "test-case-shape",
        RUN + "    match kv_ctx:\n        case 8192:\n            pass\n",
    ),
    "a list of lengths": (
        "test-case-shape",
        "LONG = (32768, 65536)\n" + RUN + "    fast = kv_ctx in LONG\n",
    ),
    # --- other libraries and unseen code --------------------------------------------------------
    "triton": ("other-library", "import triton.language as tl\n" + DENSE + "    ...\n"),
    "a library imported in the call": (
        "other-library",
        DENSE + "    from flash_mla import flash_mla_with_kvcache as go\n    go(q)\n",
    ),
    "a library by string": ("other-library", DENSE + "    __import__('cu' + 'py').dot(q, kv)\n"),
    "exec": ("unseen-code", DENSE + "    exec('import torch')\n"),
    "a name made while running": (
        "unseen-code",
        "import sys\n" + DENSE + "    getattr(torch, sys.argv[0])(q)\n",
    ),
    # --- a second set, written before the lint had seen any of it ---------------------------------
    "method of a class": (
        "torch-arithmetic",
        "class M:\n    def go(self, x):\n        return x.tan()\n" + DENSE + "    M().go(q)\n",
    ),
    "reduce": (
        "torch-arithmetic",
        "import functools\n" + DENSE + "    functools.reduce(torch.add, [q, q_pe])\n",
    ),
    "comprehension": ("torch-arithmetic", DENSE + "    [a.mul(2) for a in (q, kv)]\n"),
    "walrus": ("torch-arithmetic", DENSE + "    (m := torch.matmul)(q, kv)\n"),
    "loop over functions": (
        "torch-arithmetic",
        DENSE + "    for f in [torch.exp]:\n        f(q)\n",
    ),
    "in place random": ("torch-arithmetic", DENSE + "    torch.empty_like(q).normal_()\n"),
    "vars": ("torch-arithmetic", DENSE + "    vars(torch)['mm'](q, kv)\n"),
    "default argument": (
        "torch-arithmetic",
        "def helper(x, op=torch.mm):\n    op(x, x)\n" + DENSE + "    helper(q)\n",
    ),
    "partial": (
        "torch-arithmetic",
        "from functools import partial\nmm = partial(torch.mm)\n" + DENSE + "    mm(q, kv)\n",
    ),
    "map": ("torch-arithmetic", DENSE + "    list(map(torch.exp, [q]))\n"),
    "augmented": ("torch-arithmetic", DENSE + "    out += q\n"),
    "submodule alias": (
        "host-device",
        "import torch.cuda as c\n" + DENSE + "    c.synchronize()\n",
    ),
    "part to cpu": ("host-device", DENSE + "    kv[..., 0].cpu()\n"),
    "callable instance keeps": (
        "cached-results",
        "class K:\n    def __init__(self):\n        self.c = {}\n"
        "    def __call__(self, x):\n        self.c[1] = x\nk = K()\n" + DENSE + "    k(q)\n",
    ),
    "nonlocal": (
        "cached-results",
        "def make():\n    kept = None\n    def run(x):\n        nonlocal kept\n        kept = x\n"
        "    return run\nrun = make()\n" + DENSE + "    run(q)\n",
    ),
    "conditional alias": (
        "torch-arithmetic",
        "mm = torch.mm if True else None\n" + DENSE + "    mm(q, kv)\n",
    ),
    "try import": (
        "other-library",
        "try:\n    import triton\nexcept ImportError:\n    triton = None\n" + DENSE + "    ...\n",
    ),
    "sys.modules": (
        "torch-arithmetic",
        "import sys\n" + DENSE + "    sys.modules['torch'].mm(q, kv)\n",
    ),
    "T alias assigned": (
        "call-extern",
        "L = tilelang.language\nf = getattr(L, 'call_extern')\n"
        + PROGRAM.format(body="f('float16', 'x', A[i])")
        + DENSE
        + "    program(8)\n",
    ),
    "shape tuple eq": (
        "test-case-shape",
        DENSE + "    if tuple(kv.shape) == (1, 2048, 1, 512): pass\n",
    ),
    "batch and length": ("test-case-shape", RUN + "    if (batch, kv_ctx) == (8, 16384): pass\n"),
    "class attribute cache": (
        "cached-results",
        "class C:\n    kept = {}\n" + DENSE + "    C.kept[0] = out\n",
    ),
    "methodcaller": (
        "torch-arithmetic",
        "import operator\n" + DENSE + "    operator.methodcaller('tan')(q)\n",
    ),
    "if tensor": ("host-device", DENSE + "    if kv[0, 0, 0, 0] > 0: pass\n"),
}

HONEST: dict[str, str] = {
    "views and allocation": DENSE + """
    batch, heads, dim = q.shape
    part = q.new_empty((batch, 4, heads, dim + 4), dtype=torch.float32)
    lse = torch.empty((batch, heads), dtype=torch.float32, device=q.device)
    rows = kv.squeeze(2).view(batch, -1, dim)
    splits = -(-kv.shape[1] // 64) * 2 + 1
""",
    "programs kept by shape": "import functools\n@functools.lru_cache\ndef compiled(heads, dim):\n"
    "    return heads * dim\nPLANS = {}\n" + DENSE + """
    key = (q.shape, q.dtype)
    plan = PLANS.get(key)
    if plan is None:
        plan = PLANS[key] = compiled(q.shape[1], q.shape[2])
""",
    "a reference that no call reaches": DENSE + "    ...\n" + """
def reference(q, kv):
    return torch.softmax(q @ kv, -1)

if __name__ == "__main__":
    torch.manual_seed(0)
    print(reference(torch.randn(4, 4), torch.randn(4, 4)).sum().item())
""",
    "thresholds and head sizes": RUN + """
    tile = 128 if kv_ctx >= 65536 else 64
    if dim != 512 or pe_dim not in (0, 64):
        raise NotImplementedError(f"{dim} + {pe_dim}")
    split = {"block_n": 64, "threads": 256}
""",
    "device code with TileLang's own functions": PROGRAM.format(
        body="T.exp2(A[bx * 128 + i]) * A[bx * 128 + i] + T.cast(1, 'float16')"
    ) + DENSE + "    tilelang.compile(program(8))(q.flatten(), out.flatten())\n",
    "a kernel without a prim_func around it": """
@tilelang.jit
def scale(A, B, factor: float, block: int = 128):
    n = T.const("n")
    A: T.Tensor[[n], T.float16]
    B: T.Tensor[[n], T.float16]
    with T.Kernel(T.ceildiv(n, block), threads=block) as bx:
        for i in T.Parallel(block):
            B[bx * block + i] = A[bx * block + i] * factor
""" + DENSE + "    scale(q.flatten(), out.flatten(), softmax_scale)\n",
    "a jitted function that returns its program": """
KERNELS = {}

@tilelang.jit(out_idx=None)
def build(heads, dim):
    @T.prim_func
    def main(A: T.Tensor((heads, dim), "float16"), B: T.Tensor((heads, dim), "float16")):
        with T.Kernel(heads, threads=128) as bx:
            for i in T.Parallel(dim):
                B[bx, i] = A[bx, i] + A[bx, i]
    return main

""" + RUN + """
    key = (heads, dim, str(q.dtype))
    if key not in KERNELS:
        KERNELS[key] = build(int(heads), int(dim))
    kernel = KERNELS[key]
    for b in range(int(batch)):
        kernel(q[b], output[b])
""",
    "a word of a ban in a description": '"""Uses neither T.call_extern nor __global__ code."""\n'
    + DENSE + '    """Never data_ptr."""\n',
}  # fmt: skip

"""Kernels that deceive, by accident or not, each in one known way; in plain torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mxbench.kernel import Kernel
from mxbench.verdict import Status

from ..sandbox import GOOD

_FRAME = """
import ctypes, threading, time
import torch

CALLS, CACHE = [], {}
%(good)s

%(before)s

def dense(q, q_pe, kv, k_pe, out, *, softmax_scale):
    def work():
        attend(q, q_pe, kv, k_pe, out, softmax_scale)
    CALLS.append(1)
%(body)s
"""


@dataclass(frozen=True)
class Trick:
    """A kernel's body, what must come of it, and where it exists."""

    body: str
    words: str
    """In the reason; alternatives, where it is a matter of time, are parted by ` | `."""
    before: str = ""
    """Module-level code."""
    timed: bool = False
    """Whether it only shows when the case is timed."""
    gpu: bool = False
    """Whether it only exists on a GPU."""
    status: Status = Status.INTEGRITY
    mode: Literal["eager", "graph"] = "eager"
    """Of the timing that shows it."""

    def kernel(self, folder: Path, name: str) -> Kernel:
        """The kernel, written to kernels/mla of a workspace."""
        path = folder / "kernels" / "mla" / f"trick_{name}.py"
        body = "".join(f"    {line}\n" for line in self.body.strip("\n").splitlines())
        path.write_text(_FRAME % {"good": GOOD, "before": self.before, "body": body})
        return Kernel("mla", path.stem, path)


_CACHED = """
if key not in CACHE:
    time.sleep(0.005)  # so much work
    work()
    CACHE[key] = out.clone()
out.copy_(CACHE[key])
"""
_LAZY = """
class Lazy(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return super().__torch_function__(function, types, args, kwargs or {})
"""
_STREAM = "SIDE = torch.cuda.Stream()"
_DRIVER = 'DRIVER = ctypes.CDLL("libcuda.so.1")'

TRICKS = {
    "cached by identity": Trick(
        "key = kv.data_ptr(), q.data_ptr()" + _CACHED, "cached by the identity of the inputs"
    ),
    "cached by content": Trick(
        "key = tuple(float(x.double().sum()) for x in (q, q_pe, kv, k_pe))" + _CACHED,
        "cached across calls by content",
        timed=True,
    ),
    "cached by version": Trick(
        "key = kv.data_ptr(), kv._version, q._version, q_pe._version, k_pe._version" + _CACHED,
        "cached across calls by content",
        timed=True,
    ),
    "work in a thread": Trick(
        "threading.Thread(target=lambda: (time.sleep(0.1), work()), name='later').start()",
        "after the call had returned: the work goes on in the thread later",
    ),
    "output aliases an input": Trick("work()\nout.set_(q)", "it aliases the input q"),
    "lazy output": Trick(
        "out.__class__ = Lazy", "became a lazy tensor: its class is now Lazy", before=_LAZY
    ),
    "output with methods of its own": Trick(
        "work()\nout.clone = lambda: out", "became a lazy tensor: it has clone of its own"
    ),
    "patched clock": Trick(
        "work()\ntime.perf_counter = lambda: 0.0", "time.perf_counter was replaced by <lambda>"
    ),
    "patched clock on import": Trick(
        "work()",
        "importing it changed what judges it: time.perf_counter was replaced by slow_clock",
        before="def slow_clock(now=time.perf_counter): return now() / 2\n"
        "time.perf_counter = slow_clock",
    ),
    "patched event": Trick(
        "work()",
        "Event.elapsed_time was replaced by <lambda>",
        before="torch.cuda.Event.elapsed_time = lambda self, other: 1e-3",
    ),
    "patched torch function": Trick(
        "work()\ntorch.Tensor.isfinite = lambda x: torch.ones_like(x, dtype=torch.bool)",
        "torch.Tensor.isfinite was replaced",
    ),
    "patched judge": Trick(
        "work()\nimport mxbench.compare as c\nc.judge = lambda *a, **k: None",
        "mxbench.compare.judge was replaced",
    ),
    "setting left behind": Trick(
        "work()\ntorch.set_default_dtype(torch.float64)",
        "torch's default dtype was left at torch.float64",
    ),
    "function mode left behind": Trick(
        "work()\ntorch.set_default_device('cpu')", "torch function modes was left at"
    ),
    "right in the first call only": Trick(
        "if len(CALLS) == 1: work()",
        "a second call, on other numbers in the same tensors, wrote nothing",
    ),
    "skips timed calls": Trick(
        "if len(CALLS) < 4: work()", "right when it was judged, wrong in timed call", timed=True
    ),
    "wrong in timed calls": Trick(
        "work()\nif len(CALLS) > 3: out.mul_(1.5)", "wrong in timed call", timed=True
    ),
    "input changed in a timed call": Trick(
        "if len(CALLS) > 4: kv[0, 0] = 1 + kv[0, 0]\nwork()",
        "wrote to its input kv in a timed call",
        timed=True,
        status=Status.INPUT_MUTATED,
    ),
    "work on a stream that does not wait": Trick(
        "with torch.cuda.stream(SIDE): work()",
        "wrote nothing | changed after the call had returned",
        before=_STREAM,
        gpu=True,
    ),
    "work on a stream not waited for": Trick(
        "SIDE.wait_stream(torch.cuda.current_stream())\n"
        "with torch.cuda.stream(SIDE):\n    torch.cuda._sleep(20_000_000)\n    work()",
        "the work goes on in another stream or thread",
        before=_STREAM,
        gpu=True,
    ),
    "another current stream": Trick(
        "work()\ntorch.cuda.synchronize()\ntorch.cuda.set_stream(SIDE)",
        "the current stream was left at",
        before=_STREAM,
        gpu=True,
    ),
    "persisting L2 left behind": Trick(
        "work()\nassert DRIVER.cuCtxSetLimit(6, ctypes.c_size_t(4 << 20)) == 0",
        "the L2 set aside for persisting accesses (bytes) was left at",
        before=_DRIVER,
        gpu=True,
    ),
    "nothing captured": Trick(
        "if not torch.cuda.is_current_stream_capturing(): work()",
        "wrong in replays of a CUDA graph",
        timed=True,
        gpu=True,
        mode="graph",
    ),
}

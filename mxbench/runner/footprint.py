"""What a TileLang program will need of a block's memory, read off its IR before compiling."""

from __future__ import annotations

import math
import re
from typing import Any

from tilelang import tvm

from ..tuning.fit import Footprint

SHARED, FRAGMENTS = ("shared", "shared.dyn"), ("local.fragment",)
SERIAL = 0  # tir.ForKind: iterations in time; others are threads or vector lanes side by side
REGISTER_BYTES = 4
NO_REUSE = "tl.disable_shared_memory_reuse"


def footprint(function: Any, pass_configs: dict[str, Any]) -> Footprint:
    """Lower bounds of what `function`, a prim_func as its builder returns it, needs of a block.

    What an innermost or a pipelined loop reads and writes lives at the same time; a buffer that a
    pipelined one fills from global memory is there once for each stage. Between loops TileLang may
    lay buffers over each other, so the largest loop counts, not the sum.
    """
    buffers: dict[str, Any] = {}
    loops: list[Any] = []
    threads = 1
    for node in _nodes(function.body):
        buffers |= {b.name: b for b in getattr(node, "alloc_buffers", ())}
        launched = (getattr(node, "annotations", None) or {}).get("tl.launch_threads")
        if launched is not None:
            threads = math.prod(int(n) for n in launched)
        if _is_serial(node) and (_stages(node) or not any(map(_is_serial, _nodes(node.body)))):
            loops.append(node)
    shared = max((_live(buffers, loop, SHARED) for loop in loops), default=0)
    if pass_configs.get(NO_REUSE):
        shared = sum(_size(b) for b in buffers.values() if b.scope() in SHARED)
    fragments = max((_live(buffers, loop, FRAGMENTS) for loop in loops), default=0)
    # Spread over the threads at best; rows that every thread keeps a copy of come on top.
    registers = fragments // REGISTER_BYTES // threads
    return Footprint(shared_bytes=shared, threads=threads, thread_registers=registers)


def _nodes(body: Any) -> list[Any]:
    tir = getattr(tvm, "tirx", None) or tvm.tir  # its name in newer and in older TileLang
    found: list[Any] = []
    tir.stmt_functor.post_order_visit(body, found.append)
    return found


def _is_serial(node: Any) -> bool:
    return type(node).__name__ == "For" and int(node.kind) == SERIAL


def _stages(loop: Any) -> int:
    """Stages of a pipelined loop; 0 if it is none."""
    return int((loop.annotations or {}).get("num_stages", 0))


def _live(buffers: dict[str, Any], loop: Any, scopes: tuple[str, ...]) -> int:
    """Bytes of the buffers of these scopes that a loop touches, stages counted."""
    nodes = _nodes(loop.body)
    names = {node.buffer.name for node in nodes if hasattr(node, "buffer")} & set(buffers)
    stages = max(1, _stages(loop))
    filled = _filled(nodes) if stages > 1 else set()
    return sum(
        _size(buffers[name]) * (stages if name in filled else 1)
        for name in names
        if buffers[name].scope() in scopes
    )


def _filled(nodes: list[Any]) -> set[str]:
    """Buffers that a copy brings global memory into."""
    found = set()
    for node in nodes:
        if type(node).__name__ == "Call" and getattr(node.op, "name", "").endswith("copy"):
            source, target = (_buffer(argument) for argument in list(node.args)[:2])
            if source is not None and target is not None and source.scope() == "global":
                found.add(target.name)
    return found


def _buffer(region: Any) -> Any:
    """The buffer of a copy's side, whichever way this TileLang wraps it; None if unknown."""
    for _ in range(3):
        if hasattr(region, "buffer"):
            return region.buffer
        inner = list(getattr(region, "args", ()))
        if not inner:
            return None
        region = inner[0]
    return None


def _size(buffer: Any) -> int:
    found = re.search(r"\d+", str(buffer.dtype))
    bits = int(found.group()) if found else 8
    return math.prod(int(n) for n in buffer.shape) * max(1, bits // 8)

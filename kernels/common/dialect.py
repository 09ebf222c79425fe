"""One kernel body for every target: all that a kernel imports of it.

A portable kernel is a *program*: a function that takes a `Dialect` and static sizes and returns a
TileLang `prim_func`. The dialect supplies the few words that differ between a GPU (`cuda`, `maca`,
and `hip` for lowering tests) and a CPU: `words.py`. What programs are compiled for is in
`target.py`, how they are compiled and launched in `program.py`, and what a kernel module keeps
between calls in `memo.py`.

`Program.get(**static)` compiles once per static shape and target; batch, tokens and sequence
lengths stay dynamic (`T.dynamic`), so a new batch size never compiles again.
"""

from .memo import forget, memo, remember, trial
from .program import (
    BY_ALL,
    BY_ROLE,
    Lowered,
    Program,
    collect,
    compile_only,
    compiled_count,
    program,
)
from .target import CPU, MACA, SM80, SM90, WAVE64, Target, current, use
from .words import Dialect

__all__ = [
    "BY_ALL",
    "BY_ROLE",
    "CPU",
    "MACA",
    "SM80",
    "SM90",
    "WAVE64",
    "Dialect",
    "Lowered",
    "Program",
    "Target",
    "collect",
    "compile_only",
    "compiled_count",
    "current",
    "forget",
    "memo",
    "program",
    "remember",
    "trial",
    "use",
]

"""What the fork server imports once, so that every worker then starts in milliseconds."""

from __future__ import annotations

import contextlib
import gc
import importlib

MODULES = [
    "torch",
    "tilelang",
    "tilelang.language",
    "mxbench.runner.worker",
    "mxbench.runner.judging",
    "mxbench.runner.ahead",
]

gc.disable()  # imports leave no garbage, and looking for it takes a sixth of their time
for _name in MODULES:
    with contextlib.suppress(ImportError):  # a worker that needs it will say what is missing
        importlib.import_module(_name)
gc.freeze()  # nor need the workers look through all of it
gc.enable()

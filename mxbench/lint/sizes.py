"""The sizes by which the contest's test cases differ: what a kernel must not know."""

from __future__ import annotations

import msgspec

from ..case import load_suite, suite_names
from ..ops import OPERATORS
from ..workspace import Workspace

SUITES = ("functional", "performance", "judge")
VARIED = {
    "moe": ("group_sum", "seqlen", "d_hidden", "d_expert", "n_experts", "batch"),
    "mla": ("kv_ctx", "batch"),
    "nsa": ("seqlen", "batch"),
}
"""Parameters that say which case a call is, rather than what the operator is."""


def case_sizes(workspace: Workspace, op: str = "") -> frozenset[int]:
    """Those of operator `op`; of all if it is none of them."""
    found: set[int] = set()
    for name in [op] if op in VARIED else list(OPERATORS):
        for suite in set(SUITES) & set(suite_names(workspace, name)):
            for case in load_suite(workspace, name, suite).cases:
                params = msgspec.to_builtins(case.params)
                values = (params.get(key) for key in VARIED[name])
                found |= {value for value in values if isinstance(value, int)}
    return frozenset(found)

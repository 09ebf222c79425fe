"""Our own problem folders: the judge's lists, and verdicts that know the operator."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from mxbench import workspace
from mxbench.case import load_suite
from mxbench.publicjudge import folder
from mxbench.publicjudge.signature import recognise
from mxbench.verdict import Status

HERE = workspace.bundled()

# A case that a CPU does in no time, for each problem: its line of TESTCASES.
SMALL = {
    "moe": "TESTCASES = [(8, 128, 128, 200, 1, 2)]\n",
    "mla": "TESTCASES = [(2, 70)]\n",
    "nsa": "TESTCASES = [(2, 75, 2, 32, 64, 4, 16, 1, 1, 2)]\n",
}
RIGHT = {
    "moe": """
def run_kernel(tokens, gate, up, down, weights, sizes, offsets, padded, blocks, out):
    out.zero_()
    for e, size in enumerate(sizes.tolist()):
        first, start = int(offsets[e]), int(padded[e])
        x = tokens[start : start + size].float()
        inner = torch.nn.functional.silu(x @ gate[e].float().T) * (x @ up[e].float().T)
        y = inner @ down[e].float().T * weights[first : first + size, None].float()
        out[start : start + size] = y
""",
    "mla": """
def run_kernel(q, q_pe, kv, k_pe, output, batch, heads, kv_heads, kv_ctx, dim, pe_dim):
    query = torch.cat([q, q_pe], -1).float()
    key = torch.cat([kv, k_pe], -1)[:, :, 0].float()
    weights = (query @ key.mT * (dim + pe_dim) ** -0.5).softmax(-1)
    output.copy_(weights @ kv[:, :, 0].float())
""",
    "nsa": """
def run_kernel(q, k, v, blocks, output, B, L, H, HQ, D, S, block_size, causal):
    heads = torch.arange(HQ) // (HQ // H)
    for b in range(B):
        for t in range(L):
            for h in range(H):
                starts = [i * block_size for i in blocks[b, t, h].tolist()]
                keys = [n for s in starts for n in range(s, s + block_size) if n < L and n <= t]
                scores = q[b, t, heads == h].float() @ k[b, keys, h].float().T * D**-0.5
                output[b, t, heads == h] = (scores.softmax(-1) @ v[b, keys, h].float()).half()
""",
}


def small(op: str, where: Path) -> folder.ProblemFolder:
    """Our problem of an operator with its small case alone."""
    path = shutil.copytree(HERE.cases / "problems" / op, where / op)
    config = path / "testcase_config.py"
    before, _, rest = config.read_text().partition("TESTCASES = [")
    config.write_text(before + SMALL[op] + rest.partition("\n]\n")[2])
    return folder.find(HERE, str(path))


@pytest.mark.parametrize("op", ["moe", "mla", "nsa"])
def test_our_problems_have_the_judge_s_cases_and_counts(driver, op):
    opened = driver.open(folder.find(HERE, op), None)
    suite = [
        c for c in load_suite(HERE, op, "judge").cases if c.name.endswith("padded") or op != "moe"
    ]
    assert len(opened.cases) == len(suite)
    for case, ours in zip(opened.cases, suite, strict=True):
        known = recognise(case.shapes)
        assert known is not None and known.signature.op == op
        params = msgspec.to_builtins(ours.params)
        assert {name: params[name] for name in known.params} == known.params
        assert (case.warmup, case.repeat) == (ours.timing.warmup, ours.timing.repeat)


@pytest.mark.parametrize("op", ["moe", "mla", "nsa"])
def test_a_known_operator_gets_a_strict_verdict(driver, submission, tmp_path, op):
    problem = small(op, tmp_path)
    mine = submission("import torch\n" + RIGHT[op])
    driver.open(problem, mine)
    outcome = driver.run(problem, mine, 1, budget=2.0, timed=True)
    assert (outcome.status, outcome.strict) == (Status.PASSED, Status.PASSED), outcome.reason
    assert outcome.known.op == op and outcome.notes == []
    assert outcome.timing.repeat >= 1 and outcome.errors.rms_ratio < 1e-3


def test_zeros_pass_the_judge_s_moe_and_fail_strictly(driver, submission, tmp_path):
    mine = submission("def run_kernel(*args):\n    args[-1].zero_()\n")
    outcome = driver.run(small("moe", tmp_path), mine, 1, budget=2.0, timed=False)
    assert (outcome.status, outcome.strict) == (Status.PASSED, Status.MISMATCH)
    assert "rms error 100.00%" in outcome.reason


def test_a_result_kept_by_address_is_found_out(driver, submission, tmp_path):
    keeping = (
        RIGHT["mla"].replace("def run_kernel", "def compute")
        + """
KEPT = {}

def run_kernel(*args):
    key = args[0].data_ptr()
    if key not in KEPT:
        compute(*args)
        KEPT[key] = args[4].clone()
    args[4].copy_(KEPT[key])
"""
    )
    mine = submission("import torch\n" + keeping)
    outcome = driver.run(small("mla", tmp_path), mine, 1, budget=2.0, timed=True)
    assert outcome.status is Status.MISMATCH
    assert "the same tensors hold other numbers" in outcome.reason


def test_another_operator_of_the_same_shapes_gets_no_strict_verdict(driver, submission, tmp_path):
    problem = small("mla", tmp_path)
    config = problem.path / "testcase_config.py"
    config.write_text(config.read_text().replace("(dim + pe_dim) ** -0.5", "dim ** -0.5 * 40"))
    mine = submission(
        "import torch\n" + RIGHT["mla"].replace("(dim + pe_dim) ** -0.5", "dim ** -0.5 * 40")
    )
    outcome = driver.run(problem, mine, 1, budget=2.0, timed=False)
    assert outcome.status is Status.PASSED and outcome.strict is None and outcome.known is None
    assert "baseline is not mxbench's golden" in outcome.notes[0]

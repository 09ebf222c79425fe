"""C = A B^T in bf16, as somebody who never heard of mxbench would write it for the judge."""

from __future__ import annotations

TESTCASES = [(64, 48, 80, 3, 20), (33, 65, 17, 1, 5)]


def getNumOfTestcases() -> int:
    return len(TESTCASES)


try:
    import sys

    import torch

    def _index() -> int:
        try:
            chosen = int(input().split()[0])
        except (EOFError, ValueError, IndexError):
            return 0
        return chosen - 1 if 1 <= chosen <= len(TESTCASES) else 0

    def getTestCaseSize():
        m, n, k, warmup, iters = TESTCASES[_index()]
        return [(m, k), (n, k), (m, n), (), (), ()], (warmup, iters)

    def genTestCase(testcase_sizes, device: str = "cuda"):
        (m, k), (n, _) = testcase_sizes[:2]
        a, b = (
            torch.randn(shape, dtype=torch.bfloat16, device=device) for shape in testcase_sizes[:2]
        )
        return [a, b, torch.zeros(m, n, dtype=torch.bfloat16, device=device), m, n, k]

    def baseline(*inputs):
        a, b, c, *_ = inputs
        c.copy_(a.float() @ b.float().T)
        return inputs

    def check(sizes, originals, mine, theirs, rtol=1e-2, atol=1e-2):
        for i in (0, 1):
            if not torch.equal(mine[i], originals[i]):
                print(f"argument {i} changed")
                return False
        off = (mine[2].float() - theirs[2].float()).abs()
        if torch.allclose(mine[2].float(), theirs[2].float(), rtol=rtol, atol=atol):
            return True
        print(f"[FAIL] max_abs_diff={off.max():.4f}", file=sys.stderr)
        return False
except:  # noqa: E722  # the judge's own problems are written so
    pass

INPUT_CLASS = ["INPUT", "INPUT", "OUTPUT", "INPUT", "INPUT", "INPUT"]


def getWorkload(testcase_sizes) -> dict:
    (m, k), (n, _) = testcase_sizes[:2]
    return {"flops": 2 * m * n * k, "memory_bytes": 2 * (m * k + n * k + m * n), "dtype": "bf16"}


DESIGNED_VRAM_SIZE = 48

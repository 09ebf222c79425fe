"""Attention to selected blocks of keys, in the public judge's layout.

run_kernel(q, k, v, block_indices, output, B, seq_len, H, HQ, D, S, block_size, is_causal)

Each token of q [B, L, HQ, D] attends to the S blocks of k and v [B, L, H, D] that block_indices
[B, L, H, S] names for it and its KV head; an index at or past the end, such as L, names none.
The scale is D ** -0.5. Shapes, seeds, blocks, input scale, tolerance and counts are the public
judge's: a token takes the S blocks before its own, the first ones their own block 0.
"""

import torch

SCALE = 0.125  # of all inputs
SEED = 20250301

# (batch, length, KV heads, heads, head size, blocks, block size, causal, warm-ups, iterations)
TESTCASES = [
    (1, 64, 1, 16, 32, 1, 16, 1, 2, 10),
    (1, 128, 1, 16, 64, 1, 16, 1, 2, 10),
    (1, 256, 1, 16, 128, 1, 16, 1, 1, 6),
    (2, 512, 1, 16, 64, 1, 16, 1, 1, 5),
    (4, 1024, 1, 16, 64, 1, 16, 1, 0, 2),
    (8, 1024, 1, 16, 128, 1, 32, 1, 0, 1),
    (1, 4096, 1, 16, 64, 1, 16, 1, 0, 1),
    (2, 4096, 1, 16, 64, 1, 16, 1, 0, 1),
    (1, 8192, 1, 16, 64, 1, 16, 1, 0, 1),
    (1, 256, 1, 16, 64, 2, 16, 1, 1, 5),
    (2, 512, 1, 16, 64, 4, 16, 1, 0, 2),
    (4, 1024, 1, 16, 64, 8, 16, 1, 0, 1),
    (1, 256, 2, 32, 64, 1, 16, 1, 1, 5),
    (2, 512, 2, 32, 64, 1, 16, 1, 0, 2),
]

INPUT_CLASS = ["INPUT"] * 4 + ["OUTPUT"] + ["INPUT"] * 8
DESIGNED_VRAM_SIZE = 48  # GB

_case = 0


def getNumOfTestcases():
    return len(TESTCASES)


def getTestCaseSize():
    """The shape of every argument, and (warm-ups, iterations). Reads the case's number, from 1."""
    global _case
    number = int(input())
    if not 1 <= number <= len(TESTCASES):
        raise ValueError(f"there is no case {number}")
    _case = number
    batch, length, kv_heads, heads, dim, blocks, _, _, warmup, iterations = TESTCASES[number - 1]
    queries, keys = (batch, length, heads, dim), (batch, length, kv_heads, dim)
    shapes = [queries, keys, keys, (batch, length, kv_heads, blocks), queries]
    return shapes + [()] * 8, (warmup, iterations)


def genTestCase(testcase_sizes, device="cuda"):
    source = torch.Generator(device).manual_seed(SEED + _case - 1)
    half = {"dtype": torch.float16, "device": device}
    tensors = [
        torch.randn(shape, generator=source, **half).mul_(SCALE) for shape in testcase_sizes[:3]
    ]
    scalars = TESTCASES[_case - 1][:8]
    chosen = _blocks(testcase_sizes[3], scalars[6]).to(device)
    return [*tensors, chosen, torch.empty(testcase_sizes[4], **half), *scalars]


def _blocks(shape, block_size):
    """The blocks before a token's own, oldest first; for tokens of the first block that one."""
    batch, length, kv_heads, count = shape
    own = torch.arange(length) // block_size
    first = (own - count).clamp(min=0)[:, None]
    found = first + torch.arange(count)
    found = torch.where(found < own[:, None].clamp(min=1), found, length)  # length: no block
    return found.to(torch.int32)[None, :, None].expand(batch, length, kv_heads, count).contiguous()


def baseline(*arguments):
    q, k, v, chosen, output, _, length, kv_heads, heads, dim, _, block_size, causal = arguments
    group = heads // kv_heads
    position = torch.arange(length, device=q.device)[:, None]
    for b in range(q.shape[0]):
        for h in range(kv_heads):
            starts = chosen[b, :, h].long() * block_size  # [L, S]
            keys = (starts[..., None] + torch.arange(block_size, device=q.device)).flatten(1)
            seen = (keys >= 0) & (keys < length)
            if causal:
                seen &= keys <= position
            near = keys.clamp(0, length - 1)
            mine = slice(h * group, (h + 1) * group)
            scores = q[b, :, mine].float() @ k[b, near, h].float().transpose(1, 2) * dim**-0.5
            scores.masked_fill_(~seen[:, None], -torch.inf)
            weights = torch.softmax(scores, -1).nan_to_num(0)  # a token that sees nothing
            output[b, :, mine] = weights @ v[b, near, h].float()
    return list(arguments)


def check(
    testcase_sizes,
    original_input_tensors,
    target_kernel_input_tensors,
    baseline_input_tensors,
    rtol=0.01,
    atol=0.01,
):
    out, wanted = target_kernel_input_tensors[4], baseline_input_tensors[4]
    if torch.allclose(out.float(), wanted.float(), rtol=rtol, atol=atol):
        return True
    print(f"output is off by up to {(out.float() - wanted.float()).abs().max().item():.4g}")
    return False


def getWorkload(testcase_sizes):
    (batch, length, heads, dim), (_, _, kv_heads, _), _, (_, _, _, count) = testcase_sizes[:4]
    block_size = TESTCASES[_case - 1][6]
    tokens = batch * length
    return {
        "flops": 4 * tokens * heads * count * block_size * dim,
        "memory_bytes": 2 * tokens * dim * 2 * (heads + kv_heads) + 4 * tokens * kv_heads * count,
        "dtype": "fp16",
    }

"""The routed experts of a mixture of experts, in the public judge's layout.

run_kernel(tokens, gate_w, up_w, down_w, route_w, group_sizes, group_offsets,
           group_padded_offsets, group_idx_for_bx, out)

Rows stand expert by expert, each expert's from its padded offset on; rows in between are padding:
their tokens say nothing, and out must be 0 there. Shapes, counts and tolerance are the public
judge's. Its seeds and its split of rows over experts are not published; here every row draws
its expert.
"""

import math

import torch
import torch.nn.functional as F

BLOCK = 128  # rows of an entry of group_idx_for_bx
SEED = 81394

# (experts, hidden, expert width, rows in all, warm-ups, iterations)
TESTCASES = [
    (16, 2048, 8192, 2272, 5, 30),
    (32, 7168, 2048, 4544, 5, 20),
    (64, 7168, 2048, 9088, 5, 20),
]

INPUT_CLASS = ["INPUT"] * 9 + ["OUTPUT"]
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
    experts, hidden, width, rows, warmup, iterations = TESTCASES[number - 1]
    padded = sum(_padded(size) for size in _split(number))
    blocks = math.ceil(rows / BLOCK) + experts
    wide, tall = (experts, width, hidden), (experts, hidden, width)
    tables = [(experts,)] * 3 + [(blocks,)]
    shapes = [(padded, hidden), wide, wide, tall, (rows,), *tables, (padded, hidden)]
    return shapes, (warmup, iterations)


def _split(number):
    """Rows of each expert, the same on every device."""
    experts, _, _, rows, _, _ = TESTCASES[number - 1]
    source = torch.Generator().manual_seed(SEED + number)
    drawn = torch.randint(experts, (rows,), generator=source)
    return drawn.bincount(minlength=experts).tolist()


def _padded(size):
    """Rows set aside for an expert: whole blocks, and one more where the last would be full."""
    return math.ceil((size + 1) / BLOCK) * BLOCK


def genTestCase(testcase_sizes, device="cuda"):
    (_, hidden), (_, width, _), _, down, (rows,) = testcase_sizes[:5]
    source = torch.Generator(device).manual_seed(SEED)

    def draw(shape, scale):
        return torch.randn(shape, generator=source, device=device).mul_(scale).half()

    tokens = draw(testcase_sizes[0], 0.02)
    gate, up = (draw(testcase_sizes[1], width**-0.5) for _ in range(2))
    weights = torch.rand(rows, generator=source, device=device).half()
    tables = [table.to(device, torch.int32) for table in _tables(testcase_sizes)]
    out = torch.empty(testcase_sizes[9], dtype=torch.float16, device=device)
    return [tokens, gate, up, draw(down, hidden**-0.5), weights, *tables, out]


def _tables(testcase_sizes):
    sizes = torch.tensor(_split(_case))
    padded = torch.tensor([_padded(size) for size in sizes.tolist()])
    owner = torch.repeat_interleave(torch.arange(len(sizes)), padded // BLOCK)
    blocks = torch.full(testcase_sizes[8], len(sizes) - 1)
    blocks[: len(owner)] = owner
    return sizes, sizes.cumsum(0) - sizes, padded.cumsum(0) - padded, blocks


def baseline(*arguments):
    tokens, gate, up, down, weights, sizes, offsets, padded_offsets, _, out = arguments
    out.zero_()
    for e, size in enumerate(sizes.tolist()):
        first, start = int(offsets[e]), int(padded_offsets[e])
        x = tokens[start : start + size].float()
        inner = F.silu(x @ gate[e].float().T) * (x @ up[e].float().T)
        weight = weights[first : first + size].float()
        out[start : start + size] = (inner @ down[e].float().T) * weight[:, None]
    return list(arguments)


def check(
    testcase_sizes,
    original_input_tensors,
    target_kernel_input_tensors,
    baseline_input_tensors,
    rtol=0.05,
    atol=0.05,
):
    out, wanted = target_kernel_input_tensors[9], baseline_input_tensors[9]
    if torch.allclose(out.float(), wanted.float(), rtol=rtol, atol=atol):
        return True
    print(f"out is off by up to {(out.float() - wanted.float()).abs().max().item():.4g}")
    return False


def getWorkload(testcase_sizes):
    (_, hidden), (experts, width, _), _, _, (rows,) = testcase_sizes[:5]
    return {
        "flops": 6 * rows * hidden * width,
        "memory_bytes": 2 * (3 * experts * hidden * width + 2 * rows * hidden + rows),
        "dtype": "fp16",
    }

"""nsa kernels on the CPU against plain fp64 loops over tokens and heads."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from dataclasses import dataclass

import pytest
import torch

from mxbench import kernel as kernels
from mxbench import workspace

from . import nvcc

WORKSPACE = workspace.bundled()
DIALECT = kernels.dialect(WORKSPACE.kernels)
SCHEDULES = kernels.schedules(WORKSPACE.kernels)
MODULES = {
    name: kernels.load(kernels.find(WORKSPACE, "nsa", name), WORKSPACE.kernels)
    for name in ("baseline", "portable", "hopper")
}
BLOCKS = importlib.import_module(f"{kernels.PACKAGE}.nsa._blocks")
ROUNDING = {torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""Limit of a row's relative RMS error: a few roundings to the dtype, with room."""
TIE = 5e-3
"""Relative importance within which either block may be chosen: compressed keys are rounded."""


@pytest.fixture(autouse=True)
def _on_cpu():
    before = DIALECT.current()
    DIALECT.use(DIALECT.CPU)
    torch.manual_seed(0)
    yield
    DIALECT.use(before)


@pytest.fixture(params=MODULES)
def module(request):
    return MODULES[request.param]


@dataclass
class Qkv:
    """Draws and their fp64 goldens."""

    q: torch.Tensor  # [B, T, HQ, D]
    k: torch.Tensor  # [B, T, H, D]
    v: torch.Tensor  # [B, T, H, D]

    @classmethod
    def draw(cls, batch, seqlen, kv_heads, group, dim, dtype=torch.float16) -> Qkv:
        heads = (kv_heads * group, kv_heads, kv_heads)
        return cls(*(torch.randn(batch, seqlen, h, dim).to(dtype) for h in heads))

    @property
    def group(self) -> int:
        return self.q.shape[2] // self.k.shape[2]

    @property
    def scale(self) -> float:
        return self.q.shape[3] ** -0.5

    def attention(self, seen, k=None, v=None) -> tuple[torch.Tensor, dict]:
        """seen(b, t, h): keys that a token's heads see. Output, and weights by (b, t, h) [G, n]."""
        k, v = (self.k if k is None else k).double(), (self.v if v is None else v).double()
        out, weights = torch.zeros(self.q.shape, dtype=torch.float64), {}
        for b, t, h in index(self.k):
            rows = slice(h * self.group, (h + 1) * self.group)
            keys = seen(b, t, h)
            p = (self.q[b, t, rows].double() @ k[b, keys, h].T * self.scale).softmax(-1)
            weights[b, t, h] = p
            out[b, t, rows] = p @ v[b, keys, h]
        return out, weights

    def selected(self, blocks, block_size, causal) -> torch.Tensor:
        """blocks: [B, T, H, S]; a block named twice counts twice."""
        seqlen = self.k.shape[1]

        def seen(b, t, h):
            named = [i for i in blocks[b, t, h].tolist() if i >= 0]
            keys = [
                n
                for i in named
                if i * block_size < seqlen
                for n in range(i * block_size, min((i + 1) * block_size, seqlen))
            ]
            return [n for n in keys if n <= t or not causal]

        return self.attention(seen)[0]


def index(k: torch.Tensor):
    """All (batch, token, KV head)."""
    return (
        (b, t, h) for b in range(k.shape[0]) for t in range(k.shape[1]) for h in range(k.shape[2])
    )


def assert_rows_close(out: torch.Tensor, golden: torch.Tensor) -> None:
    """Row by row, so that no row hides behind the others; rows of 0 must be exactly 0."""
    error, size = (out.double() - golden).norm(dim=-1), golden.norm(dim=-1)
    assert bool((error <= ROUNDING[out.dtype] * size).all()), (error / size).max()


def run_selected(module, x: Qkv, blocks, block_size, causal=True) -> torch.Tensor:
    out = torch.full_like(x.q, torch.nan)
    options = {"block_size": block_size, "softmax_scale": x.scale, "causal": causal}
    module.selected(x.q, x.k, x.v, blocks, out, **options)
    return out


# Indices of every kind: before the first block, visible, in the future, past the end.
def any_blocks(x: Qkv, selected: int, block_size: int) -> torch.Tensor:
    most = -(-x.k.shape[1] // block_size) + 2
    return torch.randint(-2, most, (*x.k.shape[:3], selected), dtype=torch.int32)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("seqlen", [1, 16, 53])
def test_selected_takes_unsorted_repeated_future_and_negative_indices(module, seqlen, causal):
    x = Qkv.draw(2, seqlen, 2, 3, 32)
    blocks = any_blocks(x, 5, 16)
    out = run_selected(module, x, blocks, 16, causal)
    assert_rows_close(out, x.selected(blocks, 16, causal))


def test_selected_of_nothing_is_zero_whatever_the_index(module):
    x = Qkv.draw(1, 20, 2, 3, 32)
    for nothing in (-1, -(2**31), 20, 2**30, 2**31 - 1):
        blocks = torch.full((1, 20, 2, 5), nothing, dtype=torch.int32)
        assert not run_selected(module, x, blocks, 16).any(), nothing


def test_selected_ragged_last_block_reads_nothing_of_the_next_sequence(module):
    x = Qkv.draw(2, 21, 2, 3, 32)
    x.k[1], x.v[1] = torch.nan, torch.nan
    blocks = any_blocks(x, 5, 16)
    out = run_selected(module, x, blocks, 16, causal=False)
    assert_rows_close(out[:1], x.selected(blocks, 16, causal=False)[:1])


def test_selected_in_bfloat16_with_one_head_a_group(module):
    x = Qkv.draw(1, 150, 2, 1, 64, torch.bfloat16)
    blocks = any_blocks(x, 2, 64)
    assert_rows_close(run_selected(module, x, blocks, 64), x.selected(blocks, 64, True))


@pytest.mark.parametrize("block_n", [16, 48, 128])
def test_selected_key_tiles_smaller_and_larger_than_a_block(block_n):
    x = Qkv.draw(1, 100, 1, 2, 32)
    block_size = 32 if block_n == 16 else 16
    blocks = any_blocks(x, 5, block_size)
    use = {"rows": 16, "block_n": block_n, "threads": 1, "stages": 1, "split": "rows"}
    with SCHEDULES.override("nsa/portable/selected", use):
        out = run_selected(MODULES["portable"], x, blocks, block_size)
    assert_rows_close(out, x.selected(blocks, block_size, True))


@dataclass(frozen=True)
class Sizes:
    """Options of `full` but for the scale."""

    block_size: int
    top_k: int
    window: int
    cmp_kernel: int
    cmp_stride: int

    def windows(self, tokens: int) -> int:
        """How many compression windows end within the first `tokens` tokens."""
        return max((tokens - self.cmp_kernel) // self.cmp_stride + 1, 0)

    def overlap(self, i: int, j: int) -> float:
        """Of window i and block j, in strides."""
        start = max(i * self.cmp_stride, j * self.block_size)
        end = min(i * self.cmp_stride + self.cmp_kernel, (j + 1) * self.block_size)
        return max(end - start, 0) / self.cmp_stride


def run_full(module, x: Qkv, sizes: Sizes):
    """(out, chosen, gates)."""
    gates = [torch.rand(x.q.shape[:3]).to(x.q.dtype) for _ in range(3)]
    out = torch.full_like(x.q, torch.nan)
    chosen = torch.full((*x.k.shape[:3], sizes.top_k), 2**30, dtype=torch.int32)
    module.full(x.q, x.k, x.v, *gates, out, chosen, **vars(sizes), softmax_scale=x.scale)
    return out, chosen, gates


def golden_full(x: Qkv, sizes: Sizes, chosen, gates):
    """(output under `chosen`, importances by (b, t, h) [blocks])."""
    s, seqlen = sizes, x.k.shape[1]
    starts = [i * s.cmp_stride for i in range(s.windows(seqlen))]
    mean_k, mean_v = (
        torch.stack([y[:, n : n + s.cmp_kernel].double().mean(1) for n in starts], 1)
        if starts
        else y[:, :0].double()
        for y in (x.k, x.v)
    )
    o_cmp, p = x.attention(lambda b, t, h: range(s.windows(t + 1)), mean_k, mean_v)
    o_slc = x.selected(chosen, s.block_size, causal=True)
    o_swa, _ = x.attention(lambda b, t, h: range(max(t + 1 - s.window, 0), t + 1))
    parts = zip(gates, (o_cmp, o_slc, o_swa), strict=True)
    out = sum(g.double().unsqueeze(-1) * o for g, o in parts)
    importance = {
        place: [
            sum(s.overlap(i, j) * float(w) for i, w in enumerate(weights.sum(0)))
            for j in range(place[1] // s.block_size + 1)
        ]
        for place, weights in p.items()
    }
    return out, importance


def assert_valid_choice(chosen: list[int], importance: list[float], top_k: int) -> None:
    own = len(importance) - 1
    named = [j for j in chosen if j != -1]
    forced = {0, max(own - 1, 0), own}
    assert chosen == named + [-1] * (top_k - len(named))
    assert len(named) == len(set(named)) == min(top_k, own + 1)
    assert forced <= set(named) <= set(range(own + 1))
    left = [importance[j] for j in range(own + 1) if j not in named]
    free = [importance[j] for j in named if j not in forced]
    if left and free:
        assert min(free) >= max(left) * (1 - TIE)


def check_full(module, x: Qkv, sizes: Sizes) -> None:
    out, chosen, gates = run_full(module, x, sizes)
    golden, importance = golden_full(x, sizes, chosen, gates)
    assert_rows_close(out, golden)
    for b, t, h in index(x.k):
        assert_valid_choice(chosen[b, t, h].tolist(), importance[b, t, h], sizes.top_k)


SMALL = Sizes(block_size=16, top_k=4, window=24, cmp_kernel=8, cmp_stride=4)


@pytest.mark.parametrize("seqlen", [1, 7, 40, 135])
def test_full_from_a_first_token_to_many_blocks(module, seqlen):
    check_full(module, Qkv.draw(2, seqlen, 2, 2, 32), SMALL)


def test_full_with_the_paper_s_windows_in_bfloat16():
    sizes = Sizes(block_size=64, top_k=3, window=100, cmp_kernel=32, cmp_stride=16)
    check_full(MODULES["portable"], Qkv.draw(1, 300, 1, 4, 32, torch.bfloat16), sizes)


def test_full_in_chunks_of_queries_chooses_the_same(monkeypatch):
    x = Qkv.draw(2, 135, 2, 2, 32)
    whole = run_full(MODULES["portable"], x, SMALL)[1]
    monkeypatch.setattr(BLOCKS, "SCRATCH_BYTES", 1)  # the smallest chunk: one tile of queries
    assert torch.equal(run_full(MODULES["portable"], x, SMALL)[1], whole)


def meta(*shape: int, dtype=torch.float16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def ask_selected(
    seqlen: int, kv_heads: int, group: int, block_size: int, selected: int = 16
) -> list[str]:
    """Names of the programs that hopper's `selected` asks for on sm_90a."""
    q = meta(1, seqlen, kv_heads * group, 128)
    k = meta(1, seqlen, kv_heads, 128)
    blocks = meta(1, seqlen, kv_heads, selected, dtype=torch.int32)
    with DIALECT.collect() as asked:
        MODULES["hopper"].selected(
            q, k, k, blocks, q, block_size=block_size, softmax_scale=0.1, causal=True
        )
    return [".".join(program.name.split(".")[-2:]) for program, _ in asked]


WALKS = ["_union.plan", "_walk.union", "_union.plan_left", "_apart.walk"]


def test_hopper_walks_unions_only_where_they_repay_a_plan():
    DIALECT.use(DIALECT.SM90)
    assert ask_selected(8192, 1, 16, 64) == WALKS
    assert ask_selected(1024, 1, 16, 64) == ["_selected.attend"]  # few queries: one launch
    assert ask_selected(8192, 1, 8, 64) == ["_selected.attend"]  # few rows a query
    assert ask_selected(8192, 1, 16, 16) == ["_selected.attend"]  # small blocks
    assert ask_selected(64, 2, 16, 16, selected=1) == ["_short.attend"]  # one of them
    assert ask_selected(64, 2, 16, 16, selected=2) == ["_short.attend"]
    assert ask_selected(64, 2, 16, 32, selected=1) == ["_short.attend"]
    assert ask_selected(64, 2, 16, 64, selected=1) == ["_selected.attend"]  # more than two pieces
    assert ask_selected(64, 2, 8, 16, selected=1) == ["_selected.attend"]
    DIALECT.use(DIALECT.SM80)
    assert ask_selected(8192, 1, 16, 64) == ["_selected.attend"]


AROUND_LOOPS = 256
"""Bytes of spills that were found, reading the machine code, to be a tile's and hardly a step's."""


def threads_of(source: str) -> int:
    return int(re.search(r"__launch_bounds__\((\d+)", source)[1])


def registers_promised(source: str) -> int:
    """Of a CTA's threads, after its producer warpgroup has given up what its consumers take."""
    threads = threads_of(source)
    given = [int(n) for n in re.findall(r"warpgroup_reg_dealloc<(\d+)>", source)]
    taken = [int(n) for n in re.findall(r"warpgroup_reg_alloc<(\d+)>", source)]
    if not taken and not given:
        return 0
    # The consumers have one text, or one each.
    assert len(given) == 1 and len(taken) in (1, threads // 128 - 1) and len({*taken}) == 1
    return 128 * given[0] + (threads - 128) * taken[0]


@pytest.mark.parametrize("dim", [64, 128])
def test_hopper_programs_compile_without_spills_in_their_loops(dim, tmp_path):
    version = tuple(map(int, importlib.metadata.version("tilelang").split("+")[0].split(".")[:3]))
    if version < (0, 1, 11) or not nvcc.available():
        pytest.skip("needs nvcc and a TileLang with Hopper's later passes")
    DIALECT.use(DIALECT.SM90)
    q, k, gate = meta(1, 8192, 16, dim), meta(1, 8192, 1, dim), meta(1, 8192, 16)
    chosen = meta(1, 8192, 1, 16, dtype=torch.int32)
    sizes = Sizes(block_size=64, top_k=16, window=512, cmp_kernel=32, cmp_stride=16)
    with DIALECT.collect() as asked:
        MODULES["hopper"].full(
            q, k, k, gate, gate, gate, q, chosen, **vars(sizes), softmax_scale=0.1
        )
        for block_size in (16, 32):
            MODULES["hopper"].selected(
                q, k, k, chosen[..., :1], q, block_size=block_size, softmax_scale=0.1, causal=True
            )
    lowered = [program.lower(DIALECT.SM90, **static) for program, static in asked]
    compiled = nvcc.compile_resources([made.source for made in lowered], "sm_90a", tmp_path)
    for (program, _), made, resources in zip(asked, lowered, compiled, strict=True):
        assert made.shared_bytes <= 227 << 10, program.name
        assert resources.spills <= AROUND_LOOPS, f"{program.name}: {resources}"
        # A warpgroup that asks for registers which the CTA was not launched with waits for ever.
        held = resources.registers * threads_of(made.source)
        assert registers_promised(made.source) <= held, f"{program.name}: {resources}"


def test_a_remembered_call_gives_way_to_a_schedule_under_trial():
    x = Qkv.draw(1, 40, 1, 2, 32)
    blocks = any_blocks(x, 2, 16)
    use = {"rows": 16, "block_n": 16, "threads": 1, "stages": 1, "split": "rows"}
    run_selected(MODULES["portable"], x, blocks, 16)
    SCHEDULES.take_used()
    with SCHEDULES.override("nsa/portable/selected", use):
        run_selected(MODULES["portable"], x, blocks, 16)
    assert SCHEDULES.take_used() == {"nsa/portable/selected": use}

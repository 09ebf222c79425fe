"""moe kernels on the CPU against a plain fp64 loop over experts and tokens.

Hopper's own programs cannot run here: they are lowered, and compiled where there is an nvcc.
"""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F

from mxbench import kernel as kernels
from mxbench import workspace

from . import nvcc
from .test_lowering import OLDEST, SHARED_LIMIT

WORKSPACE = workspace.bundled()
DIALECT = kernels.dialect(WORKSPACE.kernels)
SCHEDULES = kernels.schedules(WORKSPACE.kernels)
MODULES = {
    name: kernels.load(kernels.find(WORKSPACE, "moe", name), WORKSPACE.kernels)
    for name in ("baseline", "portable", "hopper", "torch_grouped")
}
HERE = ("baseline", "portable")  # what this file can run
ROUNDING = {torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""Limit of a row's relative RMS error: two roundings to the dtype, with room."""
D_HIDDEN, D_EXPERT = 192, 64  # neither is a multiple of the contest's 128-wide tiles
BLOCK = 128


@pytest.fixture(autouse=True)
def _on_cpu():
    before = DIALECT.current()
    DIALECT.use(DIALECT.CPU)
    torch.manual_seed(0)
    yield
    DIALECT.use(before)


def expert_weights(n_experts: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    gate, up = (
        (torch.randn(n_experts, D_EXPERT, D_HIDDEN) / D_HIDDEN**0.5).to(dtype) for _ in range(2)
    )
    down = (torch.randn(n_experts, D_HIDDEN, D_EXPERT) / D_EXPERT**0.5).to(dtype)
    return gate, up, down


def expert(x, gate, up, down):
    """One expert on rows x [n, H], in fp64."""
    x, gate, up, down = (t.double() for t in (x, gate, up, down))
    return (F.silu(x @ gate.T) * (x @ up.T)) @ down.T


def assert_rows_close(out: torch.Tensor, golden: torch.Tensor) -> None:
    """Row by row, so that no row hides behind the others; rows of 0 must be exactly 0."""
    error, size = (out.double() - golden).norm(dim=1), golden.norm(dim=1)
    assert bool((error <= ROUNDING[out.dtype] * size).all()), (error / size).max()


def metadata(sizes: list[int]) -> tuple[tuple[torch.Tensor, ...], int]:
    """((group_sizes, group_offsets, group_padded_offsets, group_idx_for_bx), padded rows)."""
    offsets, padded, owner = [0], [0], []
    for e, size in enumerate(sizes):
        blocks = (size + BLOCK) // BLOCK  # ceil((size + 1) / BLOCK)
        offsets.append(offsets[-1] + size)
        padded.append(padded[-1] + blocks * BLOCK)
        owner += [e] * blocks
    count = -(-offsets[-1] // BLOCK) + len(sizes)
    owner = (owner + [len(sizes) - 1] * count)[:count]
    tables = (sizes, offsets[:-1], padded[:-1], owner)
    return tuple(torch.tensor(t, dtype=torch.int32) for t in tables), padded[-1]


def run_routed(module, sizes: list[int], layout: str, dtype: torch.dtype):
    """(out, golden), both in the layout's rows."""
    groups, padded_rows = metadata(sizes)
    gate, up, down = expert_weights(len(sizes), dtype)
    tokens, golden = torch.randn(sum(sizes), D_HIDDEN).to(dtype), []
    route_w = torch.rand(sum(sizes)).to(dtype)
    for e, (x, w) in enumerate(zip(tokens.split(sizes), route_w.split(sizes), strict=True)):
        golden.append(w[:, None].double() * expert(x, gate[e], up[e], down[e]))
    golden = torch.cat(golden)
    if layout == "padded":
        rows = torch.cat([torch.arange(s) + p for s, p in zip(sizes, groups[2], strict=True)])
        loose, loose_golden = tokens, golden
        tokens = torch.full((padded_rows, D_HIDDEN), torch.nan, dtype=dtype)
        golden = torch.zeros(padded_rows, D_HIDDEN, dtype=torch.float64)
        tokens[rows], golden[rows] = loose, loose_golden
    out = torch.full_like(tokens, torch.nan)
    module.routed(tokens, gate, up, down, route_w, *groups, out)
    return out, golden


def run_layer(module, n_tokens: int, n_experts: int, top_k: int, dtype: torch.dtype, logits=None):
    """(out, golden); `logits` [T, E] of small integers, if given, are what the router computes."""
    hidden = torch.randn(n_tokens, D_HIDDEN).to(dtype)
    router_w = (2 * torch.randn(n_experts, D_HIDDEN) / D_HIDDEN**0.5).to(dtype)
    if logits is not None:
        router_w = torch.eye(n_experts, D_HIDDEN).to(dtype)
        hidden[:, :n_experts] = logits.to(dtype)
    weights = expert_weights(n_experts, dtype)
    probs = (hidden.double() @ router_w.double().T).softmax(-1)
    order = probs.sort(dim=-1, descending=True, stable=True).indices[:, :top_k]
    golden = torch.zeros(n_tokens, D_HIDDEN, dtype=torch.float64)
    for t, chosen in enumerate(order.tolist()):
        for e in chosen:
            golden[t] += probs[t, e] * expert(hidden[t : t + 1], *(w[e] for w in weights))[0]
    out = torch.full_like(hidden, torch.nan)
    module.layer(hidden, router_w, *weights, out, top_k=top_k)
    return out, golden


@pytest.mark.parametrize("module", HERE)
@pytest.mark.parametrize("layout", ["compact", "padded"])
@pytest.mark.parametrize(
    "sizes",
    [[5, 0, 127, 1, 40], [128, 129, 0], [0, 0, 300, 0], [256], [0, 1]],
    ids=lambda sizes: "+".join(map(str, sizes)),
)
def test_routed_matches_the_naive_experts(module, layout, sizes):
    for dtype in ROUNDING:
        assert_rows_close(*run_routed(MODULES[module], sizes, layout, dtype))


@pytest.mark.parametrize("module", HERE)
def test_routed_without_any_row_writes_only_the_padding(module):
    for layout in ("compact", "padded"):
        out, golden = run_routed(MODULES[module], [0, 0], layout, torch.float16)
        assert torch.equal(out.double(), golden)


@pytest.mark.parametrize("module", HERE)
@pytest.mark.parametrize("n_tokens", [0, 1, 16, 17, 100])
def test_layer_matches_the_naive_experts(module, n_tokens):
    for dtype in ROUNDING:
        assert_rows_close(*run_layer(MODULES[module], n_tokens, 20, 3, dtype))


def test_layer_with_every_expert_chosen():
    assert_rows_close(*run_layer(MODULES["portable"], 35, 4, 4, torch.float16))


def test_layer_with_one_hot_expert_and_an_idle_one():
    logits = torch.zeros(40, 4)
    logits[:, 2] = 8
    logits[:, 0] = -8
    logits[::2, 1] = 4
    logits[1::2, 3] = 4
    assert_rows_close(*run_layer(MODULES["portable"], 40, 4, 2, torch.float16, logits))


@pytest.mark.parametrize("n_tokens", [4, 40])
def test_layer_breaks_ties_towards_the_lower_expert(n_tokens):
    logits = torch.randint(0, 2, (n_tokens, 20))  # two values, so every boundary is a tie
    assert_rows_close(*run_layer(MODULES["portable"], n_tokens, 20, 3, torch.float16, logits))


@pytest.mark.parametrize("rows", ["every", "gather", "copy"])
def test_every_way_to_bring_tokens_to_experts_gives_the_same_result(rows):
    with SCHEDULES.override("moe/portable/layer", {"block_token": 16, "rows": rows}):
        out, golden = run_layer(MODULES["portable"], 13, 20, 3, torch.bfloat16)
    assert_rows_close(out, golden)


@pytest.mark.parametrize("n_tokens", [3, 100])
def test_layer_repeats_bit_for_bit(n_tokens):
    first, _ = run_layer(MODULES["portable"], n_tokens, 20, 3, torch.float16)
    torch.manual_seed(0)
    second, _ = run_layer(MODULES["portable"], n_tokens, 20, 3, torch.float16)
    assert torch.equal(first, second)


def test_a_row_of_nan_reaches_no_other_row():
    sizes = [5, 30]
    groups, _ = metadata(sizes)
    gate, up, down = expert_weights(2, torch.float16)
    tokens = torch.randn(sum(sizes), D_HIDDEN).half()
    tokens[4] = torch.nan
    out = torch.empty_like(tokens)
    weights = torch.ones(sum(sizes)).half()
    MODULES["portable"].routed(tokens, gate, up, down, weights, *groups, out)
    assert out[4].isnan().all()
    assert out[torch.arange(len(out)) != 4].isfinite().all()


def test_more_tiles_than_the_bound_are_never_needed():
    tile_count = MODULES["portable"]._dispatch.tile_count
    for pairs_of in ([8, 0, 0, 0], [5, 1, 1, 1], [2, 2, 2, 2], [17, 1, 16, 0]):
        for block in (1, 4, 16):
            needed = sum(-(-n // block) for n in pairs_of)
            assert needed <= tile_count(sum(pairs_of), len(pairs_of), 1, block, every=False)


def test_hopper_falls_back_to_portable_where_it_cannot_run():
    assert_rows_close(*run_routed(MODULES["hopper"], [5, 0, 129], "padded", torch.float16))
    assert_rows_close(*run_layer(MODULES["hopper"], 17, 20, 3, torch.float16))


def test_a_burst_fills_two_stages_piece_by_piece_if_they_come_in_pairs():
    bursts = MODULES["hopper"]._few_parts.bursts
    assert bursts(0, 128, 12) == ((0,), ((0, 128),))
    assert bursts(64, 128, 12) == ((0, 1), ((0, 64), (64, 128)))
    assert bursts(64, 128, 3) == ((0,), ((0, 128),))


def test_results_leave_in_sixteens_of_tokens():
    part_of = MODULES["hopper"]._few_parts.part_of
    assert [part_of(176, 6), part_of(144, 3), part_of(128, 3), part_of(16, 1)] == [32, 48, 48, 16]


def hopper_programs(d_hidden: int, d_expert: int) -> list[tuple]:
    """(program, static sizes) of the grouped GEMMs, for few and many rows an expert."""
    DIALECT.use(DIALECT.SM90)
    weight = torch.empty(4, d_expert, d_hidden, dtype=torch.bfloat16, device="meta")
    experts = (weight, weight, weight.transpose(1, 2))
    with DIALECT.collect() as asked:
        for n_tokens in (1, 20, 480, 4000):
            hidden = torch.empty(n_tokens, d_hidden, dtype=torch.bfloat16, device="meta")
            router_w = torch.empty(4, d_hidden, dtype=torch.bfloat16, device="meta")
            MODULES["hopper"].layer(hidden, router_w, *experts, hidden, top_k=2)
        for rows in (8, 500, 8000):
            tokens = torch.empty(rows, d_hidden, dtype=torch.bfloat16, device="meta")
            groups = [torch.empty(4, dtype=torch.int32, device="meta") for _ in range(3)]
            owner = torch.empty(-(-rows // BLOCK) + 4, dtype=torch.int32, device="meta")
            MODULES["hopper"].routed(tokens, *experts, tokens[:, 0], *groups, owner, tokens)
    return [found for found in asked if re.search("_(few|many)", found[0].name)]


def tables(source: str) -> int:
    """Bytes of shared memory that lowered code declares beside the dynamic part, and alignment."""
    found = re.findall(r"__shared__ __align__\(16\) (\w+) \w+\[(\d+)\];", source)
    size = {"int": 4, "float": 4, "uint64_t": 8}
    return sum(-(-size[kind] * int(count) // 16) * 16 for kind, count in found)


@pytest.mark.skipif(OLDEST, reason="this TileLang has no Hopper programs")
def test_hopper_s_programs_fit_the_chip_and_use_its_instructions(tmp_path):
    found = {f"{p.name}{static}": (p, static) for p, static in hopper_programs(D_HIDDEN, D_EXPERT)}
    assert len({program.name for program, _ in found.values()}) == 4
    sources = {}
    for name, (program, static) in found.items():
        lowered = program.lower(DIALECT.SM90, **static)
        assert lowered.shared_bytes + tables(lowered.source) <= SHARED_LIMIT["sm_90a"], name
        assert "wgmma" in lowered.source and "tma_load" in lowered.source, name
        if "._few" in name:  # every part goes out: TileLang 0.1.15 drops some copies silently
            parts = lowered.source.count("stmatrix")
            bodies = static["groups"] * (2 if static["narrow"] else 1)
            others = bodies if static.get("weighted") else 0
            assert parts > 0, name
            assert lowered.source.count("__sync_thread_partial(") == 2 * parts + others, name
        sources[name] = lowered.source
    some = [*sources][::4]  # each takes seconds
    if nvcc.available():
        compiled = nvcc.compile_resources([sources[name] for name in some], "sm_90a", tmp_path)
        assert [resources.spills for resources in compiled] == [0] * len(some), some


def test_torch_grouped_says_what_it_lacks(monkeypatch):
    with pytest.raises(RuntimeError, match="needs a CUDA device"):
        run_routed(MODULES["torch_grouped"], [3, 2], "compact", torch.bfloat16)
    monkeypatch.delattr(F, "grouped_mm", raising=False)
    monkeypatch.delattr(torch, "_grouped_mm", raising=False)
    with pytest.raises(RuntimeError, match=r"torch\.nn\.functional\.grouped_mm.*lacks"):
        run_layer(MODULES["torch_grouped"], 2, 4, 2, torch.bfloat16)


def test_torch_grouped_matches_the_naive_experts(monkeypatch):
    product = getattr(F, "grouped_mm", None)
    if product is None:
        pytest.skip("this torch has no grouped product")
    module = MODULES["torch_grouped"]
    monkeypatch.setattr(module, "_grouped_product", lambda tensor: product)
    monkeypatch.setitem(ROUNDING, torch.bfloat16, 1.6e-2)  # more intermediates are rounded
    monkeypatch.setitem(ROUNDING, torch.float16, 2e-3)
    for layout in ("compact", "padded"):
        assert_rows_close(*run_routed(module, [5, 0, 127, 1, 40], layout, torch.bfloat16))
    assert_rows_close(*run_layer(module, 17, 20, 3, torch.bfloat16))

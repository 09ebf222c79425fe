"""mla kernels on the CPU against plain fp64 attention, one query at a time."""

from __future__ import annotations

import importlib
import math

import pytest
import torch

from mxbench import kernel as kernels
from mxbench import workspace

from . import nvcc
from .test_lowering import OLDEST, SHARED_LIMIT

WORKSPACE = workspace.bundled()
DIALECT = kernels.dialect(WORKSPACE.kernels)
SCHEDULES = kernels.schedules(WORKSPACE.kernels)
MODULES = {
    name: kernels.load(kernels.find(WORKSPACE, "mla", name), WORKSPACE.kernels)
    for name in ("baseline", "portable", "hopper")
}
HERE = ("baseline", "portable")  # what this file can run
COMBINE = importlib.import_module(f"{kernels.PACKAGE}.mla._combine")
EVEN = importlib.import_module(f"{kernels.PACKAGE}.mla._even")
ROUNDING = {torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""Limit of a row's relative RMS error: two roundings to the dtype, with room."""
V, QK, PAGE = 512, 576, 64
SCALE = QK**-0.5


@pytest.fixture(autouse=True)
def _on_cpu():
    before = DIALECT.current()
    DIALECT.use(DIALECT.CPU)
    torch.manual_seed(0)
    yield
    DIALECT.use(before)


@pytest.fixture(params=HERE)
def module(request):
    return MODULES[request.param]


def in_splits(count: int):
    """Inside, the portable kernel splits the keys `count` ways."""
    name = "mla/portable/splits"
    return SCHEDULES.override(
        name, {**SCHEDULES.table("cpu")[name][-1]["use"], "num_splits": count}
    )


def attention(q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """q [H, 576] over the keys k [n, 576], in fp64: [H, 512] and log-sum-exp [H]."""
    if len(k) == 0:
        return q.new_zeros(len(q), V).double(), q.new_full((len(q),), -math.inf).double()
    scores = q.double() @ k.double().T * SCALE
    return scores.softmax(-1) @ k[:, :V].double(), scores.logsumexp(-1)


def assert_rows_close(actual: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype) -> None:
    assert torch.isfinite(actual).all()
    error = (actual.double() - wanted).norm(dim=-1)
    assert (error <= ROUNDING[dtype] * wanted.norm(dim=-1)).all()


# ---- dense ----


def dense_inputs(batch, heads, keys, dtype=torch.float16):
    return {
        "q": torch.randn(batch, heads, V).to(dtype),
        "q_pe": torch.randn(batch, heads, QK - V).to(dtype),
        "kv": torch.randn(batch, keys, 1, V).to(dtype),
        "k_pe": torch.randn(batch, keys, 1, QK - V).to(dtype),
        "out": torch.full((batch, heads, V), math.nan, dtype=dtype),
    }


def check_dense(module, **tensors):
    module.dense(*tensors.values(), softmax_scale=SCALE)
    q = torch.cat([tensors["q"], tensors["q_pe"]], -1)
    k = torch.cat([tensors["kv"], tensors["k_pe"]], -1)
    wanted = torch.stack([attention(q[b], k[b, :, 0])[0] for b in range(len(q))])
    assert_rows_close(tensors["out"], wanted, q.dtype)


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize(
    ("batch", "heads", "keys"),
    [(1, 16, 1), (2, 16, 63), (1, 128, 64), (3, 20, 65), (2, 1, 200)],
)
def test_dense_is_attention_over_all_keys(module, batch, heads, keys, dtype):
    check_dense(module, **dense_inputs(batch, heads, keys, dtype))


@pytest.mark.parametrize("splits", [1, 2, 3, 9, 64])
def test_dense_does_not_depend_on_the_number_of_splits(splits):
    with in_splits(splits):  # 200 keys are 7 tiles, so 9 and 64 leave splits without a key
        check_dense(MODULES["portable"], **dense_inputs(2, 16, 200))


def test_dense_survives_scores_that_overflow_a_naive_softmax(module):
    tensors = dense_inputs(1, 16, 100)
    tensors["q"] *= 64  # scores in the hundreds: exp of them overflows fp32
    check_dense(module, **tensors)


# ---- paged ----


def paged_inputs(lengths, q_len, heads, dtype=torch.float16, page=PAGE):
    """A shuffled cache that is NaN wherever no sequence has a key, and -1 past its pages."""
    pages = [math.ceil(n / page) for n in lengths]
    free = torch.randperm(sum(pages) + 3).tolist()
    cache = torch.full((len(free), page, 1, QK), math.nan)
    table = torch.full((len(lengths), max(pages) + 1), -1, dtype=torch.int32)
    for b, (length, count) in enumerate(zip(lengths, pages, strict=True)):
        own, free = free[:count], free[count:]
        table[b, :count] = torch.tensor(own, dtype=torch.int32)
        for i, number in enumerate(own):
            used = min(page, length - i * page)
            cache[number, :used] = torch.randn(used, 1, QK)
    return {
        "q": torch.randn(len(lengths), q_len, heads, QK).to(dtype),
        "kv_cache": cache.to(dtype),
        "block_table": table,
        "cache_seqlens": torch.tensor(lengths, dtype=torch.int32),
        "out": torch.full((len(lengths), q_len, heads, V), math.nan, dtype=dtype),
        "lse": torch.full((len(lengths), heads, q_len), math.nan),
    }


def check_paged(module, causal, **tensors):
    module.paged(*tensors.values(), softmax_scale=SCALE, causal=causal)
    q, out, lse = tensors["q"], tensors["out"], tensors["lse"]
    batch, q_len = q.shape[:2]
    for b in range(batch):
        length = int(tensors["cache_seqlens"][b])
        page = tensors["kv_cache"].shape[1]
        own = tensors["block_table"][b, : math.ceil(length / page)].long()
        keys = tensors["kv_cache"][own].flatten(0, 2)[:length]
        for i in range(q_len):
            seen = max(0, length - q_len + 1 + i) if causal else length
            wanted, wanted_lse = attention(q[b, i], keys[:seen])
            assert_rows_close(out[b, i], wanted, q.dtype)
            torch.testing.assert_close(lse[b, :, i].double(), wanted_lse, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("lengths", "q_len", "heads"),
    [((0, 65, 200), 1, 16), ((1, 64, 130), 2, 16), ((63, 2), 2, 128), ((200, 0, 66), 3, 20)],
)
def test_paged_sees_its_own_keys_and_nothing_else(module, lengths, q_len, heads, causal, dtype):
    check_paged(module, causal, **paged_inputs(lengths, q_len, heads, dtype))


@pytest.mark.parametrize("splits", [1, 2, 3, 64])
def test_paged_does_not_depend_on_the_number_of_splits(splits):
    with in_splits(splits):
        check_paged(MODULES["portable"], True, **paged_inputs((200, 0, 1, 66), 2, 16))


def test_paged_takes_pages_smaller_than_a_tile(module):
    check_paged(module, True, **paged_inputs((50, 16, 0), 1, 16, page=16))


# ---- both ----


def test_other_sizes_do_not_compile_again(module):
    with in_splits(2):
        check_dense(module, **dense_inputs(2, 16, 70))
        check_paged(module, True, **paged_inputs((70, 3), 2, 16))
        before = DIALECT.compiled_count()
        check_dense(module, **dense_inputs(3, 5, 131))
        check_paged(module, False, **paged_inputs((129,), 1, 24))
        assert DIALECT.compiled_count() == before


def test_several_latent_heads_are_refused(module):
    tensors = dense_inputs(1, 16, 8)
    tensors["kv"], tensors["k_pe"] = (tensors[n].repeat(1, 1, 2, 1) for n in ("kv", "k_pe"))
    with pytest.raises(NotImplementedError, match="one latent KV head"):
        module.dense(*tensors.values(), softmax_scale=SCALE)


def test_pages_below_a_matrix_product_s_tile_are_refused(module):
    with pytest.raises(NotImplementedError, match="multiple of 16"):
        check_paged(module, True, **paged_inputs((20,), 1, 16, page=8))


# ---- the number of splits ----

RULE = {"per_sm": 1, "start_tiles": 1.5, "merge_tiles": 0.03, "max_splits": 64}


def test_one_sequence_fills_the_machine_and_many_do_not_overfill_it():
    assert COMBINE.choose_splits(1, 32, 132, **RULE) == 32  # a tile each
    assert COMBINE.choose_splits(8, 128, 132, **RULE) == 16  # one wave of 128 CTAs
    assert COMBINE.choose_splits(132, 1024, 132, **RULE) == 1


@pytest.mark.parametrize("blocks", [1, 3, 40, 130, 500])
@pytest.mark.parametrize("tiles", [0, 1, 7, 1024])
def test_the_number_of_splits_stays_within_its_bounds(blocks, tiles):
    splits = COMBINE.choose_splits(blocks, tiles, 132, **RULE)
    assert 1 <= splits <= max(1, min(tiles, 64))


@pytest.mark.parametrize(("groups", "unroll"), [(1, 1), (1, 4), (4, 1), (2, 2)])
@pytest.mark.parametrize("splits", [2, 5, 8])
def test_parts_combine_in_turn_and_side_by_side(splits, groups, unroll):
    name = "mla/portable/combine"
    rule = {**SCHEDULES.table("cpu")[name][-1]["use"], "groups": groups, "unroll": unroll}
    with in_splits(splits), SCHEDULES.override(name, rule):
        check_paged(MODULES["portable"], True, **paged_inputs((200, 0, 1, 66), 2, 16))


@pytest.mark.parametrize("block_d", [1024, 96, 0])
def test_combining_refuses_blocks_that_would_leave_columns_of_the_output_out(block_d):
    name = "mla/portable/combine"
    rule = {**SCHEDULES.table("cpu")[name][-1]["use"], "block_d": block_d}
    refused = pytest.raises(ValueError, match="divide the 512 columns")
    with in_splits(2), SCHEDULES.override(name, rule), refused:
        check_dense(MODULES["portable"], **dense_inputs(1, 16, 200))


# ---- Hopper ----


def on_hopper(calls: list[tuple]) -> list[tuple]:
    """(program, static sizes) that the module asks for; calls are (batch, queries, heads, keys),
    `dense` if there are no queries."""
    DIALECT.use(DIALECT.SM90)

    def empty(*shape, dtype=torch.bfloat16):
        return torch.empty(*shape, dtype=dtype, device="meta")

    with DIALECT.collect() as asked:
        for batch, q_len, heads, keys in calls:
            if q_len == 0:
                q, q_pe = empty(batch, heads, V), empty(batch, heads, QK - V)
                kv, k_pe = empty(batch, keys, 1, V), empty(batch, keys, 1, QK - V)
                MODULES["hopper"].dense(q, q_pe, kv, k_pe, q, softmax_scale=SCALE)
                continue
            q, out = empty(batch, q_len, heads, QK), empty(batch, q_len, heads, V)
            table = empty(batch, math.ceil(keys / PAGE), dtype=torch.int32)
            MODULES["hopper"].paged(
                q, empty(9, PAGE, 1, QK), table, table[:, 0], out, empty(batch, heads, q_len),
                softmax_scale=SCALE, causal=True,
            )  # fmt: skip
    DIALECT.use(DIALECT.CPU)
    return asked


def test_hopper_falls_back_to_portable_where_it_cannot_run():
    check_dense(MODULES["hopper"], **dense_inputs(2, 16, 70))
    check_paged(MODULES["hopper"], True, **paged_inputs((70, 0, 3), 2, 16))


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ((1, 0, 16, 2048), "_turned.dense_parts"),
        ((1, 0, 16, 2048), "_clustered.dense"),
        ((2, 2, 16, 100), "_turned.paged_parts"),
        ((32, 1, 16, 65536), "_even.paged"),
        ((5, 1, 16, 65536), "_even.paged"),
        ((64, 0, 128, 8192), "_paired.dense_whole"),
        ((1, 0, 128, 8192), "_paired.dense_parts"),
        ((64, 2, 64, 8192), "_paired.paged_whole"),
        ((3, 1, 64, 8192), "_paired.paged_parts"),
    ],
)
def test_hopper_s_programs_fit_the_chip_and_use_its_instructions(call, kind, tmp_path):
    if OLDEST:
        pytest.skip("this TileLang has no Hopper programs")
    asked = [(p, static) for p, static in on_hopper([call]) if p.name.endswith(kind)]
    ((program, static),) = asked
    lowered = program.lower(DIALECT.SM90, **static)
    assert lowered.shared_bytes + 1024 <= SHARED_LIMIT["sm_90a"]
    assert "wgmma" in lowered.source and "tma_load" in lowered.source
    if nvcc.available():
        (made,) = nvcc.compile_resources([lowered.source], "sm_90a", tmp_path)
        assert made.spills == 0
        assert lowered.shared_bytes + made.shared <= SHARED_LIMIT["sm_90a"]


def test_a_plan_s_scratch_is_a_new_tensor_of_its_shape_every_call():
    portable = MODULES["portable"]
    with in_splits(3):
        used, find = portable.finder("portable")
        tiling = find("dense", rows=16)
        sizes = {"dim": V, "pe_dim": QK - V, "dtype": "float16", **tiling}
        programs = (portable.dense_whole, portable.dense_parts)
        with DIALECT.collect():
            plan = portable._plan(used, find, programs, sizes, 2, 16, 200).on("cpu")
    (one,), (other,) = plan.scratch(), plan.scratch()
    assert one.shape == torch.Size(plan.part) and one.is_contiguous()
    assert one.dtype == torch.float32 and one.data_ptr() != other.data_ptr()


def test_hopper_launches_once_only_where_clusters_hold_the_batch():
    programs = on_hopper([(2, 0, 16, 8192), (32, 0, 16, 2048), (2, 0, 64, 2048), (1, 0, 16, 65536)])
    assert [p.name.rsplit(".", 2)[-2:] for p, _ in programs if "_clustered" in p.name] == [
        ["_clustered", "dense"]
    ]


def test_hopper_loads_what_captures_launch_on_every_device_of_the_process(monkeypatch):
    hopper, launched = MODULES["hopper"], []

    def both(*tensors):
        launched.append(("both", str(tensors[0].device)))

    def alone(*tensors):
        launched.append(("alone", str(tensors[0].device)))

    plan = importlib.import_module(f"{kernels.PACKAGE}.mla._plan").Plan({}, both, None, alone)
    monkeypatch.setattr(hopper, "_fits", lambda dim, pe_dim: True)
    monkeypatch.setattr(hopper, "_plan", lambda *shapes: plan)
    for device in ("cpu", "meta", "cpu"):
        tensors = [t.to(device) for t in dense_inputs(1, 16, 8).values()]
        hopper.dense(*tensors, softmax_scale=SCALE)
    assert launched == [
        ("both", "cpu"), ("alone", "cpu"), ("both", "meta"), ("alone", "meta"), ("alone", "cpu"),
    ]  # fmt: skip


def test_hopper_gives_long_ragged_sequences_more_ctas_than_there_are_processors():
    DIALECT.use(DIALECT.SM90)
    sizes = {"dim": V, "pe_dim": QK - V, "dtype": "float16"}
    with DIALECT.collect():
        dense = MODULES["hopper"]._plan("dense", sizes, 32, 16, 65536)
        paged = MODULES["hopper"]._plan("paged", {**sizes, "page": PAGE}, 32, 32, 65536)
    assert (dense.part[1], paged.part[1]) == (4, 16)


# ---- even shares of ragged lengths ----


def walk(lengths: list[int], ctas: int, cta: int) -> list[tuple[int, int, int]]:
    """(sequence, first tile, how many) that a CTA attends to, as `_even.begin` to `move_on`."""
    tiles = [int(EVEN.tiles_of(n)) for n in lengths]
    first, end = (int(EVEN.first_tile(sum(tiles), ctas, c)) for c in (cta, cta + 1))
    found, before = [], 0
    for b, own in enumerate(tiles):
        low, high = max(first, before), min(end, before + own)
        if low < high:
            found.append((b, low - before, high - low))
        before += own
    return found


LENGTHS = {
    "one": [70000],
    "one-key": [0, 0, 1],
    "none": [0, 0],
    "negative": [-5, 200, -70],
    "fewer-tiles-than-ctas": [0, 64, 0, 65, 0],
    "ends-empty": [0, 0, 5000, 0, 0, 0, 9000, 0],
    "ragged": [1024, 65536, 3000, 64, 40000, 1, 0, 777],
}


@pytest.mark.parametrize("ctas", [1, 3, 132])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_even_shares_hold_every_tile_once_and_their_parts_are_found_again(lengths, ctas):
    check_shares(lengths, ctas)


@pytest.mark.parametrize("batch", [2, 31, 33, 300])
@pytest.mark.parametrize("longest", [70, 3000, 65536])
def test_even_shares_hold_every_tile_once_whatever_the_lengths(batch, longest):
    lengths = torch.randint(longest, (batch,)) * (torch.rand(batch) < 0.8)
    check_shares(lengths.tolist(), 132)


def check_shares(lengths: list[int], ctas: int) -> None:
    tiles = [int(EVEN.tiles_of(n)) for n in lengths]
    seen: list[list[int]] = [[] for _ in lengths]
    slots: dict[int, int] = {}  # of parts, and whose
    shares = []
    for cta in range(ctas):
        walked = walk(lengths, ctas, cta)
        shares.append(sum(count for _, _, count in walked))
        for b, tile, count in walked:
            seen[b] += range(tile, tile + count)
            assert b + cta not in slots
            slots[b + cta] = b
    assert seen == [list(range(own)) for own in tiles]
    assert max(shares) - min(shares) <= 1
    assert all(0 <= slot < len(lengths) + ctas for slot in slots)
    before = 0
    for b, own in enumerate(tiles):
        first, count = (int(n) for n in EVEN.parts_of(sum(tiles), ctas, before, own))
        assert [slot for slot, whose in slots.items() if whose == b] == [
            b + first + i for i in range(count)
        ]
        assert 0 <= b + first < len(lengths) + ctas  # read even where there is no part
        before += own


def test_hopper_evens_out_only_what_is_much_work_in_few_rows():
    programs = on_hopper([(32, 1, 16, 65536), (2, 1, 16, 8192), (32, 2, 16, 65536)])
    assert [p.name.rsplit(".", 1)[0].rsplit(".", 1)[1] for p, _ in programs] == [
        "_even", "_turned", "_turned",
    ]  # fmt: skip


# ---- peers ----


@pytest.mark.parametrize(
    ("inputs", "error", "reason"),
    [
        ({"page": 32}, NotImplementedError, "pages of 64 keys"),
        ({"page": 64}, RuntimeError, "CUDA device"),
    ],
)
def test_flash_mla_says_what_it_cannot_serve(inputs, error, reason):
    module = kernels.load(kernels.find(WORKSPACE, "mla", "flash_mla"), WORKSPACE.kernels)
    with pytest.raises(error, match=reason):
        module.paged(
            *paged_inputs((70, 3), 1, 16, **inputs).values(), softmax_scale=SCALE, causal=True
        )

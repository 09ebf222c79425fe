"""The performance report: honest figures, their protocol, and nothing a CPU measured."""

from __future__ import annotations

import msgspec
import pytest

from mxbench.case import override
from mxbench.report import measured

from . import synthetic as s

MOE = s.cases("moe", "performance")
MLA = s.cases("mla", "performance")


def both(case, fast, slow, **changes):
    return s.timed(case, fast, **changes), s.timed(case, slow, "baseline", **changes)


def test_times_stand_with_their_spread(pages, row):
    page = pages.performance(*both(MOE[0], 18.0, 54.0), *both(MOE[1], 2.4, 9.6))
    heads, cells = row(page, "case", "kernel", "calls"), row(page, f"`{MOE[0].name}`", "portable")
    shown = dict(zip(heads, cells, strict=True))
    assert "## MoE (mixture of experts) · performance" in page
    assert "### Times (ms)" in page
    assert (shown["calls"], shown["mean"], shown["per call"]) == ("100", "**18.00**", "18.00")
    assert (shown["95 % interval"], shown["std"]) == ("[17.97, 18.04]", "0.180")
    assert (shown["graph replay"], shown["kernel only"]) == ("17.46", "17.10")
    assert (shown["cold L2"], shown["launch cost"]) == ("18.90", "0.00800")


def test_rates_floor_and_speedup(pages, row):
    page = pages.performance(*both(MOE[0], 18.0, 54.0), *both(MOE[1], 2.4, 9.6))
    table = page.split("### Rates and floor")[1]
    heads, cells = row(table, "case"), row(table, f"`{MOE[0].name}`", "portable")
    shown = dict(zip(heads, cells, strict=True))
    # 6 * 131072 rows * 7168 * 2048 FLOPs over 18 ms; the floor at 756 TFLOP/s is 15.27 ms.
    assert (shown["TFLOP/s"], shown["floor (ms)"]) == ("641", "15.27")
    assert (shown["share of floor"], shown["limit"]) == ("84.8 %", "compute")
    assert shown["speed-up"] == "3.00×"
    assert row(table, f"`{MOE[0].name}`", "baseline")[-1] == "–"


def test_the_summary_has_the_geometric_mean(pages, row):
    page = pages.performance(*both(MOE[0], 18.0, 54.0), *both(MOE[1], 2.4, 28.8))
    cells = row(page, "moe", "performance", "portable")
    assert cells[3:7] == ["2 / 2", "6.00×", "3.00×–12.0×", "2 / 2"]
    assert row(page, "moe", "performance", "baseline")[4:7] == ["–", "–", "–"]


def test_short_suites_are_in_microseconds(pages, row):
    page = pages.performance(*[s.timed(c, 0.01) for c in MLA])
    assert "### Times (µs)" in page
    assert row(page, f"`{MLA[0].name}`", "portable")[3] == "**10.00**"


def test_the_protocol_names_rule_counts_clock_and_peaks(pages, row):
    page = pages.performance(*both(MOE[0], 18.0, 54.0))
    assert row(page, "rule")[1].startswith("`xh-202608`")
    assert row(page, "warm-up / repeat")[1] == "10 / 100 (cases: 2)"
    assert row(page, "clock")[1].startswith("device events around the whole loop")
    assert row(page, "peaks")[1] == "profile h100, measured elsewhere (cases: 2)"
    assert "the 64K NSA shape is not stated" in page


def test_other_counts_than_the_rule_s_are_pointed_out(pages):
    short = s.timed(MOE[0], 18.0)
    short = msgspec.structs.replace(
        short, timing=msgspec.structs.replace(short.timing, repeat=5, warmup=1)
    )
    page = pages.performance(short, s.timed(MOE[1], 2.4))
    assert "other counts than the rule asks for: 1." in page
    assert MOE[0].id in page.split("other counts")[1].split("\n")[0]
    assert "other counts" not in pages.performance(s.timed(MOE[0], 18.0))


def test_a_suite_with_cases_untimed_is_incomplete(pages, row):
    too_large = s.skipped(MLA[1], "needs 90 GiB", rule="xh-202608")
    page = pages.performance(s.timed(MLA[0], 0.01), too_large)
    assert "mla/performance, kernel `portable`: missing 29 of 31 cases" in page
    assert row(page, "mla", "performance", "portable")[3] == "1 / 31"
    assert row(page, f"`{MLA[1].id}`")[2:] == ["SKIPPED", "needs 90 GiB"]


def test_a_failure_after_a_time_takes_the_time_away(pages):
    wrong = s.failed(MOE[0], "row 3 is zero", rule="xh-202608")
    page = pages.performance(s.timed(MOE[0], 18.0), wrong, s.timed(MOE[1], 2.4))
    assert "**18.00**" not in page
    assert "row 3 is zero" in page


def test_a_later_check_leaves_the_time_alone(pages):
    page = pages.performance(s.timed(MOE[0], 18.0), s.record(MOE[0]), s.timed(MOE[1], 2.4))
    assert "**18.00**" in page


def test_the_newest_time_counts_and_the_others_are_counted(pages):
    page = pages.performance(s.timed(MOE[0], 18.0), s.timed(MOE[0], 17.0))
    assert "**17.00**" in page
    assert "**18.00**" not in page
    assert "same case, kernel and device: 1." in page


def test_rules_are_kept_apart(pages):
    records = s.timed(MOE[0], 18.0), s.timed(MOE[0], 99.0, rule="xpu-oj")
    page = pages.performance(*records)
    assert "99.00" not in page
    assert "Timings under rule `xpu-oj`, not shown: 1." in page
    assert "**99.00**" in pages.performance(*records, rule="xpu-oj")


def test_cpu_timings_are_no_performance_claim(pages):
    case = s.cases("moe", "smoke")[0]
    slow = msgspec.structs.replace(s.timed(case, 77.0).timing, mode="cpu", repeat=2, asked=100)
    page = pages.performance(s.timed(case, 77.0, timing=slow, device=s.CPU, bound=None))
    assert "CPU timings left out: 1." in page
    assert "77.0" not in page
    assert "TFLOP/s" not in page


def test_a_gpu_without_timings_says_so(pages):
    page = pages.performance(s.record(MOE[0]))
    assert "There are no GPU timings under rule `xh-202608`" in page


def test_a_device_without_peaks_has_no_floor(pages, row):
    page = pages.performance(s.timed(MOE[0], 18.0, bound=None, device="MetaX X1"))
    assert row(page.split("### Rates")[1], f"`{MOE[0].name}`")[5:8] == ["–", "–", "–"]
    assert "was not measured (cases: 1)" in page
    assert "Without peaks of this device there is no floor." in page


def test_pairs_from_different_environments_are_pointed_out(pages):
    fast, slow = both(MOE[0], 18.0, 54.0)
    slow = msgspec.structs.replace(slow, env=msgspec.structs.replace(s.GPU_ENV, torch="2.4.0"))
    assert "in different software environments: 1." in pages.performance(fast, slow)


def test_remarks_of_the_timer_name_their_cases(pages):
    record = s.timed(MOE[0], 18.0)
    timing = msgspec.structs.replace(
        record.timing, kernel_only=None, kernel_only_note="CUPTI reported no kernel"
    )
    page = pages.performance(msgspec.structs.replace(record, timing=timing))
    assert f"CUPTI reported no kernel (cases: 1; `{MOE[0].name} portable`)" in page
    assert "kernel only" not in [
        cell.strip() for line in page.splitlines() if "calls" in line for cell in line.split("|")
    ]


def test_schedules_that_ran_are_listed(pages, row):
    page = pages.performance(s.timed(MOE[0], 18.0, schedule={"up": {"block_M": 128}}))
    assert row(page, "moe/portable")[1:] == ["up", '`{"block_M":128}`', "1"]


def test_commands_time_the_kernel_beside_the_baseline(pages):
    page = pages.performance(*both(MOE[0], 18.0, 54.0))
    assert (
        "mxbench perf moe --suite performance --kernel portable --target cuda "
        "--rule xh-202608 --baseline baseline\n```" in page
    )
    alone = pages.performance(s.timed(MOE[0], 54.0, "baseline"))
    assert "--kernel baseline --target cuda --rule xh-202608\n```" in alone


def test_a_length_that_no_case_has_is_shown_with_its_command(pages):
    case = override(s.cases("nsa", "performance")[0], {"seqlen": 131072})
    page = pages.performance(s.timed(case, 5.0))
    assert f"`{case.name}`" in page
    assert "--set seqlen=131072" in page
    assert "other counts" not in page  # the rule reads 10/50 for it, as for any 64K case


def test_speedups_pair_the_same_parameters_only(pages):
    longer = override(MLA[0], {"kv_ctx": 3000})
    context = pages.context(s.timed(MLA[0], 0.01), s.timed(longer, 0.05, "baseline"))
    found = measured.timings(context.device, context.catalog)
    assert [m.speedup for m in found.all] == [None, None]


def test_speedup_and_rates_by_hand(pages):
    context = pages.context(*both(MLA[0], 0.01, 0.025))
    found = measured.timings(context.device, context.catalog)
    (fast,) = found.by_key["mla", "performance", "portable"]
    assert fast.speedup == pytest.approx(2.5)
    # B1-S2048-H16: 2 * 16 * 2048 * 1088 FLOPs and (2048 * 576 + 16 * 1088) * 2 bytes in 10 us.
    assert fast.tflops == pytest.approx(7.13, abs=0.01)
    assert fast.gbps == pytest.approx(239.4, abs=0.1)


def as_graph(record):
    timing = msgspec.structs.replace(record.timing, mode="graph")
    return msgspec.structs.replace(record, timing=timing)


def test_a_graph_s_replay_does_not_stand_for_calls(pages):
    replay = as_graph(s.timed(MOE[0], 11.0))
    page = pages.performance(s.timed(MOE[0], 18.0), replay, s.timed(MOE[0], 54.0, "baseline"))
    assert "**18.00**" in page
    assert "**11.00**" not in page
    assert "CUDA-graph replay as their headline, not shown: 1." in page
    assert "Older records" not in page


def test_a_graph_s_replay_alone_is_labelled_and_not_compared_with_calls(pages, row):
    page = pages.performance(as_graph(s.timed(MOE[0], 11.0)), s.timed(MOE[0], 54.0, "baseline"))
    assert row(page, f"`{MOE[0].name}`", "portable (graph)")[3] == "**11.00**"
    assert row(page, "moe", "performance", "portable")[4] == "–"
    assert "--mode graph" in page


def test_remarks_that_differ_in_figures_alone_are_one(pages):
    records = []
    for case, host in zip(MOE, ("1.5", "2.5"), strict=True):
        record = s.timed(case, 1.0)
        notes = [f"host clock {host} ms and events 1 ms disagree"]
        timing = msgspec.structs.replace(record.timing, notes=notes)
        records.append(msgspec.structs.replace(record, timing=timing))
    page = pages.performance(*records)
    assert "host clock … ms and events … ms disagree (cases: 2; " in page

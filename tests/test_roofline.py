"""Bounds against hand counts."""

import pytest

from mxbench.ops.base import Work
from mxbench.roofline import (
    LAUNCH_FLOOR_MS,
    Peaks,
    Rates,
    bound,
    load_measured,
    peaks_of,
    physical_floor_ms,
    profile_of,
    profiles,
    save_measured,
)

PEAKS = Peaks(rates=Rates(tflops={"float16": 500.0, "bfloat16": 400.0}, gbps=2000.0), source="test")


def test_compute_bound():
    b = bound(Work(flops=10**12, bytes=10**6), "float16", 4.0, PEAKS)
    assert (b.floor, b.share, b.limit) == (pytest.approx(2.0), pytest.approx(0.5), "compute")


def test_rate_is_the_dtype_s():
    assert bound(Work(10**12, 0), "bfloat16", 5.0, PEAKS).floor == pytest.approx(2.5)


def test_memory_bound():
    b = bound(Work(flops=10**6, bytes=4 * 10**9), "float16", 2.5, PEAKS)
    assert (b.floor, b.share, b.limit) == (pytest.approx(2.0), pytest.approx(0.8), "memory")


def test_a_tiny_call_is_bound_by_its_launch():
    b = bound(Work(flops=1, bytes=1), "float16", 0.008, PEAKS)
    assert (b.floor, b.limit) == (LAUNCH_FLOOR_MS, "launch")


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("MetaX C500", "c500"),
    ],
)
def test_profiles_are_found_by_the_driver_s_name(device, name):
    profile = profile_of(device)
    assert profile is not None and profile.name == name


def test_an_unknown_device_has_no_peaks_until_it_is_measured():
    assert peaks_of("Some GPU") is None
    here = peaks_of("Some GPU", PEAKS.rates)
    assert here is not None and here.rates == PEAKS.rates


def test_every_profile_names_its_source_and_uncertainty():
    for profile in profiles().values():
        assert profile.source and profile.uncertainty, profile.name


def test_physical_floor_counts_only_bytes_that_cannot_be_cached():
    h100 = profiles()["h100"]
    assert physical_floor_ms(Work(0, h100.l2_bytes), "float16", h100) == 0
    beyond = physical_floor_ms(Work(0, h100.l2_bytes + 3352 * 10**6), "float16", h100)
    assert beyond == pytest.approx(1.0)


def test_rates_measured_here_are_kept_and_go_before_a_profile(tmp_path):
    device = "NVIDIA H200"
    assert load_measured(tmp_path, device) is None
    save_measured(tmp_path, device, PEAKS.rates)
    kept = load_measured(tmp_path, device)
    assert kept == PEAKS.rates
    assert peaks_of(device, kept).rates == PEAKS.rates
    assert "float16 500, bfloat16 400 TFLOP/s, 2000 GB/s" in peaks_of(device, kept).source

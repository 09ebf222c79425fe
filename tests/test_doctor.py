"""Mutation tests of the verdicts: wrong results are caught, right ones pass, honestly counted."""

from __future__ import annotations

import json

import msgspec
import pytest
import torch

from mxbench import mutants, reference, workspace
from mxbench.case import load_suite
from mxbench.device import detect
from mxbench.diagnosis import Diagnosis, Finding, Honest
from mxbench.runner.diagnosing import diagnose

from . import sandbox

HERE = workspace.bundled()
CPU = detect("cpu")

# One case of each contract and dtype, and the judge's small scales.
CASES = [
    ("mla", "dense-B2-S130-H16"),
    ("mla", "dense-judge-scale"),
    ("mla", "paged-B8-S150-H16-Q2-ragged-causal-bf16"),
    ("moe", "routed-E8-H128-I128-G1+127+128+129+0+2+0+5-padded"),
    ("moe", "routed-E4-H192-I64-G150-padded-judge"),
    ("moe", "layer-E8-H128-I128-B2-T40-K2-bf16"),
    ("nsa", "selected-B2-T75-H2-HQ32-D64-S4-block16-local"),
    ("nsa", "full-B2-T77-H2-HQ32-D64-K4-block32-W64-cmp16x8-bf16"),
]


def smoke(op, name):
    (case,) = [c for c in load_suite(HERE, op, "smoke").cases if c.name == name]
    return case


@pytest.mark.parametrize(("op", "name"), CASES)
def test_strict_catches_what_exceeds_rounding_and_passes_what_is_right(op, name):
    found = diagnose(smoke(op, name), CPU, honest=10)
    assert len(found.findings) >= 9
    assert [f.mistake for f in found.escaped() if found.distinguishable(f)] == []
    assert found.honest.strict == found.honest.tried == 10
    assert 0 < found.honest.rms < found.rms_limit and found.honest.row < found.row_limit


def test_the_judge_s_tolerance_passes_a_kernel_that_computes_nothing():
    """What public tolerances let through at the judge's input scales, and strict does not."""
    found = diagnose(smoke("moe", "routed-E4-H192-I64-G150-padded-judge"), CPU, honest=1)
    zeros = next(f for f in found.findings if f.mistake == "all zeros")
    assert not zeros.official and zeros.strict and zeros.rms == pytest.approx(1)


def test_a_mistake_that_a_case_cannot_show_is_not_counted():
    found = diagnose(smoke("nsa", "selected-B1-T1-H1-HQ16-D64-S4-block16"), CPU, honest=1)
    assert "no softmax: plain mean" in found.unchanged, "one key has the weight 1 either way"
    assert "no softmax: plain mean" not in [f.mistake for f in found.findings]


@pytest.mark.parametrize(("op", "name"), CASES)
def test_mutants_have_the_output_s_form_and_names_of_their_own(op, name):
    subject = mutants.subject(smoke(op, name), "cpu")
    names = []
    for one in mutants.mutants(subject):
        out = one.make()
        assert out.shape == subject.golden.shape and out.isfinite().all(), one.name
        names.append(one.name)
    assert len(set(names)) == len(names)


def test_inputs_are_left_as_they_were():
    subject = mutants.subject(smoke("nsa", "selected-B2-T75-H2-HQ32-D64-S4-block16-local"), "cpu")
    before = {n: t.clone() for n, t in subject.inputs.items() if isinstance(t, torch.Tensor)}
    for one in mutants.mutants(subject):
        one.make()
    for name, tensor in before.items():
        assert torch.equal(subject.inputs[name], tensor), name


def test_honest_results_differ_from_seed_to_seed():
    subject = mutants.subject(smoke("mla", "dense-B2-S130-H16"), "cpu")
    assert not torch.equal(mutants.honest(subject, 0), mutants.honest(subject, 1))
    assert torch.equal(mutants.honest(subject, 1), mutants.honest(subject, 1))


def test_a_reference_choice_of_blocks_is_a_valid_one():
    case = smoke("nsa", "full-B2-T77-H2-HQ32-D64-K4-block32-W64-cmp16x8-bf16")
    subject = mutants.subject(case, "cpu")
    assert reference.expected(case, subject.inputs, subject.outputs).problem is None


def test_escapes_within_the_margin_of_rounding_are_no_fault_of_the_verdict():
    honest = Honest(tried=1, official=1, strict=1, rms=1e-3, row=1e-3)
    near = Finding(mistake="near", official=False, strict=False, rms=2e-3, row=2e-3)
    found = Diagnosis(findings=[near], honest=honest, rms_limit=5e-3, row_limit=5e-3)
    assert found.escaped() == [near] and not found.distinguishable(near)
    assert found.distinguishable(msgspec.structs.replace(near, row=4e-3))


def test_the_command_tells_official_from_strict(tmp_path):
    arguments = [
        "doctor",
        "mla",
        "--suite",
        "smoke",
        "--case",
        "dense-judge-scale",
        "--honest",
        "3",
    ]
    done = sandbox.run(sandbox.REPOSITORY, *arguments)
    assert done.returncode == 0, done.stderr
    assert "strict 15 of 15" in done.stdout and "official 6 of 15" in done.stdout
    document = json.loads(sandbox.run(sandbox.REPOSITORY, *arguments, "--json").stdout)
    (case,) = document["cases"]
    assert case["case"] == "mla/smoke/dense-judge-scale" and len(case["findings"]) == 15


def test_two_workers_find_what_one_finds_in_the_same_order():
    words = ["doctor", "mla", "--suite", "smoke", "--case", "dense-B*", "--honest", "1", "--json"]
    words += ["--target", "cpu"]
    one, two = (
        json.loads(sandbox.run(sandbox.REPOSITORY, *words, *more).stdout)
        for more in ([], ["--devices", "0,1"])
    )
    assert len(one["cases"]) > 3 and one == two


def test_bad_input_is_one_clear_message():
    done = sandbox.run(sandbox.REPOSITORY, "doctor", "mla", "--honest", "0")
    assert done.returncode == 2 and "--honest must be at least 1, not 0" in done.stderr
    done = sandbox.run(sandbox.REPOSITORY, "doctor", "mlla")
    assert done.returncode == 2 and "did you mean 'mla'?" in done.stderr
    done = sandbox.run(sandbox.REPOSITORY, "doctor", "mla", "--devices", "0,0")
    assert done.returncode == 2 and "names a device twice" in done.stderr

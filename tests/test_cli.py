from __future__ import annotations

import getpass
import json
import os
import platform
import pty
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mxbench.record import read_journal
from mxbench.verdict import Status

from . import sandbox


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = sandbox.make(tmp_path_factory.mktemp("cli"))
    (folder / "kernels" / "mla" / "brisk.py").write_text(sandbox.sleeping(0.2))
    return folder


def journal(folder: Path) -> Path:
    return folder / "journal.jsonl"


# --- one run looked at from all sides -----------------------------------------------------------


@pytest.fixture(scope="module")
def faults(root: Path) -> subprocess.CompletedProcess[str]:
    """A run whose cases fail in every way, off a terminal."""
    options = ["--suite", "faults", "--kernel", "rogue", "--timeout", "10", "--out", "faults"]
    return sandbox.run(root, "check", "mla", *options)


def test_failures_give_exit_code_1_and_the_run_goes_on_to_the_end(
    root: Path, faults: subprocess.CompletedProcess[str]
) -> None:
    assert faults.returncode == 1, faults.stderr
    records, damaged = read_journal(journal(root / "faults"))
    assert not damaged
    assert [r.params["kv_ctx"] for r in records] == list(range(1, 16))
    assert {r.status for r in records} >= {
        Status.PASSED,
        Status.CRASHED,
        Status.TIMEOUT,
        Status.NON_FINITE,
        Status.RUNTIME_ERROR,
        Status.NOT_IMPLEMENTED,
        Status.WRONG_SHAPE,
        Status.OUT_OF_MEMORY,
        Status.INPUT_MUTATED,
        Status.MISMATCH,
    }


def test_off_a_terminal_output_is_plain_and_unwrapped(
    faults: subprocess.CompletedProcess[str],
) -> None:
    assert "\x1b" not in faults.stdout + faults.stderr
    assert "garbage" not in faults.stderr
    assert "mla faults: 1/15 passed official (6.67 %), 1/15 strict, 14 failed, 0 skipped" in (
        faults.stdout
    )


def test_a_failure_names_the_place_both_values_and_the_command(
    faults: subprocess.CompletedProcess[str],
) -> None:
    block = faults.stdout[faults.stdout.index("MISMATCH  mla/faults/B1-S15-H16") :]
    reason, command = block.splitlines()[1:3]
    assert re.search(r"batch 0, head 11.* is -?\d.* instead of -?\d", reason), reason
    assert command.split() == [
        *("mxbench", "check", "mla", "--suite", "faults", "--case", "B1-S15-H16"),
        *("--kernel", "rogue", "--target", "cpu", "--seed", "0"),
    ]


def test_no_record_names_a_person_a_machine_or_a_folder(
    root: Path, faults: subprocess.CompletedProcess[str]
) -> None:
    text = journal(root / "faults").read_text()
    for record in map(json.loads, text.splitlines()):
        for value in [record.get("reason", ""), *record["env"].values()]:
            assert not re.search(r"(^|[\s\"'(])[~/]/?\w+/", str(value)), value
    for name in (getpass.getuser(), platform.node(), os.path.expanduser("~"), str(root)):
        if name not in ("root", "localhost"):
            assert not re.search(rf"\b{re.escape(name)}\b", text), name


def test_workers_output_is_kept_apart_in_a_log(
    root: Path, faults: subprocess.CompletedProcess[str]
) -> None:
    (log,) = (root / "faults" / "runs").glob("*.log")
    assert "garbage on stdout" in log.read_text()


def test_runs_are_listed(root: Path, faults: subprocess.CompletedProcess[str]) -> None:
    listed = json.loads(sandbox.run(root, "list", "runs", "--out", "faults", "--json").stdout)
    assert [(r["what"], r["cases"], r["passed"], r["state"]) for r in listed] == [
        ("check mla faults", 15, 1, "finished")
    ]


# --- other ways to run --------------------------------------------------------------------------


def test_json_is_one_document_alone_and_says_what_the_table_says(root: Path) -> None:
    # A kernel may print what it likes.
    options = ["--suite", "tiny", "--kernel", "kernels/mla/rogue.py", "--json", "--out", "json"]
    done = sandbox.run(root, "check", "mla", *options, "--precision", "fp64")
    document = json.loads(done.stdout)
    assert done.returncode == 0
    (record,) = document["records"]
    assert (record["status"], record["kernel"], record["precision"]) == ("PASSED", "rogue", "fp64")
    (summary,) = document["summary"]
    assert (summary["total"], summary["passed"], summary["share"]) == (1, 1, 1.0)
    assert json.loads(journal(root / "json").read_text()) == record


def test_skips_stay_in_the_denominator_and_say_why(root: Path) -> None:
    done = sandbox.run(root, "check", "mla", "--suite", "big", "--kernel", "good", "-q")
    assert done.returncode == 0 and done.stderr == ""
    assert "B4096-S1048576-H16  needs " in done.stdout
    assert "raise --timeout" in done.stdout or "mla/big/slow  needs " in done.stdout
    assert "1/3 passed official (33.33 %)" in done.stdout and "2 skipped" in done.stdout
    assert " rms error " not in done.stdout


def test_parameters_can_be_overridden_and_the_command_to_repeat_it_does_so(root: Path) -> None:
    options = ["--suite", "smoke", "--kernel", "rogue", "--seqlen", "9", "--set", "heads=32"]
    done = sandbox.run(root, "check", "mla", *options, "--seed", "7", "--json", "--out", "set")
    document = json.loads(done.stdout)
    assert done.returncode == 1
    (record,) = document["records"]  # both cases became the same one
    assert (record["params"]["kv_ctx"], record["params"]["heads"], record["seed"]) == (9, 32, 7)
    (command,) = document["reproduce"].values()
    again = sandbox.run(root, *command.split()[1:], "--json", "--out", "again")
    (repeated,) = json.loads(again.stdout)["records"]
    assert {**repeated, "run": "", "seconds": {}} == {**record, "run": "", "seconds": {}}


def test_fail_fast_stops_at_the_first_failure(root: Path) -> None:
    options = ["--suite", "faults", "--kernel", "rogue", "--fail-fast", "--out", "fast", "-q"]
    done = sandbox.run(root, "check", "mla", *options)
    assert done.returncode == 1
    assert "1/15 passed" in done.stdout and "1 failed, 0 skipped, 13 not run" in done.stdout


def test_a_kernel_whose_bits_change_is_named_if_asked(root: Path) -> None:
    options = ["--suite", "tiny", "--kernel", "moody", "--out", "moody", "--fresh"]
    assert sandbox.run(root, "check", "mla", *options).returncode == 0, "within tolerance"
    done = sandbox.run(root, "check", "mla", *options, "--repeat-check", "3")
    assert done.returncode == 1
    assert "NON_DETERMINISTIC" in done.stdout
    assert "call 2 put out other bits in out: 1 elements, first [0, 3, 7]" in done.stdout
    steady = ["--suite", "tiny", "--kernel", "good", "--out", "steady", "--repeat-check", "3"]
    assert sandbox.run(root, "check", "mla", *steady).returncode == 0
    (record,), _ = read_journal(journal(root / "steady"))
    assert record.repeats == 3


def test_a_disk_that_fills_up_keeps_the_results_on_screen(root: Path) -> None:
    arguments = ["check", "mla", "--suite", "smoke", "--kernel", "good", "--out", "full"]
    done = sandbox.run(root, *arguments, file_limit=600)  # the run's header fits, a record not
    assert done.returncode == 2, done.stderr
    assert "2/2 passed" in done.stdout
    assert "error: cannot write results to full" in done.stderr
    again = sandbox.run(root, *arguments)
    assert again.returncode == 0
    assert "0 of 2 cases are done" in again.stderr
    assert "journal.jsonl:1: damaged line skipped" in again.stderr
    assert len(read_journal(journal(root / "full"))[0]) == 2


def on_a_terminal(folder: Path, *arguments: str, **more: str) -> str:
    """What the command prints to a terminal that is its stdout and stderr."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        sandbox.command(*arguments),
        cwd=folder,
        env=sandbox.environment(TERM="xterm-256color", COLUMNS="120", **more),
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    output = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        output += data
    os.close(ours)
    assert process.wait() == 0, output
    return output.decode()


def test_a_terminal_gets_colours_and_no_color_takes_them_away(root: Path) -> None:
    arguments = ["check", "mla", "--suite", "tiny", "--kernel", "good", "--out", "terminal"]
    coloured = on_a_terminal(root, *arguments)
    assert "\x1b[32mPASSED" in coloured
    plain = on_a_terminal(root, *arguments, NO_COLOR="1")
    assert "PASSED" in plain
    assert not re.search(r"\x1b\[[0-9;]*m", plain)


# --- interruptions ------------------------------------------------------------------------------


def start_brisk(root: Path, out: str) -> subprocess.Popen[str]:
    """A run of eight cases of some half a second each, once its second record is on disk."""
    options = ["--suite", "many", "--kernel", "brisk", "--out", out]
    process = sandbox.start(root, "check", "mla", *options)
    deadline = time.monotonic() + 120
    path = journal(root / out)
    while not path.exists() or path.read_bytes().count(b"\n") < 2:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail("".join(process.communicate()))
        time.sleep(0.05)
    return process


def descendants(group: int) -> list[int]:
    """Processes of a process group that are not zombies."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def gone(group: int) -> bool:
    deadline = time.monotonic() + 20
    while descendants(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_a_run_killed_with_sigkill_continues_where_it_was_and_leaves_no_process(
    root: Path,
) -> None:
    process = start_brisk(root, "killed")
    process.kill()
    process.communicate()
    assert gone(process.pid)
    before, _ = read_journal(journal(root / "killed"))
    with journal(root / "killed").open("ab") as file:
        file.write(b'{"schema": 1, "run": "torn')  # the worst moment of a kill
    options = ["--suite", "many", "--kernel", "brisk", "--out", "killed"]
    done = sandbox.run(root, "check", "mla", *options)
    assert done.returncode == 0
    assert f"{len(before)} of 8 cases are done" in done.stderr
    assert "damaged line skipped" in done.stderr
    assert "8/8 passed" in done.stdout
    after, _ = read_journal(journal(root / "killed"))
    assert after[: len(before)] == before
    assert len(after) == 8 and {r.run for r in after} == {before[0].run}
    # Now that it is through, the same command starts anew.
    third = sandbox.run(root, "check", "mla", *options)
    assert "are done" not in third.stderr
    assert len({r.run for r in read_journal(journal(root / "killed"))[0]}) == 2


def test_ctrl_c_keeps_what_is_finished_and_a_changed_kernel_starts_anew(root: Path) -> None:
    process = start_brisk(root, "interrupted")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to workers too
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"[2-7]/8 passed.* [1-6] not run", out), out
    assert "Traceback" not in err and "the same command continues" in err
    assert gone(process.pid)
    brisk = root / "kernels" / "mla" / "brisk.py"
    source = brisk.read_text()
    brisk.write_text(sandbox.sleeping(0))
    try:
        options = ["--suite", "many", "--kernel", "brisk", "--out", "interrupted"]
        done = sandbox.run(root, "check", "mla", *options)
    finally:
        brisk.write_text(source)
    assert "are done" not in done.stderr and "8/8 passed" in done.stdout


def test_ctrl_c_while_torch_is_imported_ends_at_once(root: Path) -> None:
    options = ["--suite", "tiny", "--kernel", "good", "--out", "early"]
    process = sandbox.start(root, "check", "mla", *options)
    deadline = time.monotonic() + 60
    while not list((root / "early" / "runs").glob("*.log")):  # the fork server starts
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err and "interrupted" in err
    assert gone(process.pid)


# --- bad input ----------------------------------------------------------------------------------

TINY = ["check", "mla", "--suite", "tiny", "--kernel"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["check", "moo"], 2, ["unknown operator 'moo'", "did you mean 'moe'?"]),
        (["check", "mla", "--suite", "tinny"], 2, ["no suite 'tinny'", "did you mean 'tiny'?"]),
        ([*TINY, "good", "--case", "B1-S2-H16"], 2, ["no case matches", "'B1-S1-H16'"]),
        ([*TINY, "goood"], 2, ["no kernel 'goood'", "did you mean 'good'?"]),
        ([*TINY, "good", "--set", "kvctx=3"], 2, ["no parameter 'kvctx'", "'kv_ctx'"]),
        ([*TINY, "good", "--set", "kv_ctx"], 2, ["'kv_ctx' is not key=value"]),
        ([*TINY, "good", "--seqlen", "0"], 2, ["kv_ctx must be at least 1, not 0"]),
        ([*TINY, "good", "--batch", "-2"], 2, ["batch must be at least 1, not -2"]),
        ([*TINY, "good", "--tokens", "4"], 2, ["mla has no --tokens"]),
        ([*TINY, "good", "--set", "heads=x"], 2, ["heads", "`int`"]),
        ([*TINY, "good", "--contract", "paged"], 2, ["no case has contract 'paged'", "dense"]),
        ([*TINY, "good", "--target", "gpu"], 2, ["unknown target 'gpu'", "cuda"]),
        ([*TINY, "good", "--timeout", "0"], 2, ["--timeout must be a positive number"]),
        ([*TINY, "good", "--repeat-check", "-1"], 2, ["--repeat-check must not be negative"]),
        ([*TINY, "good", "--precision", "fp16"], 2, ["unknown precision 'fp16'"]),
        ([*TINY, "good", "--out", "pyproject/x"], 2, ["cannot write results to pyproject/x"]),
        ([*TINY, "good", "--no-such-option"], 2, ["--no-such-option"]),
        ([*TINY, "nowhere.py"], 2, ["nowhere.py does not exist"]),
        ([*TINY, "strange"], 2, ["def dense(q, kv, out)", "wanted: def dense(q, q_pe, kv"]),
        ([*TINY, "empty"], 2, ["lacks contract 'dense'", "wanted: def dense(q, q_pe, kv"]),
        ([*TINY, "unparsable"], 2, ["unparsable.py:1", "never closed"]),
        ([*TINY, "broken"], 2, ["does not import", "No module named 'no_such_module'"]),
        (["env", "--target", "cpu", "--measure"], 3, ["a CPU has no bounds to measure for"]),
        (["show", "mla/tiny/B1-S2-H16"], 2, ["no case matches"]),
        (["show", "mla/faults/*"], 2, ["matches 15 cases"]),
        (["list", "kernel"], 2, ["cannot list 'kernel'", "did you mean 'kernels'?"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_message(
    root: Path, arguments: list[str], code: int, words: list[str]
) -> None:
    (root / "pyproject").write_text("a file, not a folder")
    done = sandbox.run(root, *arguments)
    assert done.returncode == code, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_cpu_without_a_compiler_is_an_environment_error(root: Path, tmp_path: Path) -> None:
    arguments = [*TINY, "good", "--target", "cpu", "--out", "compiler"]
    done = sandbox.run(root, *arguments, PATH=str(tmp_path), CXX="", CC="")
    assert done.returncode == 3
    assert "C++ compiler" in done.stderr and "apt install g++" in done.stderr


@pytest.mark.skipif(
    any(map(os.path.exists, ("/dev/nvidiactl", "/dev/mxcd"))), reason="there is a GPU here"
)
def test_cuda_without_a_gpu_is_an_environment_error(root: Path) -> None:
    done = sandbox.run(root, *TINY, "good", "--target", "cuda", "--out", "cuda")
    assert done.returncode == 3
    assert "sees no GPU" in done.stderr and "--target cpu" in done.stderr


# --- looking around -----------------------------------------------------------------------------


def test_lists_need_no_torch(root: Path) -> None:
    code = (
        "import sys; from mxbench.cli import app; sys.argv = ['mxbench', 'list', sys.argv[1]]\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'tilelang'} & set(sys.modules)\n"
    )
    for what in ("ops", "cases", "kernels", "runs"):
        subprocess.run(
            [sys.executable, "-c", code, what],
            cwd=root,
            env=sandbox.environment(),
            check=True,
            capture_output=True,
        )


def test_kernels_are_listed_with_what_they_serve_and_broken_ones_with_their_fault(
    root: Path,
) -> None:
    listed = json.loads(sandbox.run(root, "list", "kernels", "mla", "--json").stdout)
    by_name = {entry["kernel"]: entry for entry in listed}
    assert by_name["good"]["contracts"] == ["dense"]
    assert by_name["good"]["what"] == "The golden formula in plain torch."
    assert "unparsable.py:1" in by_name["unparsable"]["what"]


def test_show_tells_a_case_and_how_to_run_it(root: Path) -> None:
    shown = json.loads(sandbox.run(root, "show", "mla/tiny/*", "--json").stdout)
    assert shown["params"]["kv_ctx"] == 1
    assert shown["tolerance"] == {"atol": 0.01, "rtol": 0.01, "max_mismatched_ratio": 0.0}
    assert "good" in shown["kernels"] and "strange" not in shown["kernels"]
    assert shown["run it"].startswith("mxbench check mla --suite tiny --case B1-S1-H16")
    assert "atol=0.01" in sandbox.run(root, "show", "mla/tiny/*").stdout


def test_env_tells_the_device(root: Path) -> None:
    shown = json.loads(sandbox.run(root, "env", "--target", "cpu", "--json").stdout)
    assert shown["target"] == "cpu" and shown["schedules"] == "cpu" and shown["torch"]
    assert shown["kernels"] == str(root / "kernels")


def test_version_and_short_help() -> None:
    here = Path.cwd()
    assert sandbox.run(here, "--version").stdout.startswith("mxbench 0.")
    for arguments in (["-h"], ["check", "-h"], ["list", "-h"]):
        assert "Usage:" in sandbox.run(here, *arguments).stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_the_shell_completes_names(root: Path) -> None:
    def complete(*words: str) -> list[str]:
        done = sandbox.run(
            root,
            _MXBENCH_COMPLETE="complete_bash",
            COMP_WORDS=" ".join(["mxbench", *words]),
            COMP_CWORD=str(len(words)),
        )
        return done.stdout.split()

    assert complete("check", "m") == ["moe", "mla"]
    assert complete("check", "mla", "--suite", "t") == ["tiny"]
    assert complete("check", "mla", "--kernel", "g") == ["good"]


def test_help_is_quick() -> None:
    """Under 0.3 s where nothing else runs; here with room for a busy machine."""
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        sandbox.run(Path.cwd(), "--help")
        seconds.append(time.perf_counter() - begin)
    assert statistics.median(seconds) < 1.0

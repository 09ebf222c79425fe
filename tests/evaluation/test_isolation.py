"""A measuring process: what it gets, what it cannot reach, what is left when it is over."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from mxbench.errors import MxbenchError
from mxbench.evaluation import caches, entrants, fence, isolation, parcel
from mxbench.evaluation.messages import Order, Work
from mxbench.workspace import Workspace

from .. import sandbox
from . import synthetic as syn

NOSY = '''"""A measuring process that tells what it sees, as the reason of its end."""
import json, os, pathlib, subprocess, sys
folder = pathlib.Path(sys.argv[1])
seen = {
    "cwd": os.getcwd(), "work": os.listdir("."), "home": os.listdir(os.environ["HOME"]),
    "tilelang": os.path.isdir(os.environ["TILELANG_CACHE_DIR"]), "env": sorted(os.environ),
    "siblings": [p.name for p in folder.parent.iterdir()],
    "hidden": {p: os.path.isdir(p) and os.listdir(p) for p in json.loads(HIDDEN)},
    "parent": os.getppid(),
}
code = "import time; time.sleep(300)"
subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
print(json.dumps({"type": "Ended", "status": "finished", "reason": json.dumps(seen)}), flush=True)
'''


@pytest.fixture
def here(tmp_path):
    return syn.contest(tmp_path / "ws")


@pytest.fixture
def task(here, tmp_path):
    def make(kind="good", inner=syn.STUB, hidden=(), **order):
        path = syn.pack(tmp_path / "subs" / "x.zip", here, kind)
        fields = {
            "work": Work("x", "mla"), "target": "cuda", "rule": "xh-202608",
            "suite": "functional", "gate": "functional", "limit": 20.0,
        }  # fmt: skip
        return isolation.Task(
            Order(**{**fields, **order}), parcel.kit(here), path.read_bytes(), b"", inner, hidden
        )

    return make


def run(task, stop=None):
    heard = []
    return isolation.run(task, heard.append, stop), heard


def test_records_come_one_by_one_and_together(task):
    result, heard = run(task())
    assert result.status == "finished" and result.seconds > 0
    assert len(heard) == 2 * len(syn.KEYS) and tuple(heard) == result.records


def test_what_an_earlier_try_finished_is_not_done_again(task, here):
    given = tuple(syn.records(here, 1.0)[:4])
    result, _ = run(task(given=given))
    assert len(result.records) == 2 * len(syn.KEYS) - len(given)


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("malformed", "malformed", "not a zip"),
        ("crashing", "died", "exited with code 3"),
        ("hanging", "time limit", "not through within 1 s"),
    ],
)
def test_however_it_ends_there_is_a_result(task, kind, status, words):
    result, heard = run(task(kind, limit=1.0 if kind == "hanging" else 20.0))
    assert result.status == status and words in result.reason, result
    assert len(heard) == (0 if kind == "malformed" else len(syn.KEYS))


def test_it_can_be_stopped(task):
    stop, begin = threading.Event(), time.monotonic()
    threading.Timer(0.5, stop.set).start()
    result, _ = run(task("hanging", limit=60.0), stop)
    assert result.status == ("unmeasured" if fence.available() else "died")
    assert time.monotonic() - begin < 20


def children(pid):
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in tasks for word in path.read_text().split()]


@pytest.mark.parametrize(
    ("fenced", "behind"),
    [(True, False), (True, True), (False, False)],
    ids=["the fence", "what is behind it", "no fence"],
)
def test_killed_from_outside_a_hand_in_is_to_blame_only_without_a_fence(task, fenced, behind):
    if fenced and not fence.available():
        pytest.skip("no user namespaces here")
    before, found = set(children(os.getpid())), []
    one = dataclasses.replace(task("hanging", limit=60.0), fenced=fenced)
    thread = threading.Thread(target=lambda: found.append(run(one)))
    thread.start()
    deadline = time.monotonic() + 20
    while not found and time.monotonic() < deadline:
        mine = [pid for pid in children(os.getpid()) if pid not in before]
        inner = [pid for one in mine for pid in children(one)] if fenced else mine
        if inner:
            time.sleep(0.5)
            os.kill((inner if behind else mine)[0], signal.SIGKILL)
            break
        time.sleep(0.05)
    thread.join(30)
    ((result, _),) = found
    assert result.status == ("unmeasured" if fenced else "died")
    assert "its measuring process was gone" in result.reason


@pytest.mark.skipif(not fence.available(), reason="no user namespaces here")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_behind_the_fence_what_measures_cannot_be_killed_from_inside(tmp_path, number):
    (tmp_path / "own" / "work").mkdir(parents=True)
    code = f"import os; [os.kill(p, {int(number)}) for p in (os.getpid(),)]; print('alive')"
    done = subprocess.run(
        fence.around([sys.executable, "-c", code], tmp_path / "own", ()),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


@pytest.fixture
def nosy(task, tmp_path, monkeypatch):
    """What a process sees that is started for a hand-in."""
    secret = tmp_path / "others"
    secret.mkdir()
    (secret / "theirs.py").write_text("secret")
    (tmp_path / "modules").mkdir()
    text = NOSY.replace("HIDDEN", repr(json.dumps([str(secret)])))
    (tmp_path / "modules" / "nosy.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setenv("SECRET_TOKEN", "x")
    result, _ = run(task(inner="nosy", hidden=(str(secret),)))
    assert result.status == "finished", result
    return json.loads(result.reason), secret


def test_home_cache_and_working_folder_are_empty_and_its_own(nosy):
    seen, _ = nosy
    assert seen["work"] == [] and seen["home"] == [] and not seen["tilelang"]
    assert "SECRET_TOKEN" not in seen["env"]
    assert not Path(seen["cwd"]).exists(), "and gone afterwards"


def test_no_process_outlives_its_task(nosy):
    seen, _ = nosy
    if fence.available():
        assert seen["parent"] == 0, "its processes have numbers of their own"
    marked = isolation.MARK.encode()
    alive = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marked in path.read_bytes() and int(path.parent.name) != os.getpid():
                alive.append(path.parent.joinpath("cmdline").read_bytes())
        except OSError:
            continue
    assert not [line for line in alive if b"time.sleep(300)" in line]


@pytest.mark.skipif(not fence.available(), reason="no user namespaces here")
def test_behind_the_fence_others_files_are_not_there(nosy):
    seen, secret = nosy
    assert seen["siblings"] == [Path(seen["cwd"]).parent.name]
    assert seen["hidden"] == {str(secret): []} and os.listdir(secret) == ["theirs.py"]


def test_what_the_process_needs_is_never_covered(tmp_path):
    command = fence.around(["true"], tmp_path / "own", [sys.prefix, "/", str(tmp_path)])
    assert sys.prefix not in command and "/" not in command and str(tmp_path) in command[:-3]


def test_the_device_is_found_in_such_a_process_too():
    assert isolation.probe("cuda", None, syn.STUB) == syn.DEVICE
    with pytest.raises(MxbenchError, match="no device to measure on") as caught:
        isolation.probe("cuda", None, "tests.no_such_module")
    assert caught.value.exit_code == 3


# --- compile caches -------------------------------------------------------------------------------


def test_the_baseline_s_cache_is_packed_before_the_hand_in_s_is_filled(tmp_path):
    (tmp_path / "there").mkdir()
    for name in (caches.HAND_IN, caches.BASELINE):
        (tmp_path / name).mkdir()

    def filled():
        (tmp_path / caches.BASELINE / "key").write_text("the baseline's")
        yield caches.BASELINE
        (tmp_path / caches.BASELINE / "key").write_text("planted")
        (tmp_path / caches.HAND_IN / "key").write_text("the hand-in's")
        yield caches.HAND_IN

    caches.unpack(caches.pack(tmp_path, filled()), tmp_path / "there")
    assert (tmp_path / "there" / caches.BASELINE / "key").read_text() == "the baseline's"
    assert (tmp_path / "there" / caches.HAND_IN / "key").read_text() == "the hand-in's"


@pytest.mark.parametrize(
    "name", ["order.json", "cache/../order.json", "/cache/x", ".", "cache-baseline/../../x"]
)
def test_of_a_packed_cache_nothing_else_is_put_in_place(tmp_path, name):
    (tmp_path / "task").mkdir()
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as packed:
        for one in (name, "cache/good"):
            packed.addfile(tarfile.TarInfo(one))
    caches.unpack(memory.getvalue(), tmp_path / "task")
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"task/cache/good"}


# --- what travels -------------------------------------------------------------------------------


def names(packed: bytes) -> set[str]:
    return set(zipfile.ZipFile(io.BytesIO(packed)).namelist())


def test_a_folder_is_packed_without_links_out_caches_and_documents(tmp_path):
    hand_in = tmp_path / "team"
    (hand_in / "kernels" / "mla" / "__pycache__").mkdir(parents=True)
    (hand_in / "kernels" / "mla" / "mine.py").write_text("def dense(): ...")
    (hand_in / "kernels" / "mla" / "__pycache__" / "mine.pyc").write_text("")
    (hand_in / "kernels" / "mla" / "link.py").symlink_to("/etc/passwd")
    (hand_in / "video.mp4").write_text("large")
    assert names(parcel.hand_in(hand_in)) == {"kernels/mla/mine.py"}
    assert parcel.hand_in(hand_in) == parcel.hand_in(hand_in)


def space(tmp_path: Path, here: Workspace, files: dict[str, str]) -> Workspace:
    handed_in = tmp_path / "unpacked"
    for name, text in files.items():
        (handed_in / name).parent.mkdir(parents=True, exist_ok=True)
        (handed_in / name).write_text(text)
    handed_in.mkdir(exist_ok=True)
    (tmp_path / "space").mkdir()
    return parcel.workspace_of(handed_in, here, tmp_path / "space")


def test_kernels_are_found_deep_inside_and_get_the_organiser_s_common(tmp_path, here):
    found = space(tmp_path, here, {"team/v2/kernels/mla/mine.py": "def dense(): ..."})
    assert (found.kernels / "common" / "dialect.py").is_file() and found.cases == here.cases
    assert parcel.kernel_of(found, "mla", None, "baseline") == "mine"


@pytest.mark.parametrize(
    ("files", "wanted", "words"),
    [
        ({"readme.md": ""}, None, "no kernels/"),
        ({"kernels/moe/x.py": ""}, None, "no kernel of mla"),
        ({"kernels/mla/baseline.py": ""}, None, "no kernel of mla"),
        ({"kernels/mla/a.py": "", "kernels/mla/b.py": ""}, None, "several kernels of mla"),
        ({"kernels/mla/mine.py": ""}, "mime", "did you mean 'mine'"),
    ],
)
def test_a_hand_in_whose_kernel_is_not_known(tmp_path, here, files, wanted, words):
    with pytest.raises(MxbenchError) as caught:
        parcel.kernel_of(space(tmp_path, here, files), "mla", wanted, "baseline")
    assert words in caught.value.message + caught.value.hint


def test_several_kernels_with_a_dispatch_are_served_by_it(tmp_path, here):
    table = json.dumps({"mla": [{"target": "cuda", "kernel": "a"}, {"kernel": "b"}]})
    files = {f"kernels/mla/{name}.py": "" for name in "ab"}
    found = space(tmp_path, here, {**files, "kernels/common/dispatch.json": table})
    assert parcel.kernel_of(found, "mla", None, "baseline") == "auto"


# --- who takes part -----------------------------------------------------------------------------


def test_every_zip_and_folder_in_a_folder_takes_part(tmp_path):
    (tmp_path / "a" / "kernels" / "mla").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "b.zip").write_text("")
    (tmp_path / "list.txt").write_text("")
    assert set(entrants.find([tmp_path])) == {"a", "b", "empty"}
    assert set(entrants.find([tmp_path / "a", tmp_path / "b.zip"])) == {"a", "b"}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a.zip", "a/kernels/x"], "two hand-ins are named 'a'"),
        (["...zip"], "no name for a hand-in"),
        (["list.txt"], "holds no hand-in"),
    ],
)
def test_names_that_cannot_be(tmp_path, files, words):
    for name in files:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("")
    if files == ["...zip"]:  # hidden in a folder, but it can be named
        files_found = [tmp_path / "in" / "...zip"]
    else:
        files_found = [tmp_path / "in"]
    with pytest.raises(MxbenchError, match=words):
        entrants.find(files_found)


def test_the_repository_s_own_kernels_make_a_hand_in(tmp_path):
    packed = names(parcel.hand_in(sandbox.REPOSITORY))
    assert "kernels/mla/hopper.py" in packed and not any("tests" in name for name in packed)

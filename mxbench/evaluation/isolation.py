"""Run the measuring process of one hand-in: its own folders, a time limit, nothing left behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ..device import DeviceInfo
from ..devices import VISIBLE_NAMES
from ..errors import EXIT_ENVIRONMENT, MxbenchError
from ..record import Record, scrub
from ..runner.process import cause_of_death, tail
from . import caches, fence
from .inner import LOG, PROBE
from .messages import Ended, Heard, Order, Result

INNER = "mxbench.evaluation.inner"
PROBE_LIMIT = 300.0  # seconds to import torch and find the device
MARK = "MXBENCH_TASK"
"""Environment variable that tells a task's processes from all others."""
# A hand-in gets these of our environment, and nothing else: no keys, no names, no folders.
_PASSED_ON = (
    "PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "CUDA_HOME", "CUDA_PATH",
    "MACA_PATH", "CUDA_VISIBLE_DEVICES", "MACA_VISIBLE_DEVICES", "CC", "CXX", "CUDACXX",
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MXBENCH_START_METHOD", "VIRTUAL_ENV",
)  # fmt: skip
_PREFIXES = ("TILELANG_MACA_", "NVIDIA_")
_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, 1)
"""Exit codes of the fence that no hand-in behind it can cause: itself or what measures is killed.
util-linux 2.38 makes a 1 of the latter; the measuring process ends with 1 only if it cannot begin.
"""
_decode = msgspec.json.Decoder(Heard | Ended).decode


@dataclass(frozen=True)
class Task:
    """All that measuring one hand-in needs; travels to another machine."""

    order: Order
    kit: bytes
    hand_in: bytes
    cache: bytes = b""
    """Compile caches to begin with, packed."""
    inner: str = INNER
    """Module that measures."""
    hidden: tuple[str, ...] = field(default=())
    """Folders and files of this machine that the hand-in shall not see."""
    fenced: bool = True
    """Whether to use namespaces where there are any."""

    @property
    def walled(self) -> bool:
        """Whether it runs behind namespaces on this very machine."""
        return self.fenced and fence.available()


def run(
    task: Task, on_record: Callable[[Record], None], stop: threading.Event | None = None
) -> Result:
    """Measure a hand-in; whatever becomes of it is a Result. `stop` ends it early."""
    begin = time.monotonic()
    with _folder() as folder:
        try:
            _prepare(folder, task)
        except OSError as error:
            return Result(status="unmeasured", reason=f"no room to measure in: {error.strerror}")
        result = _Listener(task, folder, on_record, stop or threading.Event()).result()
    return msgspec.structs.replace(result, seconds=round(time.monotonic() - begin, 3))


def machine_name(node: str = "") -> str:
    """A name for this machine (or `node`) that tells machines apart, and nobody their names."""
    digest = hashlib.sha256((node or platform.node()).encode()).hexdigest()
    return f"machine-{digest[:6]}"


def probe(
    target: str, visible: str | None = None, inner: str = INNER, *, fenced: bool = True
) -> DeviceInfo:
    """The device that a hand-in would get here, found in a process like its own.

    Raises:
        MxbenchError: exit code 3; there is none, or a compiler is missing.
    """
    with _folder() as folder:
        _make_folders(folder)
        command = [sys.executable, "-m", inner, PROBE, target, str(folder / LOG)]
        if fenced and fence.available():
            command = fence.around(command, folder, ())
        with (folder / LOG).open("ab") as log:
            process = _start(command, folder, visible, secrets.token_hex(8), log.fileno())
        try:
            assert process.stdout is not None
            kill = threading.Timer(PROBE_LIMIT, _kill, (process,))
            kill.start()
            answer = process.stdout.readline()
            kill.cancel()
        finally:
            _kill(process)
        said = tail(folder / LOG, 0)
    try:
        message = _decode(answer)
    except msgspec.MsgspecError:
        message = Ended("unmeasured", said or "nothing was said")
    if isinstance(message, Heard) and message.device is not None:
        return message.device
    reason = message.reason if isinstance(message, Ended) else "it named none"
    raise MxbenchError(f"no device to measure on: {scrub(reason)}", "", EXIT_ENVIRONMENT)


# --- folders ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A new folder of one task, beside those of other tasks and of nothing else."""
    root = Path(tempfile.gettempdir()) / f"mxbench-tasks-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=root))
    try:
        yield folder.resolve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_folders(folder: Path) -> None:
    for name in ("home", caches.HAND_IN, caches.BASELINE, "tmp", "work", "state"):
        (folder / name).mkdir()


def _prepare(folder: Path, task: Task) -> None:
    _make_folders(folder)
    (folder / "order.json").write_bytes(msgspec.json.encode(task.order))
    (folder / "kit.zip").write_bytes(task.kit)
    (folder / "handin.zip").write_bytes(task.hand_in)
    if task.cache:
        with contextlib.suppress(Exception):  # a bad one costs compiling here, no more
            caches.unpack(task.cache, folder)


def environment(folder: Path, visible: str | None, mark: str) -> dict[str, str]:
    """What a hand-in's processes see of the environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PREFIXES)
    }
    # The measuring process imports mxbench from where this one did.
    kept["PYTHONPATH"] = os.pathsep.join(
        dict.fromkeys(p for p in map(os.path.abspath, sys.path) if p)
    )
    if visible is not None:
        kept.update(dict.fromkeys(VISIBLE_NAMES, visible))
    return {
        **kept,
        MARK: mark,
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "XDG_CONFIG_HOME": str(folder / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **caches.variables(folder / caches.HAND_IN),  # the baseline's workers get their own
    }


# --- the process --------------------------------------------------------------------------------


def _start(
    command: Sequence[str], folder: Path, visible: str | None, mark: str, log: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=folder / "work",
        env=environment(folder, visible, mark),
        stdin=subprocess.PIPE,  # its end tells the process that we are gone
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _kill_marked(mark: str) -> None:
    """End processes that left their group to outlive their task, by the mark they inherited."""
    wanted = f"{MARK}={mark}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)


class _Listener:
    """Starts the measuring process and hears what it says until its end, or the limit's."""

    def __init__(
        self, task: Task, folder: Path, on_record: Callable[[Record], None], stop: threading.Event
    ) -> None:
        self._task, self._folder, self._on_record, self._stop = task, folder, on_record, stop
        self._records: list[Record] = []
        self._device: DeviceInfo | None = None
        self._lint: tuple[str, ...] = ()
        self._lint_note = ""
        self._ended: Ended | None = None

    def result(self) -> Result:
        mark, log = secrets.token_hex(8), self._folder / LOG
        command = [sys.executable, "-m", self._task.inner, str(self._folder)]
        if self._task.walled:
            command = fence.around(command, self._folder, self._task.hidden)
        with log.open("ab") as file:
            process = _start(command, self._folder, self._task.order.visible, mark, file.fileno())
        try:
            in_time = self._listen(process)
        finally:
            _kill(process)
            process.wait()
            _kill_marked(mark)
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()
        return self._made(in_time, process.returncode, log)

    def _listen(self, process: subprocess.Popen[bytes]) -> bool:
        """Hear it out; False if it took too long."""
        lines: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=_read, args=(process, lines), daemon=True).start()
        deadline = time.monotonic() + self._task.order.limit
        while not self._stop.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            try:
                line = lines.get(timeout=min(left, 0.5))
            except queue.Empty:
                continue
            if line is None:
                break
            self._hear(line)
            if self._ended is not None:
                break
        return True

    def _hear(self, line: bytes) -> None:
        try:
            message = _decode(line)
        except msgspec.MsgspecError:  # nobody else has this pipe: a message cut by a kill
            return
        if isinstance(message, Ended):
            self._ended = message
            return
        if message.record is not None:
            self._records.append(message.record)
            self._on_record(message.record)
        if message.lint is not None:
            self._lint, self._lint_note = message.lint, message.lint_note
        self._device = message.device or self._device

    def _made(self, in_time: bool, code: int, log: Path) -> Result:
        if self._ended is not None:
            status, reason = self._ended.status, self._ended.reason
        elif not in_time:
            limit = self._task.order.limit
            status, reason = "time limit", f"not through within {limit:g} s"
        else:
            outside = self._task.walled and code in _OUTSIDE
            status = "unmeasured" if outside else "died"
            reason = f"its measuring process was gone: {cause_of_death(code)}"
        packed = self._folder / caches.PACKED
        return Result(
            status=status,
            reason=reason,
            device=self._device,
            records=tuple(self._records),
            lint=self._lint,
            lint_note=self._lint_note,
            said="" if status == "finished" else scrub(tail(log, 0, lines=20)),
            cache=packed.read_bytes() if packed.is_file() else b"",
        )


def _read(process: subprocess.Popen[bytes], lines: queue.Queue[bytes | None]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(OSError, ValueError):  # closed on the other side
        for line in process.stdout:
            lines.put(line)
    lines.put(None)

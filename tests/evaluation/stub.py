"""Stands in for the measuring process, without torch: a hand-in brings what it will come to.

`kernels/mla/mine.py` of a synthetic hand-in begins with `# {"kind": ..., "seconds": ...}`, and
`kernels/records.jsonl` holds the records of its cases. Speaks as `mxbench.evaluation.inner` does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path


def say(kind: str, **fields: object) -> None:
    print(json.dumps({"type": kind, **fields}), flush=True)


def main(folder: Path) -> None:
    try:
        with zipfile.ZipFile(folder / "handin.zip") as archive:
            head = archive.read("kernels/mla/mine.py").decode().splitlines()[0]
            lines = archive.read("kernels/records.jsonl").decode().splitlines()
    except (zipfile.BadZipFile, KeyError) as error:
        say("Ended", status="malformed", reason=str(error))
        return
    spec = json.loads(head.removeprefix("# "))
    order = json.loads((folder / "order.json").read_text())
    given = {(r["case"], r["kernel"]) for r in order["given"]}
    if order["stage"] == "compile":
        with tarfile.open(folder / "cache.tar", "w") as packed:
            packed.add(__file__, arcname="cache/tilelang/compiled")
        say("Ended", status="finished")
        return
    time.sleep(spec["seconds"])
    for number, line in enumerate(lines):
        if number == len(lines) // 2:
            misbehave(spec["kind"])
        record = json.loads(line)
        if (record["case"], record["kernel"]) not in given:
            say("Heard", record=record)
    compiled = (folder / "cache" / "tilelang" / "compiled").exists()
    say("Ended", status="finished", reason="compiled elsewhere" if compiled else "")


def misbehave(kind: str) -> None:
    if kind == "crashing":
        os._exit(3)
    if kind == "hanging":
        time.sleep(1000)
    if kind == "killing":  # the worker that started this process, if it can be reached
        os.kill(os.getppid() or os.getpid(), signal.SIGKILL)
        time.sleep(1000)


def die_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=die_with_parent, daemon=True).start()
    if sys.argv[1] == "--probe":
        say("Heard", device=json.loads(Path(__file__).with_name("device.json").read_text()))
    else:
        main(Path(sys.argv[1]))

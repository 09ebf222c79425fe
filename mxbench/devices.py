"""`--devices`: which GPUs of this machine take part. Imports no torch."""

from __future__ import annotations

import os
import subprocess
import sys

from .errors import EXIT_ENVIRONMENT, MxbenchError

ALL = "all"
VISIBLE = "CUDA_VISIBLE_DEVICES"
VISIBLE_NAMES = (VISIBLE, "MACA_VISIBLE_DEVICES")
"""Environment variables by which a process sees only some devices."""
_COUNT = "import torch; print(torch.cuda.device_count())"
_COUNT_LIMIT = 120.0  # seconds for importing torch and asking it


def parse(text: str) -> list[int] | None:
    """`0,1` as numbers, None for `all`.

    Raises:
        MxbenchError: exit code 2; it is neither, or a device stands twice.
    """
    if text == ALL:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise MxbenchError(f"--devices {text!r} is no list of devices", "write all, or 0,1")
    numbers = [int(word) for word in words]
    if len(set(numbers)) < len(numbers):
        raise MxbenchError(f"--devices {text} names a device twice", "each serves one case a time")
    return numbers


def visible(text: str | None, target: str) -> list[str | None]:
    """For each worker what `CUDA_VISIBLE_DEVICES` must be; None to leave it as it is.

    On a CPU the numbers are just so many worker processes.

    Raises:
        MxbenchError: exit code 2, as `parse`, or there is no such device; 3, there is no GPU.
    """
    if text is None:
        return [None]
    numbers = parse(text)
    if target == "cpu":
        return [None] * len(numbers or [0])
    mine = os.environ.get(VISIBLE)
    there = [word for word in mine.split(",") if word] if mine is not None else None
    if numbers is None:
        return list(there or map(str, range(_count())))
    if there is None:
        return [str(number) for number in numbers]
    beyond = [number for number in numbers if number >= len(there)]
    if beyond:
        raise MxbenchError(
            f"--devices {text}: there is no device {beyond[0]}",
            f"{VISIBLE}={mine} leaves {len(there)}",
        )
    return [there[number] for number in numbers]


def require_apart(kind: str, workers: int, command: str) -> None:
    """See that what is timed has a device for itself.

    Args:
        kind: of the device that the workers found.

    Raises:
        MxbenchError: exit code 2; the workers share a CPU.
    """
    if kind == "cpu" and workers > 1:
        raise MxbenchError(
            f"{command} times one case at a time, and a CPU is one device",
            "leave --devices out; check, fuzz and doctor may use it on a CPU",
        )


def _count() -> int:
    """GPUs that torch sees, asked in a process of its own: this one shall not import it."""
    environ = {**os.environ, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _COUNT],
            env=environ,
            capture_output=True,
            text=True,
            timeout=_COUNT_LIMIT,
            check=True,
        )
        count = int(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        count = 0
    if not count:
        raise MxbenchError(
            "--devices all: torch sees no GPU",
            "on a CPU use --target cpu, with as many workers as --devices names (0,1)",
            EXIT_ENVIRONMENT,
        )
    return count

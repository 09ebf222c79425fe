"""A public judge's problem folder in the worker: imported, asked for its cases, its code called.

The module is somebody else's: whatever it raises is a `Theirs`, whatever it prints is kept apart.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import math
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..publicjudge.messages import ProblemCase, ProblemOpened
from ..record import scrub
from . import faults

CONFIG = "testcase_config.py"
FUNCTIONS = ("getNumOfTestcases", "getTestCaseSize", "genTestCase", "baseline", "check")
CLASSES = ("INPUT", "OUTPUT", "INOUT")
OPTIONAL = ("TESTCASES", "getWorkload", "DESIGNED_VRAM_SIZE")
MOST_CASES = 10_000


class Theirs(Exception):
    """A fault of the problem's own code."""

    def __init__(self, message: str, hint: str = "", memory: bool = False) -> None:
        super().__init__(message)
        self.message, self.hint, self.memory = message, hint, memory


@dataclass
class Problem:
    """An imported problem module."""

    folder: Path
    module: types.ModuleType
    said: list[str] = field(default_factory=list)
    """What its code printed since this was last emptied."""

    @property
    def classes(self) -> list[str]:
        return list(self.module.INPUT_CLASS)

    def call(self, name: str, *args: Any, stdin: str = "", **options: Any) -> Any:
        """`name(*args)` of the module.

        Raises:
            Theirs: it raised.
        """
        function = getattr(self.module, name)
        with self.guard(f"the problem's {name}", stdin):
            return function(*args, **options)

    def case(self, number: int) -> ProblemCase:
        """What `getTestCaseSize` says of a case; it is called before `genTestCase`, which may
        rely on that.

        Raises:
            Theirs: it raised, or said something else than shapes and counts.
        """
        said = self.call("getTestCaseSize", stdin=f"{number}\n")
        warmup, repeat = 3, 30  # where a problem gives shapes alone, as the judge does
        sizes = said
        if isinstance(said, tuple) and len(said) == 2:
            sizes = said[0]
            try:
                warmup, repeat = (int(n) for n in said[1])
            except (TypeError, ValueError):
                raise _odd(number, f"counts {said[1]!r}", "(warm-ups, iterations)") from None
        try:
            shapes = [[int(n) for n in size] for size in sizes]
        except (TypeError, ValueError):
            raise _odd(number, repr(sizes)[:200], "a shape for each argument") from None
        if warmup < 0 or repeat < 1:
            raise _odd(number, f"counts {warmup}, {repeat}", "at least one iteration")
        return ProblemCase(
            number=number, sizes=shapes, warmup=warmup, repeat=repeat, **self._work(shapes)
        )

    def _work(self, sizes: list[list[int]]) -> dict[str, float]:
        """FLOPs and bytes as the problem counts them; nothing where it does not."""
        if not hasattr(self.module, "getWorkload"):
            return {}
        try:
            said = self.call("getWorkload", [tuple(size) for size in sizes])
            found = {"flops": float(said["flops"]), "bytes": float(said["memory_bytes"])}
        except (Theirs, TypeError, KeyError, ValueError):
            return {}  # it only decides what is shown beside a time
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def draw(self, case: ProblemCase, device: str) -> list[Any]:
        """The case's arguments, on `device` if the problem lets one choose.

        Raises:
            Theirs: `genTestCase` raised, or returned something else than an argument a class.
        """
        again = self.case(case.number)  # modules keep the current case in a global
        generate = self.module.genTestCase
        options = {"device": device} if "device" in inspect.signature(generate).parameters else {}
        try:
            drawn = self.call("genTestCase", again.shapes, **options)
        except Theirs as fault:
            if device == "cpu" and not options:
                fault.hint = "it has no device argument: judge it on a GPU"
            raise
        if not isinstance(drawn, list | tuple):
            raise Theirs(f"the problem's genTestCase returned a {type(drawn).__name__}, not a list")
        if len(drawn) != len(self.classes):
            raise Theirs(
                f"the problem's genTestCase returned {len(drawn)} arguments, "
                f"INPUT_CLASS names {len(self.classes)}"
            )
        return [self._placed(i, arg, device) for i, arg in enumerate(drawn)]

    def _placed(self, number: int, arg: Any, device: str) -> Any:
        if isinstance(arg, torch.Tensor) and arg.device.type != device:
            raise Theirs(
                f"the problem's genTestCase put argument {number} on {arg.device.type}, "
                f"and the target's tensors are on {device}"
            )
        return arg

    def accepts(self, *args: Any) -> bool:
        """The problem's own verdict.

        Raises:
            Theirs: `check` raised, or returned no truth value.
        """
        said = self.call("check", *args)
        with self.guard("the truth value of what the problem's check returned"):
            return bool(said)

    @contextlib.contextmanager
    def guard(self, what: str, stdin: str = "") -> Iterator[None]:
        """Their code: output to `said`, `stdin` as standard input, exceptions as Theirs."""
        out, before = io.StringIO(), sys.stdin
        sys.stdin = io.StringIO(stdin)
        try:
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(out),
                torch.no_grad(),
            ):
                yield
        except (Exception, SystemExit) as error:
            message = f"{what} raised {faults.describe(error, self.folder)}"
            raise Theirs(message, memory=faults.is_out_of_memory(error)) from error
        finally:
            sys.stdin = before
            if text := out.getvalue().strip():
                self.said.append(scrub(text))


def _odd(number: int, found: str, wanted: str) -> Theirs:
    return Theirs(
        f"the problem's getTestCaseSize said {found} of case {number}", f"expected {wanted}"
    )


def load(folder: Path) -> Problem:
    """Import a problem's module.

    Raises:
        Theirs: it does not import, or lacks a name that the format requires.
    """
    path = folder / CONFIG
    spec = importlib.util.spec_from_file_location(f"_problem_{folder.name}", path)
    assert spec is not None and spec.loader is not None
    problem = Problem(folder, importlib.util.module_from_spec(spec))
    with problem.guard(f"{CONFIG}, when imported,"):
        spec.loader.exec_module(problem.module)
    missing = [name for name in (*FUNCTIONS, "INPUT_CLASS") if not hasattr(problem.module, name)]
    if missing:
        raise Theirs(
            f"{CONFIG} defines no {', '.join(missing)}",
            "the format requires it; a `try: ... except: pass` may hide why it is missing",
        )
    classes = problem.module.INPUT_CLASS
    odd = [c for c in classes if c not in CLASSES] if isinstance(classes, list | tuple) else ["?"]
    if odd or not classes:
        raise Theirs(
            f"{CONFIG}: INPUT_CLASS holds {odd[0] if odd else 'nothing'!r}",
            f"expected a list with {', '.join(CLASSES)} for each argument",
        )
    return problem


def describe(problem: Problem) -> ProblemOpened:
    """A problem's cases.

    Raises:
        Theirs: what its functions say does not fit together.
    """
    count = problem.call("getNumOfTestcases")
    if not isinstance(count, int) or not 1 <= count <= MOST_CASES:
        raise Theirs(f"the problem's getNumOfTestcases returned {count!r}", "expected a count")
    first, notes = _first_number(problem, count)
    cases = [problem.case(first + i) for i in range(count)]
    for case in cases:
        if len(case.sizes) != len(problem.classes):
            raise Theirs(
                f"{CONFIG}: INPUT_CLASS names {len(problem.classes)} arguments, getTestCaseSize "
                f"gives {len(case.sizes)} sizes for case {case.number}",
                "both must say one thing for each argument of run_kernel, in order",
            )
    notes += [f"{CONFIG} has no {name}" for name in OPTIONAL if not hasattr(problem.module, name)]
    listed = getattr(problem.module, "TESTCASES", None)
    if isinstance(listed, list | tuple) and len(listed) != count:
        notes.append(f"getNumOfTestcases says {count}, TESTCASES has {len(listed)}")
    vram = getattr(problem.module, "DESIGNED_VRAM_SIZE", None)
    return ProblemOpened(
        cases=cases,
        classes=problem.classes,
        vram=float(vram) if isinstance(vram, int | float) else None,
        notes=notes,
    )


def _first_number(problem: Problem, count: int) -> tuple[int, list[str]]:
    """Whether cases count from 1, as most problems do, or from 0.

    A problem answers a number that it does not have with an error, or with its first case.
    """
    zero, last = _try(problem, 0), _try(problem, count)
    if zero is None:
        return 1, []
    if last is None:
        return 0, ["cases count from 0"]
    one = _try(problem, 1)
    if count > 1 and _same(zero, last) and not _same(zero, one):
        return 0, ["cases count from 0"]
    return 1, []


def _try(problem: Problem, number: int) -> ProblemCase | None:
    try:
        return problem.case(number)
    except Theirs:
        return None


def _same(one: ProblemCase | None, other: ProblemCase | None) -> bool:
    def content(case: ProblemCase | None) -> tuple[object, ...]:
        return () if case is None else (case.sizes, case.warmup, case.repeat)

    return content(one) == content(other)


def submission(path: Path, arity: int) -> Callable[..., object]:
    """`run_kernel` of a submission file.

    Raises:
        Theirs: it does not import, has none, or it does not take `arity` arguments.
    """
    name = f"_submission_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise Theirs(
            f"submission {path.name} does not import: {faults.describe(error, path.parent)}",
            "run the file on its own with Python to see the whole traceback",
        ) from error
    function = getattr(module, "run_kernel", None)
    if not callable(function):
        raise Theirs(f"submission {path.name} defines no function run_kernel", "define it")
    try:
        inspect.signature(function).bind(*range(arity))
    except TypeError as error:
        raise Theirs(
            f"submission {path.name}: run_kernel does not take the problem's {arity} arguments: "
            f"{error}",
            f"run_kernel{inspect.signature(function)} is what it takes",
        ) from None
    except ValueError:  # a builtin without a signature: the call will tell
        pass
    found: Callable[..., object] = function
    return found


def functions_of_torch() -> dict[tuple[int, str], object]:
    """What verdicts rest on: the functions of torch and the methods of its tensors."""
    return {
        (place, name): value
        for place, owner in enumerate((torch, torch.Tensor))
        for name, value in vars(owner).items()
        if callable(value)
    }


def replaced(before: dict[tuple[int, str], object]) -> str:
    """One of torch's functions that is another one now; empty if there is none."""
    now = functions_of_torch()
    for (place, name), value in before.items():
        if now.get((place, name)) is not value:
            return f"torch.{'Tensor.' * place}{name}"
    return ""

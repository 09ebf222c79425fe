"""A kernel of the workspace as one file for the public judge: `run_kernel` and all it needs."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import __version__, bundle, kernel
from .bundle import Symbol
from .errors import MxbenchError
from .ops import contract, operator
from .publicjudge.signature import Signature, signature_of
from .workspace import Workspace

TABLE = Symbol("common/schedule", "table")
DIALECT = (Symbol("common/dialect", "use"), Symbol("common/dialect", "Target"))
RESERVED = ("run_kernel", "SCHEDULES", "_prepare", "_target", "_prepared_for")
WIDTH = 100


@dataclass(frozen=True)
class Exported:
    """One submission file."""

    text: str
    modules: tuple[str, ...]
    """What it is made of."""
    left_out: tuple[str, ...] = field(default=())
    """Contracts of the kernel that the judge does not call."""


def export(workspace: Workspace, op: str, name: str, allowed: Iterable[str] = ()) -> Exported:
    """The submission file of kernel `name`.

    Args:
        allowed: lines that say which lint rules were waived, and why; they go into its head.

    Raises:
        MxbenchError: exit code 2; no such kernel, it lacks the judge's contract or has another
            signature, or it holds something that cannot go into one file.
    """
    signature = signature_of(op)
    found = kernel.find(workspace, op, name)
    found.require(contract(op, signature.contract))
    home = found.home or found.path.parent
    whole = bundle.bundle(
        found.path,
        home,
        [signature.contract],
        also=DIALECT,
        replaced={TABLE: _TABLES},
        reserved={*RESERVED, *signature.arguments},
    )
    imports = set(whole.imports)
    on_dialect = DIALECT[0] in whole.names
    if on_dialect:
        imports |= {"import torch"}
    tables = _schedules(workspace.kernels, found, [source for _, _, source in whole.modules])
    body = [
        _section(key, doc, source.replace(_TABLES, tables)) for key, doc, source in whole.modules
    ]
    parts = [
        _head(signature, found, allowed),
        "\n".join(bundle.merged(imports)),
        *body,
        _entry(signature, whole.names, f"{op}/{found.path.stem}", on_dialect),
    ]
    text = "\n\n\n".join(part.strip("\n") for part in parts) + "\n"
    ast.parse(text)  # a file that is not Python must never leave this function
    left = [n for n in operator(op).contracts if n in found.signatures and n != signature.contract]
    return Exported(text, tuple(key for key, _, _ in whole.modules), tuple(left))


MARK = "for the public judge."
"""Ends the first line of every exported file."""


def check_free(path: Path) -> None:
    """MxbenchError unless `path` may be written: a new .py file, or an earlier export."""
    if path.suffix != ".py":
        raise MxbenchError(f"--out {path} is not a .py file", "name one")
    try:
        first = path.read_text(encoding="utf-8").partition("\n")[0] if path.exists() else MARK
    except (OSError, UnicodeDecodeError) as error:
        raise MxbenchError(f"cannot read {path}: {error}", "name another file") from error
    if not first.endswith(MARK):
        raise MxbenchError(
            f"{path} exists, and `mxbench export` has not written it", "name another file"
        )


def write(path: Path, text: str) -> None:
    """Write the file; MxbenchError if that fails."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MxbenchError(
            f"cannot write {path}: {error.strerror}", "name a file in a folder that exists"
        ) from error


def _head(signature: Signature, found: kernel.Kernel, allowed: Iterable[str]) -> str:
    lines = [
        f'"""{signature.op} kernel `{found.name}` {MARK}',
        "",
        f"mxbench {__version__} wrote this file from kernels/{signature.op}/{found.path.name} "
        f"(source {found.sha}):",
        f"mxbench export {signature.op} --kernel {found.name}. Change it there.",
        "",
        "For cuda and maca with TileLang 0.1.9 or later, and for tests on a CPU with 0.1.15.",
        "The judge calls `run_kernel`, at the end of this file.",
        *(f"lint: {line}" for line in allowed),
        '"""',
    ]
    return "\n".join(lines)


def _section(key: str, doc: str, source: str) -> str:
    """A module's source below a line with its name, its docstring as comments."""
    rule = f"# ==== {key}.py " + "=" * max(4, WIDTH - len(key) - 11)
    said = [f"# {line}".rstrip() for line in doc.splitlines()]
    return "\n".join([rule, *said]) + "\n\n" + source.strip("\n")


# --- schedules ----------------------------------------------------------------------------------


_TABLES = "@schedules@"  # stands in the bundled source until it is known which are needed


def _schedules(kernels: Path, found: kernel.Kernel, sources: Iterable[str]) -> str:
    """`table` and the schedules it reads: those of this kernel whose programs the sources name."""
    others = {path.stem for path in (kernels / found.op).glob("[!_]*.py")}
    foreign = others - _imported_names(found) - {found.path.stem}
    words = set()
    for source in sources:
        tree = ast.parse(source.replace(_TABLES, ""))
        constants = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant))
        words |= {value for value in constants if isinstance(value, str)}

    def needed(program: str) -> bool:
        op, module, last = program.split("/")
        return op == found.op and module not in foreign and bool(words & {program, last})

    tables: dict[str, dict[str, list[Any]]] = {}
    for file in sorted((kernels / "common" / "schedules").glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        schedules = content["schedules"].items()
        tables[content["device_class"]] = {n: entries for n, entries in schedules if needed(n)}
    lines = ["# Device class -> program -> schedules; of each list the first whose `when` holds."]
    lines.append("SCHEDULES = {")
    for device, programs in tables.items():
        lines.append(f"    {_literal(device)}: {{")
        for program, entries in programs.items():
            lines.append(f"        {_literal(program)}: [")
            lines += [f"            {_literal(entry)}," for entry in entries]
            lines.append("        ],")
        lines.append("    },")
    lines += ["}", "", "", "def table(device_class):", '    """All schedules of a device class."""']
    lines.append("    return SCHEDULES[device_class]")
    return "\n".join(lines)


def _literal(value: Any) -> str:
    """A JSON value in Python's words, strings in double quotes."""
    text = json.dumps(value, ensure_ascii=False)
    parts = re.split(r'("(?:[^"\\]|\\.)*")', text)
    words = {"true": "True", "false": "False", "null": "None"}
    return "".join(
        part
        if part.startswith('"')
        else re.sub(r"\b(true|false|null)\b", lambda m: words[m.group()], part)
        for part in parts
    )


def _imported_names(found: kernel.Kernel) -> set[str]:
    """Stems of the modules in the kernel's folder that it imports, public ones included."""
    names = set()
    for node in ast.walk(found.tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names |= {node.module} if node.module else {alias.name for alias in node.names}
    return {name for name in names if name}


# --- the entry ----------------------------------------------------------------------------------

_PREPARE = '''
_prepared_for = None


def _prepare(device):
    """Compile for the device that the tensors are on; once, and again if that changes."""
    global _prepared_for
    if device != _prepared_for:
        {use}(_target(device))
        _prepared_for = device


def _target(device):
    if device.type == "cpu":
        return {Target}("cpu")
    name = torch.cuda.get_device_name(device).lower()
    sms = torch.cuda.get_device_properties(device).multi_processor_count
    maca = getattr(torch.version, "maca", None) or "+metax" in torch.__version__
    if maca or "metax" in name:
        return {Target}("maca", "", "maca-c500", sms)
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) == (9, 0):
        return {Target}("cuda", "sm_90a", "cuda-sm90", sms)
    return {Target}("cuda", f"sm_{{major}}{{minor}}", "cuda-sm80", sms)
'''


def _entry(signature: Signature, names: dict[Symbol, str], module: str, on_dialect: bool) -> str:
    function = names[next(s for s in names if s.module == module and s.name == signature.contract)]
    call = signature.call.replace(f"{signature.contract}(", f"{function}(", 1)
    lines = ["# ==== what the judge calls " + "=" * (WIDTH - 27)]
    if on_dialect:
        use, target = (names[symbol] for symbol in DIALECT)
        lines.append(_PREPARE.format(use=use, Target=target))
    lines += ["", *_wrapped("def run_kernel(", signature.arguments, "):")]
    outputs = contract(signature.op, signature.contract).outputs
    written = ", ".join(f"`{signature.tensors[name]}`" for name in outputs)
    lines.append(f'    """Write {written}; returns nothing."""')
    if on_dialect:
        lines.append(f"    _prepare({next(iter(signature.tensors.values()))}.device)")
    arguments = call.partition("(")[2][:-1].split(", ")
    lines += [f"    {line}" for line in _wrapped(f"{function}(", arguments, ")")]
    return "\n".join(lines)


def _wrapped(head: str, words: Iterable[str], tail: str) -> list[str]:
    """`head` word, word, ... `tail`: on one line if it fits, else a word a line."""
    one = f"{head}{', '.join(words)}{tail}"
    if len(one) <= WIDTH - 4:
        return [one]
    return [head, *(f"    {word}," for word in words), tail]

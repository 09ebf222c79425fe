"""What goes into a hand-in, and the README at its top."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..errors import MxbenchError
from ..workspace import Workspace

SOURCE, RESULTS, LOGS, EXTRA = "source", "results", "logs", "presentation"
PARTS = ("README.md", "LICENSE", "pyproject.toml", "mxbench", "kernels", "cases", "tests")
"""What of a workspace is source."""
PDF_NAMES = {
    "design.pdf": ("算法设计报告.pdf", "design-report.pdf"),
    "functional.pdf": ("功能测试报告.pdf", "functional-report.pdf"),
    "performance.pdf": ("性能测试报告.pdf", "performance-report.pdf"),
}
_SKIPPED = {"__pycache__", ".git", ".venv", "node_modules", ".mypy_cache", ".ruff_cache"}


def source_files(root: Path) -> list[Path]:
    """The files of a workspace's source, relative to it: what git has, else all but caches."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others"]
    command += ["--exclude-standard", "--", *PARTS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        listed = done.stdout.split("\0") if done.returncode == 0 else []
    except (OSError, subprocess.TimeoutExpired):
        listed = []
    found = [Path(name) for name in listed if name]
    if not found:
        tops = [root / part for part in PARTS]
        files = [p for top in tops for p in ([top] if top.is_file() else top.rglob("*"))]
        found = [p.relative_to(root) for p in files]
    return sorted(p for p in found if (root / p).is_file() and not _SKIPPED & set(p.parts))


def copy_source(workspace: Workspace, into: Path) -> None:
    """Copy the workspace's source.

    Raises:
        MxbenchError: exit code 2; there is none.
    """
    files = source_files(workspace.root)
    if not any(p.parts[0] == "kernels" for p in files):
        raise MxbenchError(
            f"no kernels/ in {workspace.root}: there is no source to hand in",
            "run from the folder that holds kernels/ and cases/",
        )
    for file in files:
        target = into / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(workspace.root / file, target)


def copy_named(paths: Sequence[Path], into: Path, option: str) -> None:
    """Copy files and folders given on the command line.

    Raises:
        MxbenchError: exit code 2; one is missing, or two have one name.
    """
    for path in paths:
        if not path.exists():
            raise MxbenchError(f"{option} {path}: there is no such file", "check the path")
        target = into / path.name
        if target.exists():
            raise MxbenchError(f"{option} {path}: a file of that name is in already", "rename it")
        into.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target)
        else:
            shutil.copy(path, target)


def write_readme(folder: Path, title: str, device: str, ops: Sequence[str], own: bool) -> None:
    """The README at the top: what is where, and how to build, test and time it.

    Args:
        own: whether the source holds mxbench itself, or only kernels and cases for it.
    """
    install = "pip install -e '.[dev]'" if own else f"pip install mxbench=={__version__}"
    tests = ["pytest"] if own else []
    check = [f"mxbench check {op} --suite functional" for op in ops]
    perf = [f"mxbench perf {op} --suite performance --baseline baseline" for op in ops]
    lines = "\n".join
    text = README.format(
        title=title, device=device, install=install, tests=lines([*tests, *check]), perf=lines(perf)
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


README = """# {title}

| 路径 | 内容 |
|---|---|
| `算法设计报告.pdf`、`功能测试报告.pdf`、`性能测试报告.pdf` | 技术文档，数字全部由运行日志生成 |
| `source/` | 源代码、用例与测试；各算子的设计文档在 `source/kernels/<op>/DESIGN.md` |
| `results/` | 运行日志 `journal.jsonl`（每行一条记录）、图表与编译器资源报告 |
| `logs/`、`presentation/` | 其他日志；幻灯片与视频（如有） |
| `MANIFEST.json` | 每个文件的 SHA-256 |

结果测自 {device}。

## 编译与安装

内核由 TileLang 即时编译，无需单独的编译步骤；Python ≥ 3.10。

```bash
cd source
python3 -m venv .venv && . .venv/bin/activate
{install}
```

## 功能测试

```bash
{tests}
```

## 性能测试

```bash
{perf}
```

## 由日志重新生成报告

```bash
mxbench report --journal ../results/journal.jsonl --out reports/ --pdf --html
```
"""


def write_manifest(folder: Path, device: str) -> None:
    """`MANIFEST.json`: the hash of every file, and what made it. No names, no times."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    hashes = {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }
    content = {"mxbench": __version__, "device": device, "files": hashes}
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
    (folder / "MANIFEST.json").write_text(text + "\n", encoding="utf-8")


def damaged(folder: Path) -> list[str]:
    """Files that the manifest names otherwise than they are; empty too without a manifest."""
    manifest = folder / "MANIFEST.json"
    if not manifest.is_file():
        return []
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        pairs = [(str(name), str(sha)) for name, sha in files.items()]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ["MANIFEST.json: not a manifest"]
    found = []
    for name, sha in pairs:
        path = folder / name
        if ".." in Path(name).parts or not path.is_file():
            found.append(f"{name}: in the manifest, but not there")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != sha:
            found.append(f"{name}: changed since it was packed")
    return found

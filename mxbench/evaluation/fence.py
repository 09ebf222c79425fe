"""Linux namespaces around a hand-in: it sees neither others' files nor anybody's processes.

So it can signal nothing outside; nor kill the process that measures it, which is the first one of
its namespace, and which Linux therefore spares. When one of these is killed, it was somebody else,
or the machine for want of memory.

Needs `unshare` and a kernel that lets users make namespaces; where either is missing the hand-in
runs without, in folders of its own still, and the evaluation says so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

_TRY_LIMIT = 20.0  # seconds
_NAMESPACES = (
    "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child",
    "--mount-proc",
)  # fmt: skip
# Covers folders with empty ones and files with nothing, then the common folder of all hand-ins but
# for this one's own. The second `unshare` gives up the right to undo any of it.
_SCRIPT = """
set -e
root=$1 own=$2; shift 2
exec 9<"$own"
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mount -t tmpfs none "$1"
  elif [ -e "$1" ]; then mount --bind /dev/null "$1"; fi
  shift
done
shift
mount -t tmpfs none "$root"
mkdir -p "$own"
mount -c --bind /proc/self/fd/9 "$own"
exec 9<&-
cd "$own/work"
exec unshare --user --map-current-user -- "$@"
"""


@cache
def available() -> bool:
    """Whether such namespaces can be made here."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    command = [*_NAMESPACES, "unshare", "--user", "--map-current-user", "true"]
    try:
        return not subprocess.run(
            command, capture_output=True, timeout=_TRY_LIMIT, check=False
        ).returncode
    except (OSError, subprocess.SubprocessError):
        return False


def around(command: Sequence[str], folder: Path, hidden: Iterable[str]) -> list[str]:
    """`command` behind the fence: of its folder's siblings and of `hidden` it sees nothing."""
    # What the process itself needs stays: covering it would keep it from starting.
    needed = [Path(p).resolve() for p in (*sys.path, sys.prefix, sys.base_prefix, str(folder)) if p]
    covered = [
        path
        for path in hidden
        if Path(path).exists() and not any(n.is_relative_to(Path(path).resolve()) for n in needed)
    ]
    script = ["sh", "-c", _SCRIPT, "fence", str(folder.parent), str(folder), *covered, "--"]
    return [*_NAMESPACES, *script, *command]

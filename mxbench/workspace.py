"""Where kernels/, cases/ and reports/ are: the current folder upwards, else the bundled copies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import MxbenchError

_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Workspace:
    """The folders of one checkout, or of the installed package plus the current folder."""

    kernels: Path
    cases: Path
    root: Path
    """Where `.mxbench/` and `reports/` go."""

    @property
    def state(self) -> Path:
        """Folder of the user's own runs and journals."""
        return self.root / ".mxbench"

    @property
    def reports(self) -> Path:
        return self.root / "reports"


def _holds_workspace(folder: Path) -> bool:
    return (folder / "kernels" / "common").is_dir() and (folder / "cases").is_dir()


def bundled() -> Workspace:
    """The kernels and cases that travel with the package; runs go to the current folder."""
    for folder in (_PACKAGE / "_bundled", _PACKAGE.parent):
        if _holds_workspace(folder):
            return Workspace(folder / "kernels", folder / "cases", Path.cwd())
    raise MxbenchError(
        "this installation of mxbench has no kernels/ and cases/",
        "reinstall it, or run from a checkout",
    )


def find(start: Path | None = None) -> Workspace:
    """The workspace around `start` (default: the current folder)."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if _holds_workspace(folder):
            return Workspace(folder / "kernels", folder / "cases", folder)
    return bundled()

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mxbench.runner.supervisor import Supervisor

from .. import sandbox


@pytest.fixture(scope="package")
def workspace_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sandbox.make(tmp_path_factory.mktemp("sandbox"))


@pytest.fixture(scope="package")
def supervisor(workspace_root: Path) -> Iterator[Supervisor]:
    """One supervisor on the CPU for all tests: importing torch takes seconds."""
    log = workspace_root / "worker.log"
    with Supervisor(workspace_root / "kernels", "cpu", log, timeout=10) as one:
        one.start()
        yield one

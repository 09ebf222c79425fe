"""`mxbench new`."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options


def new_command(
    op: Annotated[str, typer.Argument(metavar="OP", help="moe, mla or nsa.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the new kernel.")],
    source: Annotated[
        str,
        typer.Option("--from", metavar="NAME", help="The kernel to copy."),
    ] = "baseline",
    json: options.Json = False,
) -> None:
    """A kernel module to begin from: a copy of the contest sample's algorithm that passes check."""
    from .. import newkernel, workspace

    here = workspace.find()
    path = newkernel.create(here, op, name, source)
    if json:
        import msgspec

        document = {"schema": 1, "op": op, "kernel": name, "path": str(path)}
        print(msgspec.json.encode(document).decode())
        return
    print(path)
    print(f"check it:        mxbench check {op} --kernel {name}")
    print(f"check on save:   mxbench watch {op} --kernel {name}")
    print(f"against another: mxbench compare {op} baseline {name}")

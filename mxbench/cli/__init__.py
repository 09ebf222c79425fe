"""The command line: parse, call, print. Imports nothing heavy at module level."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .. import __version__
from ..errors import EXIT_INTERRUPTED, MxbenchError
from .browse import env_command, list_command, show_command
from .check import check_command
from .compare import compare_command
from .doctor import doctor_command
from .evaluate import evaluate_command
from .export import export_command
from .fuzz import fuzz_command
from .imports import import_command
from .judge import judge_command
from .lint import lint_command
from .new import new_command
from .package import package_command
from .perf import perf_command
from .rank import rank_command
from .report import report_command
from .score import score_command
from .tune import tune_command
from .watch import watch_command

app = typer.Typer(
    name="mxbench",
    help="Check and time TileLang kernels of Fused MoE, DeepSeek MLA and Native Sparse Attention.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("check")(check_command)
app.command("perf")(perf_command)
app.command("report")(report_command)
app.command("package")(package_command)
app.command("doctor")(doctor_command)
app.command("fuzz")(fuzz_command)
app.command("score")(score_command)
app.command("export")(export_command)
app.command("judge")(judge_command)
app.command("import")(import_command)
app.command("lint")(lint_command)
app.command("rank")(rank_command)
app.command("evaluate")(evaluate_command)
app.command("compare")(compare_command)
app.command("tune")(tune_command)
app.command("new")(new_command)
app.command("watch")(watch_command)
app.command("list")(list_command)
app.command("show")(show_command)
app.command("env")(env_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mxbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: errors that the user can fix become one message and an exit code."""
    try:
        app()
    except MxbenchError as error:
        sys.stdout.flush()
        print(f"error: {error.message}", file=sys.stderr)
        for line in error.hint.splitlines():
            print(f"  hint: {line.strip()}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)

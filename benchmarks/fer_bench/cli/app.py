"""The command, to which each module beside this one adds its own."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

EXAMPLES = """
**Examples**

  fer-bench                                     this machine, in a minute or two

  fer-bench --quick --threads 1,2,4 --size 640x480,1920x1080 --faces 1,4,8

  fer-bench --precision int8,fp32 --data fer2013.csv.gz --json out.json

  fer-bench --baseline all --baseline-python fer=venv-fer/bin/python

  fer-bench targets --baseline-python fer=venv-fer/bin/python --readme speed.md

  fer-bench compare before.json after.json      exit code 1 when something got slower

  fer-bench report out.json -o page.html

  fer-bench detection fer2013.csv.gz            which faces are found, and false alarms

Exit codes: 0 done, 1 something failed or got slower, 2 wrong usage.
"""


class _RunByDefault(TyperGroup):
    """``fer-bench --quick`` is ``fer-bench run --quick``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["run", *args]
        return list(super().parse_args(ctx, args))


app = typer.Typer(
    cls=_RunByDefault,
    add_completion=False,
    no_args_is_help=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="How fast the pipeline is on this machine, and how far from what it could be.",
    epilog=EXAMPLES,
)

"""Tables that read well however wide the terminal is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_LEAST_NAME = 20
_ENDLESS = 10_000


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: its heading.
        style: of what stands in it.
        right: whether it is set flush right.
        weight: columns with the least are left out first where there is no room for all.
    """

    title: str
    style: str = ""
    right: bool = False
    weight: int = 0


def terminal() -> Console:
    """Standard output; where that is no terminal, nothing in it is cut to a width."""
    from rich.console import Console

    console = Console()
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(width=_ENDLESS)


def fitted(console: Console, columns: Sequence[Column], rows: Sequence[dict[str, str]]) -> Table:
    """A table as wide as a console at most, in which nothing is broken over two lines.

    Columns are left out, then the paths in the first one lose their beginnings: a file's name and
    what was found in it say more than where it is.

    Args:
        console: where it will be printed.
        columns: the first holds paths.
        rows: by the columns' titles; what is missing stays empty.
    """
    from rich.cells import cell_len

    first, *others = columns
    longest = max(cell_len(row.get(first.title, "")) for row in rows)
    while True:
        bare = _table((first, *others), [{**row, first.title: ""} for row in rows])
        room = console.width - console.measure(bare).maximum + cell_len(first.title)
        if room >= min(longest, _LEAST_NAME) or len(others) == 1:
            break
        others.remove(min(others, key=lambda column: column.weight))
    short = [{**row, first.title: shortened(row.get(first.title, ""), room)} for row in rows]
    return _table((first, *others), short)


def _table(columns: Sequence[Column], rows: Sequence[dict[str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row.get(one.title, ""), style=one.style) for one in columns))
    return table


def shortened(path: str, room: int) -> str:
    """The end of a path that takes no more than so many columns of a terminal.

    Whole folders go before parts of names; of a name that is too long itself, the middle.
    """
    from rich.cells import cell_len, set_cell_size

    if cell_len(path) <= room:
        return path
    *folders, name = path.replace(os.sep, "/").split("/")
    while folders:
        del folders[0]
        short = "/".join(["…", *folders, name])
        if cell_len(short) <= room:
            return short
    if cell_len(name) <= room:
        return name
    ending = name[-min(len(name) // 2, max(room - 2, 0) // 2, 8) :] if room > 3 else ""
    while ending and cell_len(ending) > room // 2:
        ending = ending[1:]
    begin = set_cell_size(name, max(room - 1 - cell_len(ending), 0)).rstrip()
    return f"{begin}…{ending}"

"""Tables that explain something: as text, in Markdown, and in HTML for notebooks."""

import functools
import html
import inspect
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

from .memory_plan import MemoryPlan

WIDTH = 100
"""How many columns of text there are at most."""


class Row(NamedTuple):
    """A line of a table, and what stands in lines of its own below it."""

    cells: Sequence[str]
    below: Sequence[str] = ()


class Table(NamedTuple):
    """A table with a title; `below` is a column too, the second, where there is room for it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    below: str = ""
    closing: str = ""

    def text(self) -> str:
        """As plain text, `WIDTH` columns wide at most."""
        lines = textwrap.wrap(self.title, WIDTH, **_indents("", more="    "))
        every = [Row(self.columns), *self.rows] if self.columns else []
        widths = _widths([row.cells for row in every])
        for cells, below in every:
            lines += _wrapped(cells, widths)
            indent = " " * (4 + _indent_of(cells[0]))
            for line in below:
                lines += textwrap.wrap(line, WIDTH, **_indents(indent, more="    "))
        return "\n".join([*lines, *textwrap.wrap(self.closing, WIDTH, **_indents(""))])

    def markdown(self) -> str:
        """As a table of Markdown."""
        lines = [f"**{self.title}**", ""] if self.title else []
        if not self.columns:
            return lines[0]
        columns, rows = self._flat("<br>", _code)
        lines += [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        lines += [f"| {' | '.join(cells)} |" for cells in rows]
        return "\n".join([*lines, *(["", self.closing] if self.closing else [])])

    def html(self) -> str:
        """As a table of HTML."""
        title = f"<p><b>{html.escape(self.title)}</b></p>" if self.title else ""
        if not self.columns:
            return title
        columns, rows = self._flat("<br>", _html_code)
        head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
        left = ' style="text-align: left"'
        body = "".join(
            f"<tr>{''.join(f'<td{left}>{cell}</td>' for cell in cells)}</tr>" for cells in rows
        )
        closing = f"<p>{html.escape(self.closing)}</p>" if self.closing else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return title + table + closing

    def _flat(self, between: str, code: Any) -> tuple[list[str], list[list[str]]]:
        """Columns and cells, with what is below as a column."""
        first, *others = self.columns
        columns = [first, *([self.below] if self.below else []), *others]
        rows = []
        for cells, below in self.rows:
            one, *more = (code(cell) for cell in cells)
            column = [between.join(map(code, below))] if self.below else []
            rows.append([one, *column, *more])
        return columns, rows


class Explanation(str):
    """A text that is a table in Markdown and in notebooks too: print it, or show it there."""

    tables: tuple[Table, ...]

    memory: MemoryPlan | None
    """The bytes that the tables tell, as numbers."""

    def __new__(cls, tables: Iterable[Table], memory: MemoryPlan | None = None) -> Self:
        tables = tuple(tables)
        made = super().__new__(cls, "\n\n".join(table.text() for table in tables))
        made.tables, made.memory = tables, memory
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.tables, self.memory

    def markdown(self) -> str:
        """The same in Markdown."""
        return "\n\n".join(table.markdown() for table in self.tables)

    def _repr_html_(self) -> str:
        return "".join(table.html() for table in self.tables)


@functools.singledispatch
def html_of(x: Any) -> str:
    """How a notebook shows `x`: what knows more of a kind of object registers a function."""
    return f"<pre>{html.escape(repr(x))}</pre>"


def in_bytes(count: float) -> str:
    """A number of bytes in a readable unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column: that of its cells, or less where there is no room."""
    if not rows:
        return []
    wide = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    room = WIDTH - 2 * (len(wide) - 1)
    while sum(wide) > room:
        widest = max(range(len(wide)), key=wide.__getitem__)
        others = sum(wide) - wide[widest]
        second = max((w for i, w in enumerate(wide) if i != widest), default=0)
        wide[widest] = max(room - others, min(second, wide[widest] - 1), 8)
    return wide


def _wrapped(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    columns = [
        textwrap.wrap(cell, width, break_on_hyphens=False) or [""]
        for cell, width in zip(cells, widths, strict=True)
    ]
    lines = []
    for i in range(max(map(len, columns))):
        parts = [
            (column[i] if i < len(column) else "").ljust(width)
            for column, width in zip(columns, widths, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return lines


def _indents(first: str, more: str = "") -> dict[str, Any]:
    indents = {"initial_indent": first, "subsequent_indent": first + more}
    return {**indents, "break_on_hyphens": False}


def _indent_of(cell: str) -> int:
    return len(cell) - len(cell.lstrip())


SPACE = "\N{NO-BREAK SPACE}"


def _code(cell: str) -> str:
    return f"`{_spaced(cell)}`".replace("|", "\\|") if cell else ""


def _html_code(cell: str) -> str:
    return f"<code>{html.escape(_spaced(cell))}</code>" if cell else ""


def _spaced(cell: str) -> str:
    """With spaces that stay where several stand together, or at the beginning."""
    lead = _indent_of(cell)
    return SPACE * lead + cell[lead:].replace("  ", 2 * SPACE)


def summary(made: Any) -> str:
    """The first sentence of a docstring, without its markup."""
    lines = (inspect.getdoc(made) or "").split("\n\n")[0]
    return lines.replace("\n", " ").replace("`", "")

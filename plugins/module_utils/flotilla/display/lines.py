"""Lines of output: spans of text with a style, and the shapes that they come in. Widths are columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

LABEL_WIDTH = 24
STATE_WIDTH = 13
INDENT = "  "


class Style(StrEnum):
    """What a span means; the plugin chooses the colour."""

    PLAIN = "plain"
    HEADING = "heading"
    OK = "ok"
    CHANGED = "changed"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    SKIPPED = "skipped"
    WARNING = "warning"
    FAINT = "faint"
    ADDED = "added"
    REMOVED = "removed"
    HUNK = "hunk"


class State(StrEnum):
    """What became of a task, a section or a run on a host, in the word that is shown."""

    OK = "ok"
    CHANGED = "changed"
    WOULD_CHANGE = "would change"
    SKIPPED = "skipped"
    IGNORED = "ignored"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


STYLES: Mapping[State, Style] = {
    State.OK: Style.OK,
    State.CHANGED: Style.CHANGED,
    State.WOULD_CHANGE: Style.CHANGED,
    State.SKIPPED: Style.SKIPPED,
    State.IGNORED: Style.WARNING,
    State.FAILED: Style.FAILED,
    State.UNREACHABLE: Style.UNREACHABLE,
}


@dataclass(frozen=True)
class Span:
    """Some text in one style."""

    text: str
    style: Style = Style.PLAIN


Line = tuple[Span, ...]


def line(text: str = "", style: Style = Style.PLAIN) -> Line:
    """A line in one style."""
    return (Span(text, style),)


def plain(spans: Line) -> str:
    """The text of a line."""
    return "".join(span.text for span in spans)


def in_seconds(value: float) -> str:
    """A duration as people read it: `0.4 s`, `62.3 s`, `12 min 5 s`."""
    if value < 600:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"


def count(number: int, word: str) -> str:
    """`1 host`, `2 hosts`."""
    return f"{number} {word}" + ("" if number == 1 else "s")


def listed(names: Sequence[str], most: int = 4) -> str:
    """`a, b and 3 more`, in the order given."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def heading(title: str) -> list[Line]:
    """A play."""
    return [line(), line(title, Style.HEADING)]


def subheading(title: str) -> Line:
    """One round of a loop over task files: an app, a batch."""
    return line(INDENT + title, Style.HEADING)


def host_line(label: str, host: str, state: State, seconds: float, *, width: int, note: str = "") -> Line:
    """What became of a host, in columns; `width` is that of the widest host name."""
    spans = [
        Span(f"{INDENT}{label:<{LABEL_WIDTH}} {host:<{width}} "),
        Span(f"{state:<{STATE_WIDTH}}", STYLES[state]),
        Span(f"{in_seconds(seconds):>7}"),
    ]
    if note:
        spans.append(Span(f"  {note}", Style.FAINT))
    return tuple(spans)


def block(state: State, title: str, place: str, body: Iterable[str]) -> list[Line]:
    """A failure: what, where, and everything it said, one line each."""
    style = STYLES[state]
    lines = [line(f"{INDENT}{state}: {title}", style)]
    if place:
        lines.append(line(f"{INDENT * 2}{place}", Style.FAINT))
    lines += [line(f"{INDENT * 2}{text}".rstrip(), style) for text in body]
    return lines


def message(text: Sequence[str], who: str = "") -> list[Line]:
    """What a playbook says to people. `who` is the host, where hosts may say different things."""
    if not text:
        return []
    if not who:
        return [line(part) for part in text]
    if len(text) == 1:
        return [line(f"{INDENT}{who}: {text[0]}")]
    return [line(f"{INDENT}{who}:"), *(line(f"{INDENT * 2}{part}") for part in text)]


def diff_lines(text: str) -> list[Line]:
    """A unified diff, indented, with its own styles."""
    styles = {"+": Style.ADDED, "-": Style.REMOVED, "@": Style.HUNK}
    return [line(f"{INDENT * 2}{row}", styles.get(row[:1], Style.PLAIN)) for row in text.rstrip("\n").split("\n")]


@dataclass(frozen=True)
class HostTotals:
    """One host's row of the closing table."""

    host: str
    changed: int
    failed: int
    unreachable: int
    seconds: float


def table(rows: Sequence[HostTotals], *, changed: str = "changed") -> list[Line]:
    """The closing table; numbers that matter have a colour. `changed` names its column."""
    if not rows:
        return []
    width = max(len("host"), *(len(row.host) for row in rows))
    lines = [line(), line(f"{'host':<{width}}  {changed:>12}  failed  unreachable  {'seconds':>8}", Style.FAINT)]
    for row in rows:
        lines.append(
            (
                Span(f"{row.host:<{width}}  "),
                Span(f"{row.changed:>12}", Style.CHANGED if row.changed else Style.OK),
                Span(f"  {row.failed:>6}", Style.FAILED if row.failed else Style.OK),
                Span(f"  {row.unreachable:>11}", Style.UNREACHABLE if row.unreachable else Style.OK),
                Span(f"  {row.seconds:>8.1f}"),
            )
        )
    return lines

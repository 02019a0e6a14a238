"""Results as lines that a person can read: no JSON, no `\\n`, nothing of what Ansible keeps for itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# In a failure these are said first and in this order; the rest follows.
SPOKEN = ("msg", "explanation", "reason", "rc", "cmd", "stdout", "stderr", "module_stdout", "module_stderr")
TITLES = {"rc": "exit code", "module_stdout": "the module's output", "module_stderr": "the module's errors"}
# Said elsewhere, or of no use to a person.
SILENT = frozenset(
    {
        "ansible_facts",
        "ansible_loop_var",
        "attempts",
        "changed",
        "changed_when_result",
        "delta",
        "deprecations",
        "diff",
        "end",
        "exception",
        "failed",
        "failed_when_result",
        "invocation",
        "item",
        "results",
        "retries",
        "skip_reason",
        "skipped",
        "start",
        "stderr_lines",
        "stdout_lines",
        "unreachable",
        "warnings",
    }
)
SHORT = 160


def text_lines(value: Any) -> list[str]:
    """A text, or a list of texts, as lines; anything else as its dump."""
    if isinstance(value, str):
        return rows_of(value.expandtabs(4)) if value.strip() else []
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return [row for part in value for row in rows_of(part)]
    return dump(value)


def rows_of(text: str) -> list[str]:
    """The lines of a text. A newline alone ends one: what else moves the cursor (`\\r`) is shown, not obeyed."""
    return text.rstrip().replace("\r\n", "\n").split("\n")


def dump(value: Any, indent: int = 0) -> list[str]:
    """A value in the shape of YAML, texts of several lines as lines."""
    pad = "  " * indent
    if isinstance(value, Mapping) and value:
        return [row for key, inner in value.items() for row in _named(f"{pad}{key}:", inner, indent)]
    if isinstance(value, (list, tuple)) and value:
        return [row for inner in value for row in _listed(inner, indent)]
    return [pad + row for row in rows_of(scalar(value))]


def scalar(value: Any) -> str:
    """One word for what is neither a list nor a mapping with something in it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    return str(value) if str(value) else '""'


def _named(label: str, value: Any, indent: int) -> list[str]:
    if isinstance(value, (Mapping, list, tuple)) and value:
        return [label, *dump(value, indent + 1)]
    if isinstance(value, str) and "\n" in value.strip():
        return [label, *("  " * (indent + 1) + row for row in rows_of(value))]
    return [f"{label} {scalar(value).strip()}"]


def _listed(value: Any, indent: int) -> list[str]:
    pad = "  " * indent
    inner = dump(value, indent + 1)
    return [f"{pad}- {inner[0].lstrip()}", *inner[1:]]


def shown(data: Mapping[str, Any], *, everything: bool) -> dict[str, Any]:
    """A result without what Ansible keeps for itself; `everything` keeps the module's arguments and the facts."""
    keep = {"invocation", "ansible_facts", "diff", "results", "start", "end", "delta", "item"} if everything else set()
    return {
        key: value
        for key, value in data.items()
        if not key.startswith("_ansible_") and (key not in SILENT or key in keep)
    }


def failure(data: Mapping[str, Any], *, verbosity: int = 0) -> list[str]:
    """Everything that a failed result says. What is long and has no known meaning waits for -v."""
    if "censored" in data:
        return text_lines(data["censored"])
    left = shown(data, everything=verbosity > 2)
    rows: list[str] = []
    for key in SPOKEN:
        value = left.pop(key, None)
        if value in (None, "", []):
            continue
        if key in ("msg", "explanation", "reason"):
            rows += [row for row in text_lines(value) if row not in rows]
        elif key == "cmd":
            rows.append(f"command: {' '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}")
        else:
            rows += _titled(TITLES.get(key, key), value)
    held_back = []
    for key, value in left.items():
        said = dump({key: value})
        if verbosity > 0 or sum(map(len, said)) <= SHORT:
            rows += said
        else:
            held_back.append(key)
    trace = str(data.get("exception") or "")
    if verbosity > 2 or "Traceback" in trace:
        rows += text_lines(trace)
    if held_back:
        rows.append(f"(with -v also: {', '.join(held_back)})")
    return rows or ["it did not say why; run again with -vvv"]


def _titled(title: str, value: Any) -> list[str]:
    rows = text_lines(value) if isinstance(value, (str, list, tuple)) else [scalar(value)]
    if len(rows) == 1:
        return [f"{title}: {rows[0]}"]
    return [f"{title}:", *(f"  {row}" for row in rows)]


def said(data: Mapping[str, Any]) -> list[str]:
    """What a `debug` task says: its message, or the variable it shows by name."""
    if "censored" in data:
        return []
    if "msg" in data:
        return text_lines(data["msg"])
    named = {key: value for key, value in data.items() if key not in SILENT and not key.startswith("_")}
    return dump(named) if named else []


def first_line(value: Any) -> str:
    """The first line of a text, or nothing."""
    rows = text_lines(value) if isinstance(value, str) else []
    return rows[0].strip() if rows else ""


def note(data: Mapping[str, Any]) -> str:
    """What a phase has to add to its line: why it failed, what it saw, what serves."""
    if data.get("ok") is False:
        return first_line(data.get("explanation"))
    parts = [first_line(data.get("note"))]
    if data.get("migration") == "applied":
        parts.append("migration applied")
    traffic = data.get("traffic")
    if isinstance(traffic, Mapping) and "requests" in traffic:
        parts.append(f"{traffic['requests']} requests, {traffic.get('failed', 0)} failed")
        parts.append(f"p95 {traffic['p95_ms']:.0f} ms" if traffic.get("p95_ms") else "")
    return ", ".join(filter(None, parts))


def item_label(data: Mapping[str, Any]) -> str:
    """What a loop's item is called; never what a task with no_log goes through."""
    if data.get("_ansible_no_log") or "censored" in data:
        return "(hidden by no_log)"
    label = data.get("_ansible_item_label", data.get("item", ""))
    return label if isinstance(label, str) else " ".join(row.strip() for row in dump(label))

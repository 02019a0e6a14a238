"""Results as lines, and the status line of a terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest
from flotilla.display import live, readable
from flotilla.display.lines import in_seconds, listed


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": {"b": [1, {"c": True}]}}, ["a:", "  b:", "    - 1", "    - c: true"]),
        ({"text": "one\ntwo\n"}, ["text:", "  one", "  two"]),
        ([], ["[]"]),
        ({"nothing": None, "empty": ""}, ["nothing: null", 'empty: ""']),
        ([["a", "b"]], ["- - a", "  - b"]),
    ],
)
def test_values_are_dumped_for_people(value: Any, expected: list[str]) -> None:
    assert readable.dump(value) == expected


@pytest.mark.parametrize(
    ("data", "verbosity", "expected"),
    [
        ({"msg": "a\nb", "changed": False}, 0, ["a", "b"]),
        ({"msg": "x", "assertion": "a == b"}, 0, ["x", "assertion: a == b"]),
        ({"msg": "x", "big": "y" * 500}, 0, ["x", "(with -v also: big)"]),
        ({"msg": "x", "big": "y" * 500}, 1, ["x", f"big: {'y' * 500}"]),
        ({"censored": "hidden", "msg": "secret"}, 3, ["hidden"]),
        ({"msg": "crash", "exception": "Traceback (most recent call last):\n  x"}, 0, None),
        ({"msg": "crash", "exception": "(traceback unavailable)"}, 0, ["crash"]),
    ],
)
def test_a_failure_says_all_it_has(data: Mapping[str, Any], verbosity: int, expected: list[str] | None) -> None:
    said = readable.failure(data, verbosity=verbosity)
    assert said == (expected or ["crash", "Traceback (most recent call last):", "  x"])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"_ansible_item_label": "api", "item": {"password": "x"}}, "api"),
        ({"item": "ui"}, "ui"),
        ({"item": {"name": "ui", "port": 1}}, "name: ui port: 1"),
        ({"item": "hunter2", "_ansible_no_log": True}, "(hidden by no_log)"),
        ({"item": "hunter2", "censored": "…"}, "(hidden by no_log)"),
    ],
)
def test_items_are_named_unless_they_are_secret(data: Mapping[str, Any], expected: str) -> None:
    assert readable.item_label(data) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"ok": False, "explanation": "no memory\nNext: …"}, "no memory"),
        ({"ok": True, "migration": "applied"}, "migration applied"),
        ({"traffic": {"requests": 120, "failed": 0, "p95_ms": 41.6}}, "120 requests, 0 failed, p95 42 ms"),
        ({"ok": True, "msg": "would run prepare"}, ""),
    ],
)
def test_a_phase_adds_what_matters(data: Mapping[str, Any], expected: str) -> None:
    assert readable.note(data) == expected


@pytest.mark.parametrize(("value", "expected"), [(0.04, "0.0 s"), (599.9, "599.9 s"), (725.0, "12 min 5 s")])
def test_durations(value: float, expected: str) -> None:
    assert in_seconds(value) == expected


def test_long_lists_of_names_are_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdef")) == "a, b, c and 3 more"


def test_the_status_line_is_cut_to_the_terminal_and_taken_away() -> None:
    reader, writer = os.pipe()
    status = live.StatusLine(writer, True, lambda: 10)
    status.draw("a long\nline of text")
    status.clear()
    status.clear()
    os.close(writer)
    with os.fdopen(reader, newline="") as stream:
        assert stream.read() == "\r\x1b[J\na long li\x1b[1A\r" + "\r\x1b[J"


def test_without_a_terminal_nothing_is_drawn() -> None:
    reader, writer = os.pipe()
    status = live.StatusLine(writer, False, lambda: 10)
    status.draw("text")
    status.clear()
    os.close(writer)
    with os.fdopen(reader, newline="") as stream:
        assert stream.read() == ""

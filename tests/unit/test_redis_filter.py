"""Which passwords Redis takes while one is replaced."""

from __future__ import annotations

import hashlib

from plugins.filter.flotilla_redis import accepted

NEW, OLD, OLDER = (hashlib.sha256(text.encode()).hexdigest() for text in ("new", "old", "older"))
LINES = ["engine", "stack", f"accepts default {OLD}", f"accepts default {OLDER}", f"accepts operator {OLDER}"]


def test_a_new_server_takes_what_is_declared() -> None:
    assert accepted(["engine"], "default", "new") == f"#{NEW}"


def test_those_of_before_stay_until_they_are_retired() -> None:
    assert accepted(LINES, "default", "new") == f"#{NEW} #{OLD} #{OLDER}"
    assert accepted(LINES, "operator", "new") == f"#{NEW} #{OLDER}"
    assert accepted(LINES, "default", "new", retire=True) == f"#{NEW}"


def test_what_is_declared_already_stands_there_once() -> None:
    assert accepted(LINES, "default", "old") == f"#{OLD} #{OLDER}"
    assert accepted([f"accepts default {OLD}"], "default", "old") == f"#{OLD}"

"""Which passwords Redis takes while one is replaced."""

from __future__ import annotations

import hashlib

from plugins.filter.flotilla_redis import accepted, credentials, problems, users

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


def test_every_user_has_a_line_of_its_own() -> None:
    declared = [{"name": "todo", "password": "t"}]
    assert users([], "d", ["*"], ["+@all"], ["-scan"]) == [{"name": "default", "password": "d", "rules": "+@all ~* &*"}]
    assert users(declared, "d", ["notes:*"], ["+@all"], ["-scan"]) == [
        {"name": "default", "password": "d", "rules": "+@all ~notes:* &notes:* -scan"},
        {"name": "todo", "password": "t", "rules": "+@all ~todo:* &todo:* -scan"},
    ]


def test_a_rotation_looks_at_every_user() -> None:
    assert [one["login"] for one in credentials([{"name": "todo", "password": "t"}], "d", "o")] == [
        "default",
        "todo",
        "operator",
    ]


def test_what_is_wrong_is_told_in_sentences() -> None:
    (said,) = problems([{"name": "todo", "password": "t"}], "d", ["*"], ["+@all"], "o")
    assert said.startswith("redis_keys: `*` of `default` and `todo:*` of `todo`")

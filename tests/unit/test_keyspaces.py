"""flotilla.keyspaces: who logs in to Redis for which keys, and who could read another's."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.keyspaces import handed_twice, logins, overlap, problems, rules, shared

COMMANDS = ["+@all", "-@dangerous"]
TODO = {"name": "todo", "password": "t"}


def told(keys: list[str], users: list[dict[str, Any]], commands: list[str] = COMMANDS) -> list[str]:
    found = logins("d", keys, users)
    return [str(problem) for problem in problems(found, "o", commands, lambda name: f"redis.yml:{name}")]


def test_one_app_alone_has_all_keys_and_nothing_is_taken_from_it() -> None:
    (alone,) = logins("d", ["*"], [])
    assert not shared([alone])
    assert rules(alone, COMMANDS, ()) == "+@all -@dangerous ~* &*"


def test_a_further_user_has_what_begins_with_its_name_and_no_command_that_tells_of_others() -> None:
    found = logins("d", ["notes:*", "jobs"], [TODO])
    assert shared(found)
    assert rules(found[0], COMMANDS, ["-scan"]) == "+@all -@dangerous ~notes:* ~jobs &notes:* &jobs -scan"
    assert rules(found[1], COMMANDS, ["-scan"]) == "+@all -@dangerous ~todo:* &todo:* -scan"


def test_a_user_without_keys_shares_nothing() -> None:
    assert not shared(logins("d", [], [TODO]))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("*", "todo:*", True),
        ("notes:*", "todo:*", False),
        ("notes:*", "notes:todo:*", True),
        ("notes", "notes:*", False),
        ("notes:a", "notes:*", True),
        ("queue:?", "queue:[ab]", True),
        ("que\\ue", "queue", True),
        ("a", "b", False),
        # On purpose, since both say the same.
        ("shared:*", "shared:*", False),
        ("*", "*", False),
    ],
)
def test_patterns_overlap_where_a_key_may_match_both(one: str, other: str, expected: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is expected


def test_the_second_app_s_arrival_is_told_while_the_first_has_all_keys() -> None:
    assert told(["*"], [TODO]) == [
        "redis.yml:redis_keys: redis_keys: `*` of `default` and `todo:*` of `todo` (redis_users[todo].keys) overlap: "
        "one could read what the other keeps in Redis. Next: write what the keys of each begin with, or the same "
        "pattern for both if they are to share those keys: docs/how-to/several-apps.md"
    ]
    assert told(["notes:*"], [TODO]) == told([], [TODO]) == []


@pytest.mark.parametrize(
    ("users", "commands", "expected"),
    [
        ([{"name": "default", "password": "x", "keys": []}], COMMANDS, "`default` cannot be the name of a login"),
        ([{"name": "operator", "password": "x"}], COMMANDS, "`operator` cannot be the name of a login"),
        ([{"name": "todo +@all", "password": "x", "keys": ["a"]}], COMMANDS, "cannot be the name of a login"),
        ([TODO, {**TODO, "password": "x", "keys": ["a"]}], COMMANDS, "`todo` cannot be the name of a login"),
        ([{**TODO, "keys": ["todo:* +@all"]}], COMMANDS, "`todo:* +@all` is not a pattern"),
        ([{**TODO, "password": "d"}], COMMANDS, "`default` and `todo` have the same password"),
        ([{**TODO, "password": "o"}], COMMANDS, "`todo` and `operator` have the same password"),
        *(([], [rule], f"`{rule}` neither gives nor takes") for rule in ("~*", "&*", "allkeys", "nopass", "(~* +get)")),
    ],
)
def test_what_would_open_another_way_is_refused(
    users: list[dict[str, Any]], commands: list[str], expected: str
) -> None:
    said = told(["notes:*"], users, commands)
    assert said
    assert all(expected in line for line in said)


def given(apps: dict[str, list[str]]) -> list[str]:
    passwords = {"default": "p/1", "todo": "t", "operator": "opera"}
    return [str(problem) for problem in handed_twice(passwords, apps, lambda name: f"apps.yml:{name}")]


@pytest.mark.parametrize("form", ["p/1", "rediss://:p/1@redis", "rediss://:p%2F1@redis"])
def test_a_login_that_two_apps_have_is_told(form: str) -> None:
    assert given({"notes": ["p/1"], "blog": ["x"]}) == []
    assert given({"notes": ["p/1"], "blog": ["x", form]}) == [
        "apps.yml:apps: redis_password: the password of Redis' user `default` is handed to `notes` and `blog`: each "
        "could read what the other keeps in Redis. Next: give all but one a login of their own in redis_users: "
        "docs/how-to/several-apps.md"
    ]


def test_the_operator_s_password_is_for_no_app() -> None:
    assert given({"notes": ["opera"]}) == [
        "apps.yml:apps: redis_operator_password: the password of Redis' user `operator` is handed to `notes`. Next: "
        "take it out of the app's secrets"
    ]

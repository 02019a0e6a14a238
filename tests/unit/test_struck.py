"""Which secrets would be struck out of what hosts answer."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla import struck
from flotilla.problem import Problem
from flotilla.static import service_names
from flotilla.vault import new_login, new_secret
from hypothesis import given
from hypothesis import strategies as st

COMMAND = "ansible-playbook playbooks/secrets.yml -i inventories/staging"
APP = {"name": "notes", "version": "10.20.30", "domains": ["staging.example.com"]}
HOSTS: dict[str, dict[str, Any]] = {
    "staging-1": {
        "environment_name": "staging",
        "private_address": "10.1.0.2",
        "postgres_databases": [{"name": "ledger", "owner": "bookkeeper"}],
    }
}
WORDS = struck.words_of_app(APP, ["frontend"]) | struck.words_of_hosts(HOSTS)


def told(
    value: Any, raw: Any = "{{ vault_notes_key }}", given: tuple[str, ...] = (), app: bool = True
) -> list[Problem]:
    handed = struck.Handed("apps[notes].secrets.key", "apps.yml:7", raw, value, app=app)
    return list(struck.problems([handed], WORDS, given, COMMAND))


@pytest.mark.parametrize(
    "value",
    [
        *("notes", "note", "10.20.30", "staging.example.com", "example", "frontend"),
        *("staging-1", "staging", "10.1.0.2", "ledger", "bookkeeper"),
        *("deployed", "green", "postgres", "haproxy", "/opt/flotilla"),
        *("x", "abc", "abc\n", "\n", "1234567", 4711, 0),
        {"deep": ["fine and long", "notes"]},
    ],
)
def test_a_secret_that_is_a_word_is_refused(value: Any) -> None:
    (problem,) = told(value)
    assert problem.where == "apps.yml:7"
    assert problem.variable == "apps[notes].secrets.key"


@pytest.mark.parametrize(
    "value",
    ["notes-4b1f", "hunter2x", "12345678", "Notes", "apikey", "", None, True, False, [], "postgresql://notes@db"],
)
def test_another_is_not(value: Any) -> None:
    assert told(value) == []


@given(st.sampled_from([new_secret, new_login]))
def test_what_we_make_ourselves_is_never_refused(make: Any) -> None:
    assert told(make()) == []


@given(st.text(max_size=12))
def test_no_message_shows_a_value(value: str) -> None:
    for shown in told(value):
        assert str(shown) == str(told("x")[0]) or struck.COMMON in shown.what or "digits" in shown.what


@pytest.mark.parametrize(
    ("raw", "given", "app", "message"),
    [
        ("{{ vault_notes_key }}", (), True, f"random, below secrets_values in FILE as vault_notes_key, then {COMMAND}"),
        ("{{ vault_notes_key }}", ("vault_notes_key",), True, "ask for another and put it below secrets_values"),
        ("{{ vault_todo_user }}", (), True, "put another login, such as login_7c41f0, below secrets_values"),
        ("notes", (), True, "hand it over in the app's environment if it is no secret, else take it from the vault"),
        ("notes", (), False, f'take it from the vault, as "{{{{ vault_… }}}}", then {COMMAND}'),
    ],
)
def test_what_to_do_next_depends_on_where_it_is_from(raw: str, given: tuple[str, ...], app: bool, message: str) -> None:
    (problem,) = told("notes", raw, given, app=app)
    assert message in problem.next


def test_services_are_read_from_whatever_can_be_read() -> None:
    assert service_names("services: {web: {}, worker: {}}") == ["web", "worker"]
    assert service_names("services: [web]") == service_names("{") == service_names("- a") == []

"""flotilla.pooling: who may have how many connections of a database."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.pooling import Room, demand, pool_size, problems, unknown_services
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("connections", "databases", "declared", "direct", "expected"),
    [(56, 1, 0, 10, 43), (56, 2, 0, 10, 21), (56, 2, 20, 10, 20), (20, 1, 0, 16, 1), (100, 0, 0, 10, 87)],
)
def test_what_is_left_is_shared_out(
    connections: int, databases: int, declared: int, direct: int, expected: int
) -> None:
    assert pool_size(connections, databases, declared, direct) == expected


def test_more_than_the_server_has_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"postgres_pooler_connections is 22, for 2 databases 44, and of .* 43 are left"
    ):
        pool_size(56, 2, 22, 10)


def test_a_server_with_nothing_left_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_connections is 14: .* none are left for 2 databases"):
        pool_size(14, 2, 0, 10)


@given(st.integers(1, 1000), st.integers(1, 20), st.integers(0, 100), st.integers(0, 100))
def test_it_always_fits(connections: int, databases: int, declared: int, direct: int) -> None:
    try:
        size = pool_size(connections, databases, declared, direct)
    except ValueError:
        return
    assert size >= 1
    assert size * databases + direct + 3 <= connections


# -- what the apps declare ------------------------------------------------------------------------------------------

NOTES = {"name": "notes", "database_connections": {"api": 16, "worker": 4}}
SHOP = {"name": "shop", "database_connections": {"web": 5}}


def told(apps: list[dict[str, Any]], hosts: int, room: Room) -> list[str]:
    return [
        str(problem)
        for problem in problems(apps, hosts, room, lambda name: "apps.yml:7", "ansible-playbook deploy.yml")
    ]


@pytest.mark.parametrize(
    ("apps", "hosts", "expected"),
    [([], 3, 0), ([{"name": "quiet"}], 3, 0), ([NOTES], 1, 40), ([NOTES], 3, 120), ([NOTES, SHOP], 2, 100)],
)
def test_a_release_doubles_what_every_host_holds(apps: list[dict[str, Any]], hosts: int, expected: int) -> None:
    assert demand(apps, hosts)[0] == expected


@pytest.mark.parametrize(
    ("room", "fits"),
    [
        (Room(53, 10, 0), True),
        (Room(52, 10, 0), False),
        (Room(20, 10, 40), True),
        (Room(500, 10, 39), False),
    ],
    ids=["just", "one too few", "a pooler", "a small pooler"],
)
def test_the_limit_is_exact(room: Room, fits: bool) -> None:
    assert (told([NOTES], 1, room) == []) is fits


def test_undeclared_connections_are_not_guessed() -> None:
    assert told([{"name": "quiet"}], 100, Room(20, 10, 0)) == []


def test_the_words_have_the_figures_and_the_next_command() -> None:
    (without,) = told([NOTES, SHOP], 2, Room(56, 10, 0))
    assert without == (
        "apps.yml:7: database_connections: while a release comes the apps hold 100 (notes: 2 colours x 2 hosts x 20 "
        "(api 16, worker 4); shop: 2 colours x 2 hosts x 5 (web 5)), and of the server's 56 (max_connections) 43 are "
        "left beside 3 for the superuser and 10 (postgres_direct_connections). Next: postgres_pooler: true, or a "
        "higher postgres_max_connections (it costs memory); then ansible-playbook deploy.yml. "
        "See docs/how-to/pool-connections.md"
    )
    (pooled,) = told([NOTES], 10, Room(56, 10, 399))
    assert (
        "hold 400 (notes: 2 colours x 10 hosts x 20 (api 16, worker 4)), and postgres_pooler_max_clients is 399"
        in pooled
    )


def test_a_service_that_is_not_there_is_told() -> None:
    (problem,) = unknown_services(NOTES, ["api", "workers"], "apps.yml:7")
    assert str(problem) == (
        "apps.yml:7: apps[notes].database_connections.worker: the Compose file has no service `worker` (did you mean "
        "`workers`?). Next: use one of: api, workers"
    )

"""Memory settings derived from a container's limit: they always fit into it."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from plugins.filter.flotilla_memory import (
    MIB,
    flotilla_postgres_memory,
    flotilla_postgres_shm_mb,
    flotilla_redis_maxmemory,
)

AUTOVACUUM_WORKERS = 3  # PostgreSQL's default; each may use maintenance_work_mem


def kilobytes(setting: str | int) -> int:
    """Read a size as postgresql.conf writes it."""
    text = str(setting)
    return int(text[:-2]) * {"kB": 1, "MB": 1024}[text[-2:]]


@pytest.mark.parametrize(
    ("memory_mb", "connections", "shared", "cache", "work", "maintenance"),
    [
        (512, 56, "128MB", "384MB", "2048kB", "32MB"),
        (2048, 225, "512MB", "1536MB", "2250kB", "128MB"),
        (8192, 400, "2048MB", "6144MB", "5140kB", "512MB"),
    ],
)
def test_the_sizes_of_the_plans(
    memory_mb: int, connections: int, shared: str, cache: str, work: str, maintenance: str
) -> None:
    assert flotilla_postgres_memory(memory_mb, 0, 500) == {
        "max_connections": connections,
        "shared_buffers": shared,
        "effective_cache_size": cache,
        "work_mem": work,
        "maintenance_work_mem": maintenance,
    }


@given(st.integers(128, 512 * 1024), st.just(0) | st.integers(20, 1000))
def test_one_sort_in_each_connection_and_every_vacuum_fit_together(memory_mb: int, connections: int) -> None:
    settings = flotilla_postgres_memory(memory_mb, connections, 2000)
    used = (
        kilobytes(settings["shared_buffers"])
        + int(settings["max_connections"]) * kilobytes(settings["work_mem"])
        + AUTOVACUUM_WORKERS * kilobytes(settings["maintenance_work_mem"])
    )
    assert used <= memory_mb * 1024


@given(st.integers(128, 512 * 1024), st.integers(20, 500))
def test_more_connections_never_get_more_memory_each(memory_mb: int, connections: int) -> None:
    few, many = (flotilla_postgres_memory(memory_mb, count, 2000) for count in (connections, connections * 2))
    assert kilobytes(many["work_mem"]) <= kilobytes(few["work_mem"])


@given(st.integers(128, 512 * 1024), st.integers(52, 1000))
def test_every_derived_connection_gets_its_process(memory_mb: int, pids: int) -> None:
    assert int(flotilla_postgres_memory(memory_mb, 0, pids)["max_connections"]) + 32 <= pids


@pytest.mark.parametrize(("connections", "pids"), [(0, 51), (100, 131)])
def test_too_few_processes_for_the_connections_are_refused(connections: int, pids: int) -> None:
    with pytest.raises(AnsibleFilterError, match="postgres_pids"):
        flotilla_postgres_memory(512, connections, pids)


@pytest.mark.parametrize(("memory_mb", "shm_mb"), [(128, 64), (512, 128), (2048, 512)])
def test_shared_memory_is_a_quarter_and_never_less_than_the_engines_default(memory_mb: int, shm_mb: int) -> None:
    assert flotilla_postgres_shm_mb(memory_mb) == shm_mb


@given(st.integers(32, 512 * 1024))
def test_redis_leaves_a_quarter_for_buffers(memory_mb: int) -> None:
    assert flotilla_redis_maxmemory(memory_mb) * 4 == memory_mb * MIB * 3


@pytest.mark.parametrize("memory", [127, 0, -1, "lots", None])
def test_too_little_memory_is_refused_by_the_variables_name(memory: int) -> None:
    with pytest.raises(AnsibleFilterError, match="postgres_memory_mb"):
        flotilla_postgres_memory(memory, 0, 200)


@pytest.mark.parametrize("percent", [0, 9, 91, 100])
def test_a_share_without_headroom_is_refused(percent: int) -> None:
    with pytest.raises(AnsibleFilterError, match="redis_maxmemory_percent"):
        flotilla_redis_maxmemory(256, percent)

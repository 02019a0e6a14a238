"""Memory settings of PostgreSQL and Redis, derived from the memory limit of their containers.

Sources of the numbers:

- shared_buffers, a quarter: PostgreSQL, "Resource Consumption": "a reasonable starting value for shared_buffers is
  25% of the memory in your system", and more than 40 % is unlikely to work better.
- effective_cache_size, three quarters; work_mem from what shared_buffers leaves, shared by three sorts in each
  connection and worker; maintenance_work_mem, a sixteenth and at most 2 GB: PGTune (le0pard/pgtune, web profile).
- max_connections, one for each 9,531,392 bytes: Amazon RDS, "Maximum number of database connections"; at most 400,
  because beyond that a connection pooler serves better, and no more than the container's limit of processes allows.
- shm_size, a quarter: parallel queries put their hash tables into /dev/shm, and Docker's default of 64 MB makes them
  fail with "could not resize shared memory segment".
- maxmemory, three quarters: Amazon ElastiCache reserves 25 % by default (reserved-memory-percent) for buffers,
  fragmentation and what forks copy; Redis counts none of these in maxmemory.
"""

from __future__ import annotations

from collections.abc import Callable

from ansible.errors import AnsibleFilterError

MIB = 1024 * 1024

POSTGRES_MIN_MB = 128
POSTGRES_BYTES_PER_CONNECTION = 9_531_392
POSTGRES_MIN_CONNECTIONS = 20
POSTGRES_MAX_CONNECTIONS = 400
POSTGRES_OTHER_PROCESSES = 32  # its own (6), vacuums (3), workers (8), WAL senders (10), a few of an administrator
POSTGRES_WORKERS = 8  # max_worker_processes, PostgreSQL's default
POSTGRES_SORTS = 3
POSTGRES_MAX_MAINTENANCE_MB = 2048
POSTGRES_MIN_SHM_MB = 64

REDIS_MIN_MB = 32

DOCUMENTATION = r"""
name: flotilla_memory
short_description: Memory settings derived from a container's limit
description:
  - C(flotilla_postgres_memory) derives PostgreSQL's settings, C(flotilla_postgres_shm_mb) the size of C(/dev/shm),
    C(flotilla_redis_maxmemory) the bytes that Redis may fill with data.
positional: _input
options:
  _input:
    description: The memory limit in MiB.
    type: int
    required: true
"""

EXAMPLES = r"""
settings: "{{ 512 | flotilla_postgres_memory(max_connections=0, pids=200) }}"
maxmemory: "{{ 256 | flotilla_redis_maxmemory(percent=75) }}"
"""

RETURN = r"""
_value:
  description: Settings by name as postgresql.conf writes them; or MiB; or bytes.
  type: raw
"""


def clamp(value: int, low: int, high: int) -> int:
    """Return value, or the bound that it passes."""
    return max(low, min(value, high))


def checked(memory_mb: int, minimum: int, variable: str) -> int:
    """Return memory_mb as a number, refusing what the program cannot run with."""
    try:
        memory = int(memory_mb)
    except (TypeError, ValueError):
        raise AnsibleFilterError(f"{variable} must be a number of MiB, not {memory_mb!r}") from None
    if memory < minimum:
        raise AnsibleFilterError(f"{variable} is {memory} MiB: give it at least {minimum}")
    return memory


def flotilla_postgres_memory(memory_mb: int, max_connections: int, pids: int) -> dict[str, str | int]:
    """Return PostgreSQL's memory settings for a limit of memory_mb MiB and pids processes.

    max_connections: as asked for; 0 derives it too. work_mem shrinks as connections grow.
    """
    memory = checked(memory_mb, POSTGRES_MIN_MB, "postgres_memory_mb")
    possible = int(pids) - POSTGRES_OTHER_PROCESSES
    needed = int(max_connections) or POSTGRES_MIN_CONNECTIONS
    if possible < needed:
        raise AnsibleFilterError(
            f"postgres_pids is {pids}: {needed} connections need at least {needed + POSTGRES_OTHER_PROCESSES}"
        )
    connections = int(max_connections) or clamp(
        memory * MIB // POSTGRES_BYTES_PER_CONNECTION,
        POSTGRES_MIN_CONNECTIONS,
        min(POSTGRES_MAX_CONNECTIONS, possible),
    )
    shared_buffers = memory // 4
    work_mem_kb = (memory - shared_buffers) * 1024 // ((connections + POSTGRES_WORKERS) * POSTGRES_SORTS)
    return {
        "max_connections": connections,
        "shared_buffers": f"{shared_buffers}MB",
        "effective_cache_size": f"{memory * 3 // 4}MB",
        "work_mem": f"{max(work_mem_kb, 64)}kB",
        "maintenance_work_mem": f"{clamp(memory // 16, 1, POSTGRES_MAX_MAINTENANCE_MB)}MB",
    }


def flotilla_postgres_shm_mb(memory_mb: int) -> int:
    """Return the size of PostgreSQL's /dev/shm in MiB; what is in it counts towards the limit."""
    return max(POSTGRES_MIN_SHM_MB, checked(memory_mb, POSTGRES_MIN_MB, "postgres_memory_mb") // 4)


def flotilla_redis_maxmemory(memory_mb: int, percent: int = 75) -> int:
    """Return Redis's maxmemory in bytes: percent of a limit of memory_mb MiB."""
    memory = checked(memory_mb, REDIS_MIN_MB, "redis_memory_mb")
    if not 10 <= int(percent) <= 90:
        raise AnsibleFilterError(f"redis_maxmemory_percent is {percent}: give it 10 to 90")
    return memory * MIB * int(percent) // 100


class FilterModule:
    """Registers the filters."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {
            "flotilla_postgres_memory": flotilla_postgres_memory,
            "flotilla_postgres_shm_mb": flotilla_postgres_shm_mb,
            "flotilla_redis_maxmemory": flotilla_redis_maxmemory,
        }

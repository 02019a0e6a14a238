"""What a host has and what is missing on it, read from /proc, /sys and /etc.

Functions take text or a root directory and return values, so that tests feed them captured files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .problem import Problem
from .sockets import LISTEN, of_process

NICENESS = 10
MIB = 1024 * 1024
# What the operating system, sshd, systemd and the engine are left with.
OS_RESERVE_BYTES = 128 * MIB
SUPPORTED = {"debian": ("12", "13"), "ubuntu": ("24.04",)}
# cgroup v1 writes "no limit" as the largest page-aligned signed 64-bit number.
UNLIMITED = 1 << 62
ENGINE_PROCESSES = ("dockerd", "docker-proxy", "docker-pr")


@dataclass(frozen=True)
class Memory:
    """`total_bytes` is the smaller of MemTotal and the cgroup limit; `swap_bytes` is what is switched on."""

    total_bytes: int
    swap_bytes: int
    container: bool


@dataclass(frozen=True)
class Holder:
    """A process that listens on `port`. `container` is its Docker id (64 hex digits), `unit` its systemd service."""

    port: int
    pid: int
    process: str
    container: str = ""
    unit: str = ""


def parse_os_release(text: str) -> dict[str, str]:
    """The assignments of /etc/os-release; source: os-release(5)."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if separator and not key.startswith("#"):
            text = re.sub(r"""^(["'])(.*)\1$""", r"\2", value.strip())
            values[key] = re.sub(r"\\(.)", r"\1", text)
    return values


def os_problem(host: str, system: str, version: str) -> Problem | None:
    """Refuses every system that the roles were not written for. `version` may be empty (Debian testing)."""
    if version in SUPPORTED.get(system, ()):
        return None
    supported = ", ".join(f"{name} {' or '.join(versions)}" for name, versions in SUPPORTED.items())
    found = f"{system or 'an unknown system'} {version}".strip()
    return Problem(host, "os", f"{found} is not supported (supported: {supported})", "reinstall it with Debian 13")


def parse_meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo as bytes by name; source: proc_meminfo(5) (its kB are KiB)."""
    rows = re.findall(r"^(\w+(?:\(\w+\))?):\s+(\d+) kB$", text, re.MULTILINE)
    return {name: int(number) * 1024 for name, number in rows}


def parse_cgroup_limit(text: str) -> int | None:
    """Bytes of memory.max (v2) or memory.limit_in_bytes (v1); None without a limit."""
    word = text.strip()
    if not word.isdecimal() or int(word) >= UNLIMITED:
        return None
    return int(word)


def container_of(cgroup: str) -> str:
    """The Docker container id in the text of /proc/<pid>/cgroup, the innermost one, or nothing."""
    ids: list[str] = re.findall(r"[/-]([0-9a-f]{64})(?:\.scope)?(?=/|$)", cgroup, re.MULTILINE)
    return ids[-1] if ids else ""


def unit_of(cgroup: str) -> str:
    """The systemd service in the text of /proc/<pid>/cgroup, or nothing."""
    units: list[str] = re.findall(r"/([^/\s]+\.service)\b", cgroup)
    return units[-1] if units else ""


def detect_container(root: Path = Path("/")) -> bool:
    """Whether this host shares its kernel: swap, clock and sysctls are then not its own."""
    if (root / "run/systemd/container").exists() or (root / ".dockerenv").exists():
        return True
    return b"container=" in _read_bytes(root / "proc/1/environ")


def read_memory(root: Path = Path("/")) -> Memory:
    """The host's memory. In a container the machine's swap is not counted as its own."""
    meminfo = parse_meminfo(_read(root / "proc/meminfo"))
    limits = [
        parse_cgroup_limit(_read(root / "sys/fs/cgroup" / name))
        for name in ("memory.max", "memory/memory.limit_in_bytes")
    ]
    container = detect_container(root)
    total = min([meminfo.get("MemTotal", 0), *(limit for limit in limits if limit)])
    return Memory(total, 0 if container else meminfo.get("SwapTotal", 0), container)


def memory_left(memory: Memory, once: Mapping[str, int]) -> int:
    """Bytes for a container without a limit of its own: all but what the stacks and the host itself are to keep.

    No program that lives today dies of it: one that takes more than this takes the host. Never less than half.
    once: stack → bytes.
    """
    return max(memory.total_bytes // 2, memory.total_bytes - sum(once.values()) - OS_RESERVE_BYTES)


def memory_problem(
    memory: Memory,
    once: Mapping[str, int],
    twice: Mapping[str, int],
    declared_swap_bytes: int,
    host: str,
) -> Problem | None:
    """Whether all limits fit into memory and swap while both colours run.

    `once` has the bytes of what runs once, by name (stacks, shared services, other apps); `twice` has the
    bytes of one colour of what is deployed. A container cannot switch swap on, so there the declared size counts.
    """
    swap = declared_swap_bytes if memory.container else memory.swap_bytes
    have = memory.total_bytes + swap
    need = OS_RESERVE_BYTES + sum(once.values()) + 2 * sum(twice.values())
    if need <= have:
        return None
    parts = [f"{name} {_mib(size)}" for name, size in sorted(once.items())]
    parts += [f"{name} 2 x {_mib(size)}" for name, size in sorted(twice.items())]
    kind = "declared swap (a container cannot switch it on)" if memory.container else "active swap"
    what = (
        f"the limits need {_mib(need)} MiB (system {_mib(OS_RESERVE_BYTES)}, {', '.join(parts)}) but the host has "
        f"{_mib(have)} MiB: {_mib(memory.total_bytes)} memory and {_mib(swap)} {kind}"
    )
    return Problem(
        host, "memory", what, "lower the limits (*_memory_mb, deploy.resources), raise base_swap_mb, or resize the host"
    )


def disk_problem(host: str, path: str, free_bytes: int, needed_bytes: int) -> Problem | None:
    """Whether the file system of `path` has room for another release."""
    if free_bytes >= needed_bytes:
        return None
    what = f"{_mib(free_bytes)} MiB are free on {path}, {_mib(needed_bytes)} MiB are needed"
    return Problem(host, "disk", what, f"free space (`df -h {path}`, `docker image ls`) or enlarge the disk")


def port_problem(host: str, holder: Holder) -> Problem:
    """What to say about a listener that is not the edge."""
    if holder.container:
        what = f"port {holder.port} is taken by the container `{holder.process}`"
        return Problem(host, "ports", what, f"stop it on the host: docker stop {holder.process}")
    what = f"port {holder.port} is taken by `{holder.process}` (process {holder.pid})"
    command = f"systemctl disable --now {holder.unit}" if holder.unit else f"kill {holder.pid}"
    return Problem(host, "ports", what, f"stop it on the host: {command}")


def address_problem(host: str, wanted: str, present: Iterable[str]) -> Problem | None:
    """Whether the private address that the inventory gives is on an interface."""
    found = sorted(present)
    if not wanted or wanted in found:
        return None
    what = f"{wanted} is on no interface of the host (found: {', '.join(found) or 'none'})"
    return Problem(host, "private_address", what, "correct it in hosts.yml, or attach the host to its private network")


def parse_fib_trie(text: str) -> set[str]:
    """The IPv4 addresses of this host, from /proc/net/fib_trie: each leaf that is `/32 host LOCAL`."""
    leaves = re.findall(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL", text)
    return {address for address in leaves if not address.startswith("127.")}


def port_holders(ports: Iterable[int], proc: Path = Path("/proc")) -> list[Holder]:
    """Who listens on `ports` in this network namespace. One holder a port, by the lowest process id."""
    wanted = set(ports)
    rows = [row for row in of_process(1, proc) if row.state == LISTEN and row.local_port in wanted]
    inodes = {row.inode: row.local_port for row in rows}
    if not inodes:
        return []
    # A droplet of the lab is itself a container: what all its processes have in common says nothing.
    own = container_of(_read(proc / "1/cgroup"))
    holders: dict[int, Holder] = {}
    for pid in sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()):
        for inode in _socket_inodes(proc / str(pid)) & inodes.keys():
            process = _read(proc / str(pid) / "comm").strip()
            cgroup = _read(proc / str(pid) / "cgroup")
            container = container_of(cgroup)
            holder = Holder(inodes[inode], pid, process, "" if container == own else container, unit_of(cgroup))
            holders.setdefault(holder.port, holder)
    for port in set(inodes.values()) - holders.keys():
        holders[port] = Holder(port, 0, "an unknown process")
    return [holders[port] for port in sorted(holders)]


def ssh_connection(pid: int, proc: Path = Path("/proc")) -> str:
    """sshd's SSH_CONNECTION of the session that a process belongs to; empty when it is in none.

    sudo takes it out of the environment, so those who called it are asked too. Source: ssh(1), proc_pid_environ(5).
    """
    while pid > 1:
        for assignment in _read_bytes(proc / str(pid) / "environ").split(b"\0"):
            name, _, value = assignment.partition(b"=")
            if name == b"SSH_CONNECTION":
                return value.decode(errors="replace")
        parent = re.search(r"^PPid:\s+(\d+)$", _read(proc / str(pid) / "status"), re.MULTILINE)
        pid = int(parent[1]) if parent else 0
    return ""


def _socket_inodes(process: Path) -> set[int]:
    """The sockets that a process has open; none of a process that ended, nor those that it closed, while we looked."""
    try:
        links = [_link(descriptor) for descriptor in (process / "fd").iterdir()]
    except OSError:
        return set()
    return {int(match[1]) for link in links if (match := re.fullmatch(r"socket:\[(\d+)\]", link))}


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _mib(size: int) -> int:
    return size // MIB


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _read(path: Path) -> str:
    return _read_bytes(path).decode(errors="replace")


def step_back() -> None:
    """Let what serves have the processor before this process, so that a deploy on a small host slows no request."""
    os.nice(NICENESS)


def write_for_others() -> None:
    """Let what is made with a mode have that mode: a hardened host's umask hides it, from containers too."""
    os.umask(0o022)

"""flotilla.host: what a host has, from captured files, and what is said about what it lacks."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from flotilla import host
from flotilla.host import MIB, Holder, Memory
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]

MEMINFO = (
    "MemTotal:        4028672 kB\nMemFree:          100 kB\nActive(anon):     12 kB\nSwapTotal:       2097148 kB\n"
)
ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
FIB_TRIE = """\
Local:
  +-- 0.0.0.0/0 3 0 4
     +-- 10.1.0.0/16 2 0 2
        |-- 10.1.0.10
           /32 host LOCAL
        |-- 10.1.255.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 198.51.100.10
        /32 host LOCAL
"""


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_os_release_is_read_with_quotes_and_comments() -> None:
    text = 'NAME="Debian GNU/Linux"\n# comment=1\nID=debian\nVERSION_ID="13"\nQUOTE="a \\"b\\""\n'
    assert host.parse_os_release(text) == {
        "NAME": "Debian GNU/Linux",
        "ID": "debian",
        "VERSION_ID": "13",
        "QUOTE": 'a "b"',
    }


@pytest.mark.parametrize(("system", "version"), [("debian", "12"), ("debian", "13"), ("ubuntu", "24.04")])
def test_supported_systems_pass(system: str, version: str) -> None:
    assert host.os_problem("staging-1", system, version) is None


@pytest.mark.parametrize(("system", "version"), [("debian", "11"), ("debian", ""), ("ubuntu", "22.04"), ("", "")])
def test_other_systems_are_refused_with_the_supported_ones(system: str, version: str) -> None:
    problem = host.os_problem("staging-1", system, version)
    assert "not supported (supported: debian 12 or 13, ubuntu 24.04). Next: " in str(problem)


@pytest.mark.parametrize(
    ("text", "limit"),
    [("max\n", None), ("2147483648\n", 2048 * MIB), ("9223372036854771712\n", None), ("", None), ("junk", None)],
)
def test_cgroup_limits_of_both_versions(text: str, limit: int | None) -> None:
    assert host.parse_cgroup_limit(text) == limit


@pytest.mark.parametrize("limit_file", ["sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"])
def test_memory_of_a_container_is_its_limit_and_no_swap(tmp_path: Path, limit_file: str) -> None:
    files = {"proc/meminfo": MEMINFO, limit_file: str(2048 * MIB), "run/systemd/container": "docker"}
    assert host.read_memory(tree(tmp_path, files)) == Memory(2048 * MIB, 0, True)


def test_memory_of_a_machine_is_its_own(tmp_path: Path) -> None:
    files = {"proc/meminfo": MEMINFO, "sys/fs/cgroup/memory.max": "max", "proc/1/environ": "HOME=/\0TERM=linux\0"}
    assert host.read_memory(tree(tmp_path, files)) == Memory(4028672 * 1024, 2097148 * 1024, False)


def test_a_container_is_seen_by_the_environment_of_its_first_process(tmp_path: Path) -> None:
    assert host.detect_container(tree(tmp_path, {"proc/1/environ": "HOME=/\0container=docker\0"}))


def test_a_container_without_a_limit_leaves_the_stacks_what_they_are_to_have() -> None:
    assert host.memory_left(Memory(2048 * MIB, 0, False), {"postgres": 512 * MIB, "nginx": 128 * MIB}) == 1280 * MIB
    assert host.memory_left(Memory(1024 * MIB, 0, False), {"postgres": 900 * MIB}) == 512 * MIB


STAGING = {"postgres": 512 * MIB, "redis": 256 * MIB, "nginx": 128 * MIB}


def test_staging_fits_two_gigabytes_with_the_declared_swap() -> None:
    droplet = Memory(2048 * MIB, 0, True)
    assert host.memory_problem(droplet, STAGING, {"notes": 1024 * MIB}, 2048 * MIB, "staging-1") is None


def test_both_colours_and_the_reserve_are_counted() -> None:
    needed = 128 + 512 + 256 + 128 + 2 * 1024
    enough = Memory(needed * MIB, 0, False)
    short = Memory(needed * MIB - 1, 0, False)
    assert host.memory_problem(enough, STAGING, {"notes": 1024 * MIB}, 0, "h") is None
    problem = str(host.memory_problem(short, STAGING, {"notes": 1024 * MIB}, 0, "h"))
    assert "need 3072 MiB" in problem
    assert "notes 2 x 1024" in problem
    assert "active swap" in problem


def test_declared_swap_counts_in_a_container_only_and_is_named() -> None:
    twice = {"notes": 1024 * MIB}
    assert host.memory_problem(Memory(2048 * MIB, 0, False), STAGING, twice, 2048 * MIB, "h") is not None
    problem = host.memory_problem(Memory(2048 * MIB, 4096 * MIB, True), STAGING, twice, 512 * MIB, "h")
    assert "512 declared swap (a container cannot switch it on)" in str(problem)


def test_a_full_disk_is_named() -> None:
    assert host.disk_problem("h", "/opt", 512 * MIB, 512 * MIB) is None
    problem = host.disk_problem("h", "/opt", 511 * MIB, 512 * MIB)
    assert "511 MiB are free on /opt, 512 MiB are needed" in str(problem)


def test_private_addresses_come_from_the_routing_table() -> None:
    assert host.parse_fib_trie(FIB_TRIE) == {"10.1.0.10", "198.51.100.10"}


def test_an_absent_private_address_is_told_with_those_present() -> None:
    present = host.parse_fib_trie(FIB_TRIE)
    assert host.address_problem("h", "10.1.0.10", present) is None
    assert host.address_problem("h", "", present) is None
    assert "(found: 10.1.0.10, 198.51.100.10)" in str(host.address_problem("h", "10.1.0.11", present))


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (f"0::/system.slice/docker-{ID}.scope\n", ID),
        (f"12:memory:/docker/{ID}\n11:cpu:/docker/{ID}\n", ID),
        (f"1:name=systemd:/docker/{OTHER}/docker/{ID}\n", ID),
        (f"1:name=systemd:/docker/{ID}/system.slice/apache2.service\n", ID),
        ("0::/system.slice/apache2.service\n", ""),
        ("0::/\n", ""),
    ],
)
def test_the_container_of_a_process(cgroup: str, container: str) -> None:
    assert host.container_of(cgroup) == container


def test_the_service_of_a_process() -> None:
    assert host.unit_of("0::/system.slice/apache2.service\n") == "apache2.service"
    assert host.unit_of("0::/user.slice/session-1.scope\n") == ""


def test_a_listener_of_this_machine_is_found_by_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        own = Path("/proc/self").readlink().name
        assert [(holder.port, str(holder.pid)) for holder in host.port_holders([port])] == [(port, own)]


def test_a_descriptor_that_closes_meanwhile_hides_no_other(tmp_path: Path) -> None:
    """dockerd opens and closes many while its ports stay; they are all its own, not `an unknown process`'s."""
    (tmp_path / "1/net").mkdir(parents=True)
    row = "0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1 0 100 0 0 10 0"
    (tmp_path / "1/net/tcp").write_text(f"  sl  local_address\n   {row}\n")
    descriptors = tmp_path / "104/fd"
    descriptors.mkdir(parents=True)
    (tmp_path / "104/comm").write_text("dockerd\n")
    for number in range(0, 40, 2):
        # Asked for where it leads, it fails, as one that was closed does.
        (descriptors / str(number)).touch()
    (descriptors / "27").symlink_to("socket:[4711]")
    assert [(holder.process, holder.pid) for holder in host.port_holders([80], tmp_path)] == [("dockerd", 104)]


@pytest.mark.parametrize(
    ("holder", "command"),
    [
        (Holder(80, 7, "apache2", unit="apache2.service"), "systemctl disable --now apache2.service"),
        (Holder(80, 7, "python3"), "kill 7"),
        (Holder(80, 7, "web-1", container=ID), "docker stop web-1"),
    ],
)
def test_a_taken_port_names_its_holder_and_how_to_stop_it(holder: Holder, command: str) -> None:
    text = str(host.port_problem("staging-1", holder))
    assert text.startswith("staging-1: ports: port 80 is taken by ")
    assert f"`{holder.process}`" in text
    assert text.endswith(command)


@given(st.text())
def test_no_text_breaks_a_parser(text: str) -> None:
    host.parse_os_release(text)
    host.parse_meminfo(text)
    host.parse_cgroup_limit(text)
    host.parse_fib_trie(text)
    host.container_of(text)
    host.unit_of(text)


def test_what_a_deploy_runs_steps_back_behind_what_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("os.nice", asked.append)
    host.step_back()
    assert asked == [10]


@pytest.mark.parametrize("module", ["flotilla_release", "flotilla_host"])
def test_the_modules_of_a_deploy_step_back_first(module: str) -> None:
    main = (ROOT / f"plugins/modules/{module}.py").read_text().partition("\ndef main()")[2]
    step = main.index("step_back()")
    assert main.index("AnsibleModule(") < step < main.index("module.params")


def process(parent: int, environment: str) -> dict[str, str]:
    return {"status": f"Name:\tx\nPid:\t9\nPPid:\t{parent}\n", "environ": environment}


@pytest.mark.parametrize(
    ("own", "sudo", "shell", "expected"),
    [
        ("SSH_CONNECTION=192.0.2.7 5 10.0.0.1 22\0", "", "", "192.0.2.7 5 10.0.0.1 22"),
        ("SUDO_USER=deploy\0", "A=1\0", "A=1\0SSH_CONNECTION=2001:db8::7 5 x 22\0B=2\0", "2001:db8::7 5 x 22"),
        ("MY_SSH_CONNECTION=no\0", "", "", ""),
    ],
    ids=["root", "sudo", "no SSH"],
)
def test_where_the_session_of_a_process_comes_from(
    tmp_path: Path, own: str, sudo: str, shell: str, expected: str
) -> None:
    chain = {40: process(30, own), 30: process(20, sudo), 20: process(1, shell), 1: process(0, "SSH_CONNECTION=init\0")}
    files = {f"{pid}/{name}": text for pid, of in chain.items() for name, text in of.items()}
    assert host.ssh_connection(40, tree(tmp_path, files)) == expected


def test_a_process_that_ended_belongs_to_no_session(tmp_path: Path) -> None:
    assert host.ssh_connection(40, tmp_path) == ""

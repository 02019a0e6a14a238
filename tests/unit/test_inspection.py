"""What is not as provisioning left it: findings from texts that sshd, the kernel and the engine give."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flotilla.inspection import (
    Inspection,
    builds,
    is_loopback,
    kernel_drift,
    kernel_settings,
    mode_problem,
    outside,
    published,
    settings_of,
    ssh_drift,
)
from flotilla.reach import reached
from flotilla.sockets import parse
from hypothesis import given
from hypothesis import strategies as st

WANTED = "# ours\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nMaxAuthTries 3\nCiphers a,b\n"
EFFECTIVE = "passwordauthentication no\npermitrootlogin without-password\nmaxauthtries 3\nciphers a,b\nport 22\n"


def test_sshd_as_it_was_left_is_no_finding() -> None:
    assert ssh_drift(WANTED, EFFECTIVE) == []


@pytest.mark.parametrize(
    ("was", "is_now", "said"),
    [
        ("passwordauthentication no", "passwordauthentication yes", "sshd has passwordauthentication yes"),
        ("permitrootlogin without-password", "permitrootlogin yes", "sshd has permitrootlogin yes"),
        ("maxauthtries 3", "maxauthtries 6", "sshd has maxauthtries 6, and not 3"),
        ("ciphers a,b", "ciphers a,b,3des-cbc", "sshd has ciphers a,b,3des-cbc, and not a,b"),
    ],
)
def test_sshd_that_drifted(was: str, is_now: str, said: str) -> None:
    assert ssh_drift(WANTED, EFFECTIVE.replace(was, is_now)) == [said]


def test_the_first_setting_counts_and_a_match_ends_them() -> None:
    text = "MaxAuthTries 3\nmaxauthtries=6\nMatch User x\nPasswordAuthentication yes\n"
    assert settings_of(text) == {"maxauthtries": "3"}


def test_the_kernel_that_drifted() -> None:
    text = "# ours\nnet.ipv4.tcp_syncookies = 1\n-kernel.missing = 1\nnet/ipv4/ip_local_port_range = 1024  65535\n"
    now = {"net.ipv4.tcp_syncookies": "0\n", "net.ipv4.ip_local_port_range": "1024\t65535\n"}
    assert kernel_drift(text, now.get) == ["the kernel has net.ipv4.tcp_syncookies = 0, and not 1"]


@given(st.text())
def test_any_text_can_be_settings(text: str) -> None:
    assert isinstance(settings_of(text), dict)
    assert isinstance(kernel_settings(text), dict)
    assert isinstance(ssh_drift(text, text), list)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}\.[a-z_]{1,8}", fullmatch=True), st.integers(0, 99).map(str)))
def test_kernel_settings_are_read_back(values: dict[str, str]) -> None:
    assert kernel_settings("".join(f"{name} = {value}\n" for name, value in values.items())) == values


@pytest.mark.parametrize(
    ("path", "mode", "uid", "said"),
    [
        ("/etc/shadow", 0o640, 0, ""),
        ("/etc/shadow", 0o644, 0, "/etc/shadow has the mode 0644, and may have 0640"),
        ("/etc/shadow", 0o600, 1000, "/etc/shadow belongs to user 1000, and not to root"),
        ("/home/deploy/.ssh/authorized_keys", 0o600, 1000, ""),
    ],
)
def test_modes(path: str, mode: int, uid: int, said: str) -> None:
    assert mode_problem(path, 0o100000 | mode, uid, 0o640) == said


def test_who_listens_for_others() -> None:
    rows = "\n".join(
        ["  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"]
        + [
            f"   {number}: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 1"
            for number, (address, port, state) in enumerate(
                [
                    ("00000000", 22, "0A"),
                    ("0100007F", 631, "0A"),
                    ("3500007F", 53, "0A"),
                    ("0A0A0A0A", 5432, "0A"),
                    ("0A0A0A0A", 9999, "01"),
                    ("00000000000000000000000001000000", 25, "0A"),
                    ("00000000000000000000000000000000", 80, "0A"),
                ]
            )
        ]
    )
    assert outside(parse(rows)) == [22, 80, 5432]
    assert is_loopback("0000000000000000FFFF00000100007F")


def test_what_containers_publish() -> None:
    ports = [
        {"IP": "0.0.0.0", "PrivatePort": 8443, "PublicPort": 443, "Type": "tcp"},
        {"IP": "127.0.0.1", "PrivatePort": 5432, "PublicPort": 5432, "Type": "tcp"},
        {"IP": "0.0.0.0", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
        {"PrivatePort": 3000, "Type": "tcp"},
    ]
    assert published([{"Ports": ports}, {"Ports": None}, {}]) == [443]


def test_which_builds_the_stacks_run() -> None:
    def container(project: str, image: str, number: str) -> dict[str, Any]:
        return {"Labels": {"com.docker.compose.project": project}, "Image": image, "ImageID": number}

    containers: list[dict[str, Any]] = [
        container("nginx", "nginx:1.30", "sha256:1"),
        container("redis", "redis:7@sha256:cc", "sha256:2"),
        # Built on the host; the team's own; started by hand.
        container("haproxy", "haproxy:3.0", "sha256:3"),
        container("notes-blue", "nginx", "sha256:1"),
        {"Labels": None, "Image": "nginx:1.30", "ImageID": "sha256:1"},
    ]
    images: list[dict[str, Any]] = [
        {"Id": "sha256:1", "RepoDigests": ["nginx@sha256:aa"]},
        {"Id": "sha256:2", "RepoDigests": ["redis@sha256:cc"]},
        {"Id": "sha256:3", "RepoDigests": None},
    ]
    assert builds(containers, images) == {
        "nginx": {"image": "nginx:1.30", "digest": "sha256:aa"},
        "redis": {"image": "redis:7", "digest": "sha256:cc"},
    }


def test_a_bare_host_is_all_findings(tmp_path: Path) -> None:
    for name in ("etc/sudoers.d", "opt/flotilla"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/sudoers.d/extra").write_text("x")
    (tmp_path / "etc/sudoers.d/extra").chmod(0o644)
    found, _ = Inspection(tmp_path).findings("abc", " -i inventories/staging")
    assert {one.about for one in found} >= {"modes", "firewall", "hardening", "stamp"}
    assert all(one.next.endswith("-i inventories/staging") for one in found)
    assert "/etc/sudoers.d/extra has the mode 0644, and may have 0440" in [one.what for one in found]


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_a_port_that_answers_is_told_from_one_that_does_not(listener: int) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        shut = int(closed.getsockname()[1])
        assert reached({"127.0.0.1": [listener, shut, listener]}) == {"127.0.0.1": [listener]}

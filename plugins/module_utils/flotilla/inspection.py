"""What a host is like beside what provisioning made of it: sshd, kernel, modes, firewall, open sockets, certificates.

For the host. Functions take texts and return findings; `Inspection` asks the system, and changes nothing.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .engine import Engine, EngineError
from .host import detect_container
from .rules_on_trial import TABLE
from .sockets import LISTEN, Socket, of_process

NFT = "/usr/sbin/nft"
PROVISION = "ansible-playbook playbooks/provision.yml"
SUDO_NEXT = "let ansible_user be the deploy user in the inventory, then remove that rule on the host"
# What no setting of ours allows, whatever stands in the files.
NEVER: Mapping[str, frozenset[str]] = {
    "passwordauthentication": frozenset({"yes"}),
    "kbdinteractiveauthentication": frozenset({"yes"}),
    "permitemptypasswords": frozenset({"yes"}),
    "permitrootlogin": frozenset({"yes"}),
}
# sshd -T tells these in other words than its files.
SAID_OTHERWISE = frozenset(
    {"hostkey", "persourcepenalties", "banner", "maxstartups", "allowusers", "authenticationmethods"}
)
SAME = {"without-password": "prohibit-password"}
# Path pattern → the most that its mode may be. All belong to root, but for what is in an app's directory.
MODES: Mapping[str, int] = {
    "/etc/shadow": 0o640,
    "/etc/sudoers.d/*": 0o440,
    "/etc/ssh/ssh_host_*_key": 0o600,
    "/home/*/.ssh/authorized_keys": 0o600,
    "/opt/flotilla/stamp.json": 0o600,
    "/opt/flotilla/trail.jsonl": 0o600,
    "/opt/flotilla/*/.env": 0o600,
    "/opt/*/secrets": 0o700,
    "/opt/*/releases": 0o700,
    "/opt/*/history.jsonl": 0o600,
    "/root/.docker/config.json": 0o600,
    "/root/.ssh/authorized_keys": 0o600,
}
# The Compose projects of Flotilla's own, which run images of a registry as they are.
STACKS = frozenset({"haproxy", "nginx", "postgres", "redis"})
LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be. about: a topic of the table.  next: a command or an edit."""

    about: str
    what: str
    next: str

    def as_data(self) -> dict[str, str]:
        return {"about": self.about, "what": self.what, "next": self.next}


def settings_of(text: str) -> dict[str, str]:
    """The settings of sshd_config(5) or of `sshd -T`, names in small letters. Of one given twice the first counts.

    A `Match` block ends what holds for everybody.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.strip().replace("=", " ", 1).partition(" ")
        if not name or name.startswith("#"):
            continue
        if name.lower() == "match":
            break
        found.setdefault(name.lower(), " ".join(value.split()))
    return found


def ssh_drift(wanted: str, effective: str) -> list[str]:
    """Where what sshd does is not what the role wrote. wanted: the role's file, empty where it wrote none."""
    does = settings_of(effective)
    found = [f"sshd has {name} {does[name]}" for name, values in NEVER.items() if wanted and does.get(name) in values]
    for name, value in settings_of(wanted).items():
        if name in SAID_OTHERWISE or name not in does or name in NEVER:
            continue
        now = SAME.get(does[name], does[name])
        if now.lower() != value.lower():
            found.append(f"sshd has {name} {does[name] or 'unset'}, and not {value}")
    return found


def passwordless(text: str) -> list[str]:
    """Who may become root without a password, by the rules of a file of sudoers(5): names, `%group` for a group's."""
    joined = text.replace("\\\n", " ")
    rules = (line.strip() for line in joined.splitlines() if not line.lstrip().startswith(("#", "@", "Defaults")))
    return sorted({rule.split()[0] for rule in rules if "NOPASSWD" in rule})


def kernel_settings(text: str) -> dict[str, str]:
    """The settings of a file of sysctl.d(5), by name with dots; of one that is given twice the last counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.strip().partition("=")
        if separator and not name.lstrip().startswith(("#", ";")):
            found[name.strip().removeprefix("-").replace("/", ".")] = " ".join(value.split())
    return found


def kernel_drift(text: str, read: Callable[[str], str | None]) -> list[str]:
    """Where the kernel is not as the role's file has it. read: a setting's value, None where it has none."""
    found = []
    for name, value in kernel_settings(text).items():
        now = read(name)
        if now is not None and " ".join(now.split()) != value:
            found.append(f"the kernel has {name} = {' '.join(now.split())}, and not {value}")
    return found


def mode_problem(path: str, mode: int, uid: int, most: int) -> str:
    """Why a file is too open, or nothing."""
    if mode & 0o7777 & ~most:
        return f"{path} has the mode {mode & 0o7777:04o}, and may have {most:04o}"
    if uid != 0 and not path.startswith("/home/"):
        return f"{path} belongs to user {uid}, and not to root"
    return ""


def outside(rows: Iterable[Socket]) -> list[int]:
    """The ports on which somebody listens for others than this host itself, sorted."""
    return sorted({row.local_port for row in rows if row.state == LISTEN and not is_loopback(row.local_address)})


def is_loopback(address: str) -> bool:
    """Whether an address, as /proc/net/tcp writes it, is 127.0.0.0/8 or ::1."""
    return address in LOOPBACK or (len(address) == 8 and address.endswith("7F"))


def published(containers: Iterable[Mapping[str, Any]]) -> list[int]:
    """The TCP ports that containers publish for others than this host, sorted. containers: of the engine's list."""
    ports = [port for one in containers for port in one.get("Ports") or ()]
    open_to_others = (p for p in ports if p.get("Type") == "tcp" and not str(p.get("IP", "")).startswith("127."))
    return sorted({int(port["PublicPort"]) for port in open_to_others if port.get("PublicPort")})


def builds(containers: Iterable[Mapping[str, Any]], images: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Stack → `image`, the name it runs, and `digest`, what the registry called that. Both lists are the engine's.

    An image that was built on the host has no digest, and is left out.
    """
    digests = {str(one["Id"]): digest for one in images for digest in one.get("RepoDigests") or ()}
    found = {}
    for one in containers:
        stack = str((one.get("Labels") or {}).get("com.docker.compose.project", ""))
        digest = digests.get(str(one.get("ImageID")), "").partition("@")[2]
        if stack in STACKS and digest:
            found[stack] = {"image": str(one["Image"]).partition("@")[0], "digest": digest}
    return found


@dataclass(frozen=True)
class Inspection:
    """The host as it is."""

    root: Path = Path("/")

    def findings(self, stamp: str, command: str) -> tuple[list[Finding], list[str]]:
        """What is not as provisioning left it, and what could not be looked at. command: ends what to run next."""
        again = f"{PROVISION}{command}"
        container = detect_container(self.root)
        elsewhere = f"remove what says so below /etc/ssh, then {again}"
        found = [Finding("sshd", what, elsewhere) for what in self._ssh()]
        found += [Finding("modes", what, again) for what in self._modes()]
        found += self._sudo()
        found += self._firewall(again)
        notes = []
        if container:
            notes.append("the kernel's settings were not compared: the host is a container")
        else:
            text = self._text("etc/sysctl.d/60-flotilla.conf") or ""
            found += [Finding("kernel", what, again) for what in kernel_drift(text, self._kernel)]
        if self._text("etc/flotilla/ssh/sshd_config") is None:
            found.append(Finding("hardening", "the host is not hardened", f"set base_hardening: true, then {again}"))
        if stamp != self._stamp():
            what = "the host was not provisioned from this checkout and inventory, or not to the end"
            found.append(Finding("stamp", what, again))
        return found, notes

    def ports(self) -> list[int]:
        """The TCP ports that others might reach, were there no firewall."""
        try:
            engine = published(Engine().get("/containers/json"))
        except (EngineError, OSError, ValueError, KeyError):
            engine = []
        return sorted({*outside(of_process(1)), *engine})

    def builds(self) -> dict[str, dict[str, str]]:
        """Which build of its image each of Flotilla's stacks runs: see the function."""
        try:
            engine = Engine()
            return builds(engine.get("/containers/json"), engine.get("/images/json"))
        except (EngineError, OSError, ValueError, KeyError):
            return {}

    def _ssh(self) -> list[str]:
        wanted = self._text("etc/flotilla/ssh/sshd_config") or ""
        done = _run("/usr/sbin/sshd", "-T")
        if done is None:
            return ["sshd -T fails: its configuration cannot be read"] if wanted else []
        return ssh_drift(wanted, done)

    def _sudo(self) -> list[Finding]:
        files = [self.root / "etc/sudoers", *sorted((self.root / "etc/sudoers.d").glob("*"))]
        return [
            Finding("sudo", f"{who} may become root without a password: /{path.relative_to(self.root)}", SUDO_NEXT)
            for path in files
            if path.is_file() and not path.name.startswith("60-flotilla")
            for who in passwordless(path.read_text(errors="replace"))
        ]

    def _modes(self) -> Iterable[str]:
        for pattern, most in MODES.items():
            for path in sorted(self.root.glob(pattern.lstrip("/"))):
                status = path.lstat()
                if said := mode_problem(f"/{path.relative_to(self.root)}", status.st_mode, status.st_uid, most):
                    yield said

    def _firewall(self, again: str) -> list[Finding]:
        proven = self._text("opt/flotilla/firewall/listing")
        if proven is None:
            return [
                Finding(
                    "firewall",
                    "the host was not provisioned with a firewall",
                    f"see roles/firewall/README.md, then {again}",
                )
            ]
        loaded = _run(NFT, "--stateless", "list", "table", *TABLE.split())
        if loaded is None:
            return [Finding("firewall", f"the table {TABLE} is not loaded: the host is open", again)]
        if loaded != proven:
            return [
                Finding("firewall", f"the table {TABLE} is not the one that was proven: somebody changed it", again)
            ]
        return []

    def _kernel(self, name: str) -> str | None:
        return self._text(f"proc/sys/{name.replace('.', '/')}")

    def _stamp(self) -> str:
        try:
            return str(json.loads(self._text("opt/flotilla/stamp.json") or "")["stamp"])
        except (ValueError, KeyError, TypeError):
            return ""

    def _text(self, path: str) -> str | None:
        try:
            return (self.root / path).read_text(errors="replace")
        except OSError:
            return None


def served_certificate(address: str, port: int, name: str, seconds: float = 5.0) -> str:
    """The certificate, as PEM, that is served for a name. Raises OSError. It is read, not trusted."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((address, port), seconds) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")


def _run(*argv: str) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def served(addresses: Sequence[str], port: int, names: Iterable[str]) -> dict[str, str]:
    """Name → PEM of the certificate that this host serves for it, or `error: …`."""
    found = {}
    for name in names:
        said = ""
        for address in addresses:
            try:
                said = served_certificate(address, port, name)
                break
            except OSError as error:
                said = f"error: {error}"
        found[name] = said
    return found

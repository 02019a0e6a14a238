"""What of the host, or of another app, a container may have: what `apps[…].privileges` names for its service.

A privilege is a word, a capability, or a `path:`, `volume:` or `network:` with its name. All is an allow list: what is
not known to be the container's own needs a name. Each of them and its reason: docs/reference/compose-keys.md.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..problem import did_you_mean
from .findings import Findings
from .model import Context
from .values import size, unescape

# The word, and what it lets a service have.
WORDS: Mapping[str, str] = {
    "annotations": "`annotations`: they steer the runtime on the host",
    "cgroup": "`cgroup: host`: the host's control groups",
    "cgroup_parent": "`cgroup_parent`: a control group that other limits hold for",
    "cpu_rt": "`cpu_rt_runtime`, `cpu_rt_period`: time of the processors that nobody else gets",
    "devices": "`devices`, `device_cgroup_rules`: devices of the host",
    "docker_socket": "the engine's socket, `/var/run/docker.sock` or `use_api_socket`: it is root on the host",
    "driver_opts": "volumes and networks with `driver_opts` or a `driver` of their own: NFS, a block device, a plugin",
    "gpus": "`gpus`, `deploy.resources.reservations.devices`: graphics processors of the host",
    "ipc": "`ipc: host`: the host's shared memory",
    "logging": "a `logging.driver` that sends the log somewhere, with the host's network, or a log without a limit",
    "network_mode": "`network_mode: host`: the host's network, its loopback and its ports; for a service in `shared`",
    "oom": "`oom_kill_disable`, `oom_score_adj` below 0: when memory runs out, others go",
    "pid": "`pid: host`: the host's processes",
    "pids_limit": "processes without a limit",
    "privileged": "`privileged`, of the service or of a hook: root on the host",
    "runtime": "a `runtime` other than `runc`",
    "sysctls": "`sysctls` that are the host's",
    "unconfined": "`security_opt` that lifts or replaces what the engine confines with",
    "userns_mode": "`userns_mode: host`: the host's users",
    "uts": "`uts: host`: the host's name",
}
NAMED: Mapping[str, str] = {
    "path": "`path:/srv/media`, that path of the host and none below it; `path:/srv/media:ro` to be read only",
    "volume": "`volume:media`, a volume that is not the app's own",
    "network": "`network:company`, a network that is not the app's own",
}
# The engine's own choice (https://docs.docker.com/engine/containers/run/#runtime-privilege-and-linux-capabilities), and
# those that end at the container's own network, memory limit and share of the processors.
HARMLESS_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "IPC_LOCK",
        "IPC_OWNER",
        "KILL",
        "LEASE",
        "MKNOD",
        "NET_ADMIN",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
        "SYS_NICE",
    }
)
# capabilities(7): those that reach past the container, to the kernel, the host's files, devices and other processes.
REACHING_CAPABILITIES = frozenset(
    {
        "ALL",
        "AUDIT_CONTROL",
        "AUDIT_READ",
        "BLOCK_SUSPEND",
        "BPF",
        "CHECKPOINT_RESTORE",
        "DAC_READ_SEARCH",
        "LINUX_IMMUTABLE",
        "MAC_ADMIN",
        "MAC_OVERRIDE",
        "PERFMON",
        "SYSLOG",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_MODULE",
        "SYS_PACCT",
        "SYS_PTRACE",
        "SYS_RAWIO",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "WAKE_ALARM",
    }
)
_OF_A_NETWORK = frozenset({"NET_ADMIN", "NET_RAW", "NET_BROADCAST"})
_HOST_NAMESPACES = {
    "pid": "its processes",
    "ipc": "its shared memory",
    "uts": "its name",
    "cgroup": "its control groups",
    "userns_mode": "its users",
}
_CONFINED = re.compile(r"no-new-privileges(?:[:=](?:true|false))?|seccomp[:=]builtin")
# https://docs.docker.com/reference/cli/docker/container/run/#sysctl
_OWN_SYSCTL = re.compile(r"kernel\.(?:msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)|fs\.mqueue\.\w+")
_NETWORK_SYSCTL = re.compile(r"net(?:\.[\w-]+)+")
_LOGGING = frozenset({"json-file", "local", "journald", "none"})
# Of one container's log.
_LOG_BYTES = 1024**3
_RUNTIMES = frozenset({"runc", "io.containerd.runc.v2"})
_NETWORK_OPTIONS = frozenset(
    {
        "com.docker.network.driver.mtu",
        "com.docker.network.bridge.enable_icc",
        "com.docker.network.bridge.enable_ip_masquerade",
    }
)
_TMPFS_OPTION = re.compile(r"(?:size|mode|uid|gid|nr_inodes)=\w+%?|noexec|nosuid|nodev|ro|rw|")
_SOCKETS = frozenset({"/run/docker.sock", "/var/run/docker.sock"})
# A mount of one of these holds the engine, its data, or its socket.
_ENGINE = ("/run/docker.sock", "/run/docker", "/run/containerd", "/var/lib/docker", "/var/lib/containerd")
# What any account of a host may read, and what the same image would have in another place.
_HARMLESS_FILES = ("/etc/localtime", "/etc/os-release", "/etc/timezone")
_HARMLESS_DIRECTORIES = (
    "/etc/pki/ca-trust/extracted",
    "/etc/ssl/certs",
    "/usr/local/share/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/share/zoneinfo",
)


def capability(name: object) -> str:
    """One spelling for `cap_sys_admin`, `CAP_SYS_ADMIN` and `SYS_ADMIN`; a privilege's word likewise."""
    return str(name).strip().upper().removeprefix("CAP_")


def plain(path: str) -> str:
    """A path of the host without detours. What it says is what is mounted then, not what was written."""
    return re.sub(r"^/+", "/", posixpath.normpath(path))


def below(path: str, directory: str) -> bool:
    """Whether a path is a directory or lies in it; both plain."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def harmless(path: str) -> bool:
    """Whether a plain path of the host may be read by any container."""
    return path in _HARMLESS_FILES or any(below(path, directory) for directory in _HARMLESS_DIRECTORIES)


def holds_the_engine(path: str) -> bool:
    """Whether a plain path is the engine's, or has it below: with it, a container is root on the host."""
    known = re.sub(r"^/var/run(?=/|$)", "/run", re.sub(r"^/proc/[^/]+/root(?=/|$)", "", path)) or "/"
    return any(below(known, place) or below(place, known) for place in _ENGINE)


def granted(privileges: Iterable[str], privilege: str) -> bool:
    """Whether a service may have a privilege, by those that the inventory names for it.

    A `path:` lets the path be read and written; `path:…:ro` lets it be read.
    """
    named = {_spelt(item) for item in privileges}
    wanted = _spelt(privilege)
    return wanted in named or (wanted.startswith("path:") and wanted.removesuffix(":ro") in named)


def refuse_unless(
    name: str | Sequence[str], path: str, privilege: str, what: str, context: Context, findings: Findings, fix: str = ""
) -> bool:
    """Refuse what its services may not have. Returns whether they may. fix: another way out than `remove it`."""
    names = [name] if isinstance(name, str) else list(name)
    lacking = [one for one in names if not granted(context.privileges.get(one, ()), privilege)]
    if lacking:
        entry = ", ".join(f"{one}: [{_quoted(privilege)}]" for one in lacking)
        way = f"{fix or 'remove it'}, or, where the app may have it, write `privileges: {{{entry}}}`"
        findings.refuse(path, what, f"{way} into apps[{context.app}] of {context.inventory}")
    return not lacking


def refuse(name: str, service: Mapping[str, Any], context: Context, findings: Findings) -> None:
    """What a service's own keys give it of the host, and what it takes over from another one that may have it."""
    for path, privilege, what in (*_asked(service), *_inherited(service, context.privileges)):
        refuse_unless(name, f"services.{name}.{path}", privilege, what, context, findings)


def refuse_path(
    name: str, path: str, source: str, read_only: bool, context: Context, findings: Findings, fix: str = ""
) -> None:
    """A plain path of the host that a service would have."""
    if source in _SOCKETS:
        what = f"{source} is the engine's socket, and with it the container is root on the host"
        refuse_unless(name, path, "docker_socket", what, context, findings)
        return
    what = f"{source} is the host's"
    if holds_the_engine(source):
        what += ", and it is or holds the engine's socket or its data: with it the container is root on the host"
    privilege = f"path:{source}:ro" if read_only else f"path:{source}"
    fix = fix or f"mount a named volume, or a file beside {context.file}"
    refuse_unless(name, path, privilege, what, context, findings, fix)


def check(services: Mapping[str, Any], context: Context, findings: Findings) -> None:
    """`apps[…].privileges` itself: services and privileges that there are."""
    known = sorted([*WORDS, *REACHING_CAPABILITIES])
    for name, privileges in sorted(context.privileges.items()):
        if name not in services:
            findings.unknown_service(f"privileges.{name}", name, services)
        for index, item in enumerate(privileges):
            if not valid(item):
                what = f"`{item}` is not one of them{did_you_mean(item, known)}"
                fix = f"write one of {', '.join(WORDS)}, a capability, path:/…, path:/…:ro, volume:… or network:…"
                findings.refuse_inventory(f"privileges.{name}[{index}]", what, fix)


def valid(privilege: str) -> bool:
    """Whether it is written as a privilege is."""
    kind, colon, value = privilege.partition(":")
    if colon and kind == "path":
        value = value.removesuffix(":ro")
        return value == plain(value) and value.startswith("/") and ":" not in value
    if colon:
        return kind in NAMED and re.fullmatch(r"[A-Za-z0-9][\w.-]*", value) is not None
    word = capability(privilege)
    return word.lower() in WORDS or word in REACHING_CAPABILITIES | _OF_A_NETWORK


def loud(app: str, privileges: Mapping[str, Iterable[str]]) -> list[str]:
    """What somebody has to know of an app's privileges before a deploy: who gets in there is root on the host."""
    said = []
    for name, items in sorted(privileges.items()):
        for item in items:
            path = item.removeprefix("path:").removesuffix(":ro") if item.startswith("path:/") else ""
            if item.lower() == "docker_socket":
                what = "has the engine's socket"
            elif item.lower() == "privileged" or capability(item) in ("ALL", "SYS_ADMIN", "SYS_MODULE"):
                what = f"is {item}" if item.lower() == "privileged" else f"has {capability(item)}"
            elif path and holds_the_engine(plain(path)):
                what = f"has {path}, which holds the engine's socket or its data,"
            else:
                continue
            said.append(f"apps[{app}].privileges: `{name}` {what}: who breaks into it is root on every app host")
    return said


def _asked(service: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Path below the service, the privilege, and what it gives."""
    if _true(service.get("privileged")):
        yield "privileged", "privileged", "makes the container root on the host"
    for key in ("post_start", "pre_stop"):
        for index, hook in enumerate(_listed(service.get(key))):
            if isinstance(hook, Mapping) and _true(hook.get("privileged")):
                yield f"{key}[{index}].privileged", "privileged", "makes the hook root on the host"
    for key, what in _HOST_NAMESPACES.items():
        if str(service.get(key) or "") == "host":
            yield key, key, f"shares the host's namespace, {what}"
    if str(service.get("network_mode") or "") == "host":
        yield (
            "network_mode",
            "network_mode",
            "shares the host's network with its loopback, and two colours would open the same ports of it",
        )
    for key in ("devices", "device_cgroup_rules"):
        if service.get(key):
            yield key, "devices", "gives devices of the host to the container"
    if service.get("gpus"):
        yield "gpus", "gpus", "gives graphics processors of the host to the container"
    if _within(service, "deploy", "resources", "reservations").get("devices"):
        yield "deploy.resources.reservations.devices", "gpus", "gives devices of the host to the container"
    for key, privilege, what in (
        ("annotations", "annotations", "steers the runtime on the host"),
        ("cgroup_parent", "cgroup_parent", "takes the container out of the limits that hold for the others"),
        ("cpu_rt_period", "cpu_rt", "takes time of the processors from all others"),
        ("cpu_rt_runtime", "cpu_rt", "takes time of the processors from all others"),
        ("use_api_socket", "docker_socket", "gives the container the engine's socket, and with it the host"),
    ):
        if service.get(key):
            yield key, privilege, what
    if _true(service.get("oom_kill_disable")):
        yield "oom_kill_disable", "oom", "lets the container stop the host when memory runs out"
    if _number(service.get("oom_score_adj")) < 0:
        yield "oom_score_adj", "oom", "has others killed in its place when memory runs out"
    for path, stated in (
        ("pids_limit", service.get("pids_limit")),
        ("deploy.resources.limits.pids", _within(service, "deploy", "resources", "limits").get("pids")),
    ):
        if stated is not None and _number(stated) <= 0 and "$" not in str(stated):
            yield path, "pids_limit", "lets the container start processes until the host can start none"
    if str(service.get("runtime") or "runc") not in _RUNTIMES:
        yield "runtime", "runtime", f"`{service['runtime']}` is a program of the host, which may confine less than runc"
    driver = _within(service, "logging").get("driver")
    if driver and driver not in _LOGGING:
        yield (
            "logging.driver",
            "logging",
            f"`{driver}` sends the log somewhere, from the engine and with the host's network",
        )
    if unlimited := _unlimited_log(service):
        yield "logging.options", "logging", unlimited
    yield from _security(service)


def _unlimited_log(service: Mapping[str, Any]) -> str:
    """Why the limits that a service states for its log are none, or nothing. Silence gets the defaults."""
    logging = _within(service, "logging")
    if str(logging.get("driver") or "json-file") not in ("json-file", "local"):
        return ""
    stated = _within(service, "logging", "options")
    largest, files = str(stated.get("max-size", "10m")), str(stated.get("max-file", "3"))
    if "$" in largest + files:
        return ""
    try:
        bytes_ = size(largest) * int(files)
    except ValueError:
        bytes_ = 0
    if 0 < bytes_ <= _LOG_BYTES:
        return ""
    return f"max-size {largest} and max-file {files} are no limit, or one above 1 GiB: the log would fill the disk"


def _inherited(service: Mapping[str, Any], privileges: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, str, str]]:
    """What a service has by joining another one's namespaces or mounts."""
    for key in ("network_mode", "pid", "ipc"):
        kind, _, other = str(service.get(key) or "").partition(":")
        if kind == "service" and granted(privileges.get(other, ()), key):
            yield key, key, f"joins `{other}`, which may have the host's"
    for index, entry in enumerate(_listed(service.get("volumes_from"))):
        other = str(entry).partition(":")[0]
        for item in privileges.get(other, ()):
            if _spelt(item) in ("DOCKER_SOCKET", "DRIVER_OPTS") or item.startswith(("path:", "volume:")):
                yield f"volumes_from[{index}]", item, f"mounts what `{other}` may have"


def _security(service: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    of_host = str(service.get("network_mode") or "") == "host"
    for index, option in enumerate(_listed(service.get("security_opt"))):
        if not _CONFINED.fullmatch(str(option).strip().lower()):
            what = f"`{option}` lifts or replaces a limit that the engine gives each container"
            yield f"security_opt[{index}]", "unconfined", what
    for index, added in enumerate(_listed(service.get("cap_add"))):
        known = capability(added)
        if known not in HARMLESS_CAPABILITIES or (of_host and known in _OF_A_NETWORK):
            yield f"cap_add[{index}]", known, f"{known} reaches past the container"
    sysctls = service.get("sysctls") or {}
    named = (
        [(f"sysctls.{key}", str(key)) for key in sysctls]
        if isinstance(sysctls, Mapping)
        else [(f"sysctls[{index}]", str(entry).partition("=")[0]) for index, entry in enumerate(_listed(sysctls))]
    )
    for path, key in named:
        own = _OWN_SYSCTL.fullmatch(key) and service.get("ipc") != "host"
        if not own and not (_NETWORK_SYSCTL.fullmatch(key) and not of_host):
            yield path, "sysctls", f"`{key}` is a setting of the host's kernel"
    networks = service.get("networks")
    for key, attachment in (networks if isinstance(networks, Mapping) else {}).items():
        if isinstance(attachment, Mapping) and attachment.get("driver_opts"):
            yield f"networks.{key}.driver_opts", "driver_opts", "steers the engine's network driver on the host"


def harmless_network_options(options: Mapping[str, Any]) -> bool:
    """Whether `driver_opts` of a network say nothing of the host's own interfaces and rules."""
    return options.keys() <= _NETWORK_OPTIONS


def is_tmpfs(options: Mapping[str, Any]) -> bool:
    """Whether `driver_opts` of a volume make a tmpfs and nothing else."""
    stated = {key: unescape(str(value)) for key, value in options.items()}
    mounted = (
        stated.get("type") == "tmpfs" and stated.get("device") == "tmpfs" and stated.keys() <= {"type", "device", "o"}
    )
    return mounted and all(_TMPFS_OPTION.fullmatch(option) for option in stated.get("o", "").split(","))


def bound_directory(options: Mapping[str, Any]) -> tuple[str, bool] | None:
    """The directory of the host that `driver_opts` of a volume bind, and whether read-only; None for anything else."""
    stated = {key: unescape(str(value)) for key, value in options.items()}
    flags = stated.get("o", "").split(",")
    device = stated.get("device", "")
    bound = stated.get("type", "none") in ("none", "bind", "") and {"bind", "rbind"} & set(flags)
    if not bound or not device.startswith("/") or set(flags) - {"bind", "rbind", "ro", "rw"}:
        return None
    return plain(device), "ro" in flags


def kept_otherwise(found: Mapping[str, Any], wanted: Mapping[str, Any], base: str) -> str:
    """What a volume that is there mounts, by its own options, where the file does not say so; empty for nothing.

    The engine keeps the options that a volume was made with. base: of the app, which may bind what is in its `shared`.
    """
    bound = bound_directory(found)
    if not found or is_tmpfs(found) or (bound and below(bound[0], f"{base}/shared")):
        return ""
    spelt = [
        {key: plain(str(value)) if key == "device" else str(value) for key, value in options.items()}
        for options in (found, wanted)
    ]
    # The others may have a password.
    shown = " ".join(str(found[key]) for key in ("type", "device") if found.get(key))
    return "" if spelt[0] == spelt[1] else shown or "options of its driver"


def _spelt(privilege: str) -> str:
    """One spelling of a privilege; what comes after a colon is kept."""
    return privilege if ":" in privilege else capability(privilege)


def _quoted(privilege: str) -> str:
    """As an entry of a YAML list in brackets."""
    return privilege if re.fullmatch(r"[\w:/.@+-]+", privilege) else '"' + privilege.replace('"', '\\"') + '"'


def _true(value: object) -> bool:
    return str(value or "").lower() == "true"


def _number(value: object) -> float:
    """A number of a file, or of its text; 1 for anything else."""
    try:
        return float(str(value))
    except ValueError:
        return 1


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _within(value: object, *keys: str) -> Mapping[str, Any]:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}

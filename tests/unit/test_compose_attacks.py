"""A Compose file that takes the host, or another app. Nothing of it goes through, unless `privileges` name it."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

import pytest
from flotilla.bundle import BundleError, collect
from flotilla.resolve import ComposeFileError, Context, Resolved, resolve
from flotilla.resolve.privileges import kept_otherwise
from flotilla.static import static_problems

Where = dict[str, Any]


def resolved(service: Where, top: Where | None = None, **context: Any) -> Resolved:
    """A file of one service, as `docker compose config` prints it."""
    whole = {"image": "team/app:1", "networks": {"default": None}, **service}
    if "network_mode" in service:
        del whole["networks"]
    networks = {"default": {"name": "notes_default", "ipam": {}}, **(top or {}).get("networks", {})}
    config = {"name": "notes", "services": {"web": whole}, **(top or {}), "networks": networks}
    given = {"app": "notes", "source": "/run/flotilla-1/source", "base": "/opt/notes", **context}
    return resolve(config, Context(**given))


def refusal(service: Where, top: Where | None = None, **context: Any) -> str:
    with pytest.raises(ComposeFileError) as error:
        resolved(service, top, **context)
    return str(error.value)


def bind(source: str, **keys: Any) -> Where:
    return {"volumes": [{"type": "bind", "source": source, "target": "/x", "read_only": True, **keys}]}


def volume(**definition: Any) -> tuple[Where, Where]:
    return {"volumes": [{"type": "volume", "source": "v", "target": "/x"}]}, {"volumes": {"v": definition}}


def network(**definition: Any) -> tuple[Where, Where]:
    return {"networks": {"n": None}}, {"networks": {"n": definition}}


def device(path: str, kind: str = "none", options: str = "bind") -> tuple[Where, Where]:
    return volume(driver_opts={"type": kind, "o": options, "device": path})


# -- what the host's own engine is told: an attack, and the privilege that lets it -------------------------

PATHS = [
    "/etc",
    "/etc/shadow",
    "/root",
    "/home",
    "/opt",
    "/opt/todo/secrets",
    "/opt/todo/shared",
    "/opt/notes",
    "/opt/notes/secrets/3f",
    "/opt/notes/shared/../secrets",
    "/opt/notesx/shared",
    "/opt/flotilla/postgres",
    "/proc/1/root",
    "/proc/1/root/etc/localtime",
    "/proc/self/root",
    "/proc",
    "/sys",
    "/dev",
    "/dev/mem",
    "/boot",
    "/",
    "//",
    "/run",
    "/var/run",
    "/var/lib/docker/volumes/postgres-data/_data",
    "/run/flotilla-1",
    "/run/flotilla-1/source/../../etc",
    "/run/flotilla-1/sourcery",
    "/etc/localtime/../shadow",
    "/etc/ssl/certs/../private",
    "/etc/ssl/private",
    "/etc/ssl",
    "/etc/ssl/certsx",
    "/usr/share/zoneinfo/../../../root",
    "/tmp",
    "/srv/media",
    "/run/postgresql",
    "/mnt/nfs",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_of_the_host_needs_its_name(path: str) -> None:
    plain = "/" + posixpath.normpath(path).lstrip("/")
    for attack in (
        (bind(path), None),
        device(path),
        ({"configs": [{"source": "c"}]}, {"configs": {"c": {"file": path}}}),
    ):
        said = refusal(*attack)
        assert f"path:{plain}" in said
        found = resolved(*attack, privileges={"web": (f"path:{plain}",)})
        assert path in (plain, "//") or path not in str([found.compose, found.volumes])
        assert "path:" in refusal(*attack, privileges={"web": (f"path:{plain}x", "path:/srv", "privileged")})
        assert "path:" in refusal(*attack, privileges={"other": (f"path:{plain}",)})


@pytest.mark.parametrize("path", ["/srv/media", "/opt/todo/secrets"])
def test_a_path_that_is_named_to_be_read_is_not_written(path: str) -> None:
    named = {"web": (f"path:{path}:ro",)}
    assert resolved(bind(path), privileges=named)
    assert f"path:{path}]" in refusal(bind(path, read_only=False), privileges=named)
    assert resolved(bind(path, read_only=False), privileges={"web": (f"path:{path}",)})
    assert f"path:{path}]" in refusal(*device(path), privileges=named)
    assert resolved(*device(path, options="bind,ro"), privileges=named)


SHARED = "/opt/notes/shared"
UPLOAD = "/run/flotilla-1/source"


def nested(outer: Where, inner: tuple[Where, Where | None]) -> tuple[Where, Where]:
    """What a container writes to, and what another mount finds below it."""
    given, top = inner
    volumes = [*outer["volumes"], *given.get("volumes", [])]
    return {**given, "volumes": [{**one, "target": f"/x{i}"} for i, one in enumerate(volumes)]}, top or {}


@pytest.mark.parametrize(
    "outer", [bind(f"{SHARED}/data", read_only=False), bind(f"{UPLOAD}/data", read_only=False)], ids=["whole", "beside"]
)
@pytest.mark.parametrize(
    "inner",
    [
        (bind(f"{SHARED}/data/sub", read_only=False), None),
        (bind(f"{SHARED}/data/sub"), None),
        (bind(f"{UPLOAD}/data/sub"), None),
        (bind(f"{UPLOAD}/data/../data/a/b", read_only=False), None),
        device(f"{SHARED}/data/sub"),
        device(f"{SHARED}/data/sub", options="bind,ro"),
    ],
    ids=["writable", "read", "beside", "deeper", "volume", "volume read"],
)
def test_nothing_is_mounted_from_below_what_a_container_writes_to(outer: Where, inner: tuple[Where, Where]) -> None:
    """It would put a link to /etc there."""
    said = refusal(*nested(outer, inner), shared_paths=("data",))
    assert f"lies in {SHARED}/data, which services.web.volumes[0] mounts writable" in said
    # Both to be read, the same twice, or one beside the other: nobody plants anything.
    to_read = {"volumes": [{**one, "read_only": True} for one in outer["volumes"]]}
    if "writable" not in str(inner):
        assert resolved(*nested(to_read, (bind(f"{SHARED}/data/sub"), None)), shared_paths=("data",))
    assert resolved(*nested(outer, (outer, None)), shared_paths=("data",))
    assert resolved(*nested(outer, (bind(f"{SHARED}/data2", read_only=False), None)), shared_paths=("data",))


def test_files_of_shared_services_lie_below_nothing_that_a_container_writes_to() -> None:
    database = {"image": "postgres:17", "networks": {"default": None}, **bind(f"{UPLOAD}/conf")}
    top = {"services": {"web": {"image": "t/a:1", "networks": {"default": None}, **bind(SHARED, read_only=False)}}}
    with pytest.raises(ComposeFileError, match=r"services\.db\.volumes\[0\]: /opt/notes/shared/\.files/conf lies in"):
        resolved({}, {"services": {**top["services"], "db": database}}, shared=("db",))


def test_a_path_of_the_host_below_one_that_is_written_is_refused_though_both_are_named() -> None:
    both = nested(bind("/srv/media", read_only=False), (bind("/srv/media/in"), None))
    named = {"web": ("path:/srv/media", "path:/srv/media/in")}
    assert "/srv/media/in lies in /srv/media" in refusal(*both, privileges=named)
    # Who has all of the host loses nothing by a socket of it.
    agent = nested(bind("/", read_only=False), (bind("/var/run/docker.sock"), None))
    assert resolved(*agent, privileges={"web": ("path:/", "docker_socket")})


def test_what_is_bound_in_the_shared_directory_is_looked_at_before_the_engine_does() -> None:
    for service, top in ((bind(f"{SHARED}/data/sub"), None), device(f"{SHARED}/data/sub")):
        assert resolved(service, top).shared_directories == (f"{SHARED}/data/sub",)


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ({}, {}, ""),
        ({}, {"type": "nfs", "device": ":/media"}, ""),
        ({"type": "none", "o": "bind", "device": "/etc"}, {}, "none /etc"),
        ({"type": "none", "o": "bind", "device": "/etc/"}, {"type": "none", "o": "bind", "device": "/etc"}, ""),
        (
            {"type": "none", "o": "bind", "device": "/etc"},
            {"type": "none", "o": "bind,ro", "device": "/etc"},
            "none /etc",
        ),
        ({"type": "none", "o": "bind", "device": f"{SHARED}/data"}, {}, ""),
        ({"type": "none", "o": "bind", "device": f"{SHARED}/../secrets"}, {}, f"none {SHARED}/../secrets"),
        ({"type": "cifs", "o": "password=hidden", "device": "//nas/media"}, {}, "cifs //nas/media"),
        ({"type": "tmpfs", "o": "size=1m", "device": "tmpfs"}, {}, ""),
        ({"size": "1T"}, {}, "options of its driver"),
    ],
)
def test_a_volume_of_before_that_leads_elsewhere_is_told(found: Where, wanted: Where, expected: str) -> None:
    """The engine returns it for whatever options it is asked."""
    assert kept_otherwise(found, wanted, "/opt/notes") == expected


SOCKETS = ["/var/run/docker.sock", "/run/docker.sock", "//var/run/../run/docker.sock", "/run/./docker.sock"]


@pytest.mark.parametrize("path", SOCKETS)
def test_the_engine_s_socket_is_a_privilege_of_its_own(path: str) -> None:
    assert "[docker_socket]" in refusal(bind(path))
    found = resolved(bind(path), privileges={"web": ("docker_socket",)})
    assert any("docker.sock" in str(entry.get("source")) for entry in found.compose["services"]["web"]["volumes"])
    assert "[docker_socket]" in refusal({"use_api_socket": True})


ATTACKS: list[tuple[str, tuple[Where, Where | None]]] = [
    (
        "driver_opts",
        volume(driver_opts={"type": "overlay", "o": "lowerdir=/,upperdir=/tmp/u,workdir=/tmp/w", "device": "overlay"}),
    ),
    ("driver_opts", volume(driver_opts={"type": "ext4", "device": "/dev/vda1"})),
    ("driver_opts", volume(driver_opts={"type": "nfs", "o": "addr=10.0.0.2,rw", "device": ":/export"})),
    ("driver_opts", volume(driver_opts={"type": "cifs", "o": "addr=10.0.0.2", "device": "//10.0.0.2/share"})),
    ("driver_opts", volume(driver_opts={"type": "proc", "device": "proc"})),
    ("driver_opts", volume(driver_opts={"type": "cgroup2", "device": "none"})),
    ("driver_opts", volume(driver_opts={"type": "tmpfs", "device": "etc", "o": "bind"})),
    ("driver_opts", volume(driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=1m,bind"})),
    ("driver_opts", volume(driver_opts={"o": "bind", "device": "etc"})),
    ("driver_opts", volume(driver_opts={"type": "none", "device": "/etc"})),
    ("driver_opts", volume(driver="vieux/sshfs")),
    ("driver_opts", network(driver_opts={"com.docker.network.bridge.name": "docker0"})),
    ("driver_opts", network(driver_opts={"com.docker.network.bridge.gateway_mode_ipv4": "nat-unprotected"})),
    ("driver_opts", network(driver_opts={"com.docker.network.bridge.host_binding_ipv4": "0.0.0.0"})),
    ("driver_opts", ({"networks": {"default": {"driver_opts": {"com.docker.network.endpoint.sysctls": "a=1"}}}}, None)),
    ("volume:postgres-data", volume(name="postgres-data")),
    ("volume:redis-data", volume(name="redis-data", external=True)),
    ("volume:todo_data", volume(name="todo_data")),
    ("volume:notes-x_data", volume(name="notes-x_data")),
    ("volume:v", volume(external=True)),
    ("network:todo-blue", network(external=True, name="todo-blue")),
    ("network:n", network(external=True)),
    ("network:bridge", network(external=True, name="bridge")),
    ("network:host", network(external=True, name="host")),
    ("network_mode", ({"network_mode": "host"}, None)),
    ("privileged", ({"privileged": True}, None)),
    ("privileged", ({"post_start": [{"command": ["x"], "privileged": True}]}, None)),
    ("privileged", ({"pre_stop": [{"command": ["x"]}, {"command": ["x"], "privileged": True}]}, None)),
    ("gpus", ({"gpus": [{"count": -1}]}, None)),
    ("gpus", ({"deploy": {"resources": {"reservations": {"devices": [{"capabilities": ["gpu"]}]}}}}, None)),
    (
        "gpus",
        ({"deploy": {"resources": {"reservations": {"devices": [{"driver": "cdi", "device_ids": ["x"]}]}}}}, None),
    ),
    ("runtime", ({"runtime": "nvidia"}, None)),
    ("runtime", ({"runtime": "runc-unsafe"}, None)),
    ("annotations", ({"annotations": {"org.systemd.property.Slice": "'x'"}}, None)),
    ("cgroup_parent", ({"cgroup_parent": "/"}, None)),
    ("unconfined", ({"security_opt": ["seccomp:/etc/x.json"]}, None)),
    ("unconfined", ({"security_opt": ["seccomp=./x.json"]}, None)),
    ("unconfined", ({"security_opt": ["apparmor:mine"]}, None)),
    ("unconfined", ({"security_opt": ["label:type:spc_t"]}, None)),
    ("unconfined", ({"security_opt": ["label=level:s0"]}, None)),
    ("unconfined", ({"security_opt": ["SECCOMP=Unconfined"]}, None)),
    ("unconfined", ({"security_opt": ["writable-cgroups=true"]}, None)),
    ("unconfined", ({"security_opt": ["credentialspec=file://x"]}, None)),
    ("sysctls", ({"sysctls": {"kernel.core_pattern": "|/x"}}, None)),
    ("sysctls", ({"sysctls": {"vm.overcommit_memory": "1"}}, None)),
    ("sysctls", ({"sysctls": {"kernel/core_pattern": "|/x"}}, None)),
    ("logging", ({"logging": {"driver": "fluentd", "options": {"fluentd-address": "unix:///run/docker.sock"}}}, None)),
    ("logging", ({"logging": {"driver": "splunk", "options": {"splunk-url": "http://127.0.0.1:9000"}}}, None)),
    *(
        ("logging", ({"logging": {"options": options}}, None))
        for options in ({"max-size": "-1"}, {"max-size": "0"}, {"max-file": "0"}, {"max-size": "512m", "max-file": "3"})
    ),
    ("SYS_RESOURCE", ({"cap_add": ["SYS_RESOURCE"]}, None)),
    ("CHECKPOINT_RESTORE", ({"cap_add": ["cap_checkpoint_restore"]}, None)),
    ("oom", ({"oom_kill_disable": True}, None)),
    ("oom", ({"oom_score_adj": -1000}, None)),
    ("cpu_rt", ({"cpu_rt_runtime": "950ms"}, None)),
    ("pids_limit", ({"pids_limit": -1}, None)),
    ("pids_limit", ({"deploy": {"resources": {"limits": {"pids": 0}}}}, None)),
    ("userns_mode", ({"userns_mode": "host"}, None)),
    ("devices", ({"devices": ["vendor.com/gpu=all"]}, None)),
]


@pytest.mark.parametrize(("privilege", "attack"), ATTACKS)
def test_what_is_the_host_s_or_another_app_s_needs_its_name(privilege: str, attack: tuple[Where, Where | None]) -> None:
    assert f"privileges: {{web: [{privilege}]}}" in refusal(*attack)
    assert resolved(*attack, privileges={"web": (privilege,)})
    assert privilege in refusal(*attack, privileges={"other": (privilege,), "web": ("ipc", "path:/srv", "volume:x")})


REFUSED: list[tuple[Where, Where | None]] = [
    ({"provider": {"type": "../../tmp/x"}}, None),
    ({"models": {"llm": None}}, {"models": {"llm": {"model": "x"}}}),
    ({"pre_start": [{"image": "x", "command": ["x"], "privileged": True}]}, None),
    ({"volumes_from": ["container:postgres"]}, None),
    ({"volumes_from": ["postgres"]}, None),
    ({"network_mode": "container:postgres"}, None),
    ({"network_mode": "todo-blue"}, None),
    ({"pid": "container:postgres"}, None),
    ({"ipc": "container:postgres"}, None),
    ({"external_links": ["postgres"]}, None),
    ({"links": ["postgres"]}, None),
    ({"volumes": [{"type": "npipe", "source": "x", "target": "/x"}]}, None),
    ({"volumes": [{"type": "cluster", "source": "x", "target": "/x"}]}, None),
    ({"volumes": [{"type": "new", "source": "/etc", "target": "/x"}]}, None),
    ({"volumes": [{"source": "/etc", "target": "/x"}]}, None),
    ({"a_key_of_tomorrow": {"host": "/"}}, None),
    (
        {"volumes": [{"type": "volume", "source": "v", "target": "/x", "volume": {"tomorrow": "/"}}]},
        {"volumes": {"v": {}}},
    ),
    ({"healthcheck": {"test": ["NONE"], "on_host": True}}, None),
    volume(tomorrow={"device": "/"}),
    network(external=True, name="flotilla-edge"),
    network(external=True, name="notes-green"),
]


@pytest.mark.parametrize("attack", REFUSED)
def test_what_nobody_may_is_refused(attack: tuple[Where, Where | None]) -> None:
    assert refusal(*attack, privileges={"web": ("privileged", "docker_socket", "driver_opts")})


def test_a_service_may_be_called_container() -> None:
    """And `volumes_from: container:<name>` still names no service."""
    web = {"image": "team/app:1", "volumes_from": ["container:postgres"]}
    config = {"name": "notes", "services": {"web": web, "container": {"image": "team/app:1"}}}
    with pytest.raises(ComposeFileError, match="volumes_from"):
        resolve(config, Context(app="notes", source="/s", base="/opt/notes"))


@pytest.mark.parametrize(
    ("path", "takes", "privilege"),
    [
        ("network_mode", {"network_mode": "service:agent"}, "network_mode"),
        ("pid", {"pid": "service:agent"}, "pid"),
        ("ipc", {"ipc": "service:agent"}, "ipc"),
        ("volumes_from[0]", {"volumes_from": ["agent:ro"]}, "docker_socket"),
        ("volumes_from[0]", {"volumes_from": ["agent"]}, "path:/srv/media"),
        ("volumes_from[0]", {"volumes_from": ["agent"]}, "volume:postgres-data"),
    ],
)
def test_a_privilege_is_not_taken_over_from_another_service(path: str, takes: Where, privilege: str) -> None:
    services = {"web": {"image": "team/app:1", **takes}, "agent": {"image": "team/app:1"}}
    given: Where = {"app": "notes", "source": "/s", "base": "/opt/notes"}
    config = {"name": "notes", "services": services}
    assert resolve(config, Context(**given))
    with pytest.raises(ComposeFileError) as error:
        resolve(config, Context(**given, privileges={"agent": (privilege,)}))
    assert f"services.web.{path}: " in str(error.value)
    assert f"privileges: {{web: [{privilege}]}}" in str(error.value)
    assert resolve(config, Context(**given, privileges={"agent": (privilege,), "web": (privilege,)}))


# -- what is harmless passes ----------------------------------------------------------------------------

HARMLESS: list[tuple[Where, Where | None]] = [
    (bind("/etc/localtime"), None),
    (bind("/etc/localtime", read_only=False), None),
    (bind("/etc/timezone"), None),
    (bind("/etc/ssl/certs"), None),
    (bind("/etc/ssl/certs/ca-certificates.crt"), None),
    (bind("/usr/share/zoneinfo/Europe/Berlin"), None),
    (bind("/usr/local/share/ca-certificates"), None),
    (bind("/etc/os-release"), None),
    (bind("/opt/notes/shared/uploads", read_only=False), None),
    (bind("/run/flotilla-1/source/nginx.conf"), None),
    volume(),
    volume(name="notes_files"),
    volume(name="notes_files", external=True),
    volume(driver="local", labels={"a": "b"}),
    volume(driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=100m,uid=1000,mode=0755,noexec"}),
    network(name="anything", internal=True),
    network(driver_opts={"com.docker.network.driver.mtu": "1400"}),
    ({"network_mode": "bridge"}, None),
    ({"network_mode": "none"}, None),
    ({"ipc": "shareable", "cgroup": "private"}, None),
    ({"security_opt": ["seccomp:builtin", "no-new-privileges=false"]}, None),
    ({"sysctls": {"net.core.somaxconn": "1024", "kernel.shmmax": "1", "fs.mqueue.msg_max": "9"}}, None),
    ({"cap_add": ["CHOWN", "NET_ADMIN", "cap_ipc_lock", "SYS_NICE"]}, None),
    ({"logging": {"driver": "journald"}}, None),
    ({"logging": {"driver": "local", "options": {"max-size": "200m", "max-file": "5"}}}, None),
    ({"blkio_config": {"weight": 5, "device_read_bps": [{"Path": "/dev/vda", "Rate": 1}]}}, None),
    ({"runtime": "runc", "oom_score_adj": 500, "oom_kill_disable": False, "privileged": False}, None),
    ({"build": {"context": "/", "dockerfile": "/etc/x", "secrets": [{"source": "s"}]}}, None),
    ({"develop": {"watch": [{"path": "/etc", "action": "sync"}]}, "x-any": {"host": "/"}}, None),
    ({"credential_spec": {"file": "x.json"}, "isolation": "hyperv"}, None),
    ({"tmpfs": ["/run:size=1m"], "storage_opt": {"size": "1g"}, "group_add": ["999"], "platform": "linux/amd64"}, None),
    ({"volumes": [{"type": "tmpfs", "target": "/x", "tmpfs": {"size": 1}}]}, None),
    ({"post_start": [{"command": ["x"], "user": "root"}]}, None),
]


@pytest.mark.parametrize("given", HARMLESS)
def test_what_is_harmless_needs_no_name(given: tuple[Where, Where | None]) -> None:
    found = str(resolved(*given).compose)
    for left in ("build", "develop", "x-any", "credential_spec", "isolation", "'labels': {'a'"):
        assert left not in found


def test_a_harmless_file_is_mounted_to_be_read_and_nothing_else() -> None:
    given = bind("/etc/ssl/../localtime", read_only=False, bind={"create_host_path": True, "selinux": "Z"})
    (entry,) = resolved(given).compose["services"]["web"]["volumes"]
    assert entry == {
        "type": "bind",
        "source": "/etc/localtime",
        "target": "/x",
        "read_only": True,
        "bind": {"create_host_path": False},
    }


def test_the_host_s_network_takes_the_harmless_out_of_a_capability_and_a_sysctl() -> None:
    host = {"network_mode": "host", "cap_add": ["NET_ADMIN"], "sysctls": {"net.ipv4.ip_forward": "1"}}
    said = refusal(host, privileges={"web": ("network_mode",)})
    assert "[NET_ADMIN]" in said and "[sysctls]" in said
    assert resolved(host, privileges={"web": ("network_mode", "NET_ADMIN", "sysctls")})


# -- what Compose reads on the host before anything is judged ---------------------------------------------


def app(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


WEB = "services: {web: {image: 'x:1', %s}}"
INC = "include: [%s]\nservices: {a: {image: 'x:1'}}"
READ: dict[str, dict[str, str]] = {
    "env_file": {"compose.yaml": WEB % "env_file: /etc/shadow"},
    "env_file, long": {"compose.yaml": WEB % "env_file: [{path: /etc/shadow, required: false}]"},
    "env_file, home": {"compose.yaml": WEB % "env_file: ~/.docker/config.json"},
    "env_file, up": {"compose.yaml": WEB % "env_file: a/../../x.env"},
    "env_file, up twice": {"compose.yaml": WEB % "env_file: ../../etc/shadow", "etc/shadow": ""},
    "bind, up twice": {"compose.yaml": WEB % "volumes: ['../../etc:/x:ro']", "etc/shadow": ""},
    "env_file, default": {"compose.yaml": WEB % "env_file: '${X:-/etc/shadow}'"},
    "env_file, default up": {"compose.yaml": WEB % "env_file: '${X:-../../etc/shadow}'"},
    "env_file, default up below": {"compose.yaml": WEB % "env_file: 'a/${X:-../../../etc/shadow}'"},
    "env_file, default below": {"compose.yaml": WEB % "env_file: '/etc/${X:-shadow}'"},
    "env_file, default within one": {"compose.yaml": WEB % "env_file: '${X:-${Y:-/etc/shadow}}'"},
    "env_file, where set": {"compose.yaml": WEB % "env_file: '${VERSION:+/etc/shadow}'"},
    "env_file, after a variable": {"compose.yaml": WEB % "env_file: 'a/${VERSION}/../../../etc/shadow'"},
    "env_file, a variable": {"compose.yaml": WEB % "env_file: '${DIRECTORY}/shadow'"},
    "env_file, dots and a variable": {"compose.yaml": WEB % "env_file: '..${DIRECTORY}'"},
    "env_file, binary": {"compose.yaml": WEB % "env_file: !!binary L2V0Yy9zaGFkb3c="},
    "env_file, binary key": {"compose.yaml": WEB % "? !!binary ZW52X2ZpbGU=\n: /etc/shadow"},
    "env_file, a merge": {"compose.yaml": "x-a: &a {env_file: /etc/shadow}\n" + WEB % "<<: *a"},
    "env_file, merges": {"compose.yaml": "x-a: &a {env_file: /etc/shadow}\n" + WEB % "<<: [{init: true}, *a]"},
    "env_file, overridden": {"compose.yaml": WEB % "env_file: !override [/etc/shadow]"},
    "label_file": {"compose.yaml": WEB % "label_file: [/etc/shadow]"},
    "extends": {"compose.yaml": WEB % "extends: {file: /opt/todo/x.yaml, service: web}"},
    "extends, its own": {
        "compose.yaml": WEB % "extends: {file: b.txt, service: web}",
        "b.txt": WEB % "env_file: /etc/shadow",
    },
    "extends, its own below": {
        "compose.yaml": WEB % "extends: {file: a/b.yaml, service: web}",
        "a/b.yaml": WEB % "env_file: ../../x.env",
    },
    "extends, documents": {
        "compose.yaml": WEB % "extends: {file: b.yaml, service: web}",
        "b.yaml": "services: {}\n---\n" + WEB % "env_file: /etc/shadow",
    },
    "include": {"compose.yaml": INC % "/opt/todo/compose.yaml"},
    "include, its own": {"compose.yaml": INC % "i.conf", "i.conf": WEB % "env_file: /etc/shadow"},
    "include, JSON": {
        "compose.yaml": INC % "i.json",
        "i.json": '{"services": {"b": {"image": "x:1", "env_file": "/etc/x"}}}',
    },
    "include, its variables": {
        "compose.yaml": INC % "{path: i.yaml, env_file: i.env}",
        "i.env": "VERSION=/etc/shadow",
        "i.yaml": WEB % "env_file: 'a${VERSION}'",
    },
    "include, its directory": {
        "compose.yaml": INC % "{path: i.yaml, project_directory: /etc}",
        "i.yaml": WEB % "env_file: x",
    },
    "include, another directory": {
        "compose.yaml": INC % "{path: a/b/c/i.yaml, project_directory: .}",
        "a/b/c/i.yaml": WEB % "env_file: ../../../etc/shadow",
        "etc/shadow": "",
    },
    "include, env_file": {
        "compose.yaml": INC % "{path: i.yaml, env_file: [/etc/environment]}",
        "i.yaml": "services: {}",
    },
    "include, git": {
        "compose.yaml": INC % "https://git.example.com/x.git",
        "https:/git.example.com/x.git": "services: {}",
    },
    "include, ssh": {"compose.yaml": INC % "'git@git.example.com:x.git'", "git@git.example.com:x.git": "services: {}"},
    "include, github": {"compose.yaml": INC % "github.com/a/b", "github.com/a/b": "services: {}"},
    "include, oci": {
        "compose.yaml": INC % "'oci://registry.example.com/x'",
        "oci:/registry.example.com/x": "services: {}",
    },
    "extends, oci": {
        "compose.yaml": WEB % "extends: {file: 'oci://r.example.com/x', service: web}",
        "oci:/r.example.com/x": "{}",
    },
    "configs": {"compose.yaml": "configs: {c: {file: ../x}}\n" + WEB % "configs: [c]"},
}


@pytest.mark.parametrize("files", READ.values(), ids=READ)
def test_compose_reads_nothing_on_the_host_but_the_app_s_own(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(BundleError, match=r"compose\.yaml|\.yaml|\.txt|\.conf|\.json"):
        collect(app(tmp_path / "app", files))


@pytest.mark.parametrize("link", ["x.env", "b.yaml", "dir"])
def test_a_link_leads_compose_nowhere(tmp_path: Path, link: str) -> None:
    (tmp_path / "outside").mkdir()
    for name in ("x.env", "b.yaml", "dir/x.env"):
        (tmp_path / "outside" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "outside" / name).write_text("services: {web: {image: x:1}}")
    text = WEB % "env_file: [x.env, dir/x.env], extends: {file: b.yaml, service: web}"
    directory = app(tmp_path / "app", {"compose.yaml": text})
    for name in ("x.env", "b.yaml", "dir"):
        if name == link:
            (directory / name).symlink_to(tmp_path / "outside" / name)
    app(
        directory,
        {name: "services: {web: {image: x:1}}" for name in ("x.env", "b.yaml", "dir/x.env") if link not in name},
    )
    with pytest.raises(BundleError, match="link out"):
        collect(directory)


@pytest.mark.parametrize("key", ["env_file", "label_file"])
def test_a_file_of_the_host_that_compose_reads_needs_its_name(tmp_path: Path, key: str) -> None:
    directory = app(tmp_path, {"compose.yaml": WEB % f"{key}: [/etc/notes.env]"})
    with pytest.raises(BundleError, match=r"privileges: \{web: \[path:/etc/notes.env:ro\]\}"):
        collect(directory, {"web": ["path:/etc/note.env", "path:/etc"], "other": ["path:/etc/notes.env"]})
    assert collect(directory, {"web": ["path:/etc/notes.env:ro"]})
    assert collect(directory, {"web": ["path:/etc/notes.env"]})


OWN: list[dict[str, str]] = [
    {"compose.yaml": WEB % "env_file: ['${X:-x.env}', '.env.${VERSION}', {path: no, required: false}]", "x.env": ""},
    {"compose.yaml": INC % "a/i.yaml", "a/i.yaml": WEB % "env_file: ../x.env", "x.env": ""},
    {"compose.yaml": INC % "{path: a/i.yaml, project_directory: .}", "a/i.yaml": WEB % "env_file: x.env", "x.env": ""},
    {"compose.yaml": WEB % "extends: {file: b.txt, service: b}", "b.txt": "services: {b: {build: ../..}}"},
    {
        "compose.yaml": WEB
        % "build: {context: ../elsewhere, dockerfile: /x}, volumes: ['/etc/localtime:/etc/localtime']"
    },
    {"compose.yaml": "x-a: &a {init: true}\n" + WEB % "<<: *a, ports: !reset null, labels: !override {a: b}"},
]


@pytest.mark.parametrize("files", OWN)
def test_what_is_the_app_s_own_is_read(tmp_path: Path, files: dict[str, str]) -> None:
    assert set(collect(app(tmp_path, files))) == set(files)


# -- on the controller, from the text alone --------------------------------------------------------------

TEXTS = [
    ("services.web.volumes[0]", "volumes: ['/etc:/host:ro']"),
    ("services.web.volumes[0]", "volumes: ['/etc:/host']"),
    ("services.web.volumes[0]", "volumes: ['/run/../etc:/host:ro,z']"),
    ("services.web.volumes[0]", "volumes: ['~/.ssh:/x']"),
    ("services.web.volumes[0]", "volumes: ['${X:-/etc}:/x']"),
    ("services.web.volumes[0]", "volumes: [{type: bind, source: /etc, target: /x}]"),
    ("services.web.volumes[0]", "volumes: ['/var/run/docker.sock:/var/run/docker.sock:ro']"),
    ("services.web.volumes[0]", "<<: {volumes: ['/etc:/host']}"),
    ("services.web.post_start[0].privileged", "post_start: [{command: x, privileged: true}]"),
    ("services.web.network_mode", "network_mode: host"),
    ("services.web.gpus", "gpus: all"),
    ("services.web.sysctls[0]", "sysctls: [kernel.core_pattern=x]"),
    ("services.web.provider", "provider: {type: x}"),
    ("services.web.use_api_socket", "use_api_socket: true"),
    ("services.web.logging.driver", "logging: {driver: gelf}"),
    ("services.web.logging.options", "logging: {options: {max-size: '-1'}}"),
    ("services.web.pids_limit", "pids_limit: -1"),
    ("services.web.healthcheck.intervall", "healthcheck: {test: x, intervall: 1s}"),
    ("volumes.v.name", "volumes: ['v:/x']"),
    ("networks.n", "networks: [n]"),
    ("volumes.d.driver_opts", "volumes: ['d:/x']"),
    ("configs.c.file", "configs: [c]"),
]
TOP = """
volumes: {v: {name: postgres-data}, d: {driver_opts: {type: nfs, o: addr=h, device: ':/'}}}
networks: {n: {name: todo-blue, external: true}}
configs: {c: {file: /etc/shadow}}
"""


@pytest.mark.parametrize(("variable", "text"), TEXTS)
def test_the_controller_tells_it_before_a_host_is_reached(variable: str, text: str) -> None:
    given: dict[str, Any] = {"file": "compose.yaml", "inventory": "inventory", "app": "notes"}
    found = static_problems(f"services:\n  web: {{image: 'x:1', {text}}}\n{TOP}", **given)
    assert [problem.variable for problem in found] == [variable]

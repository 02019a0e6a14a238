"""What a file is silent about is read strictly, what it states is kept, and what takes the host is refused."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.readiness import explain, way_out
from flotilla.resolve import ROUTER, ComposeFileError, Context, Resolved, resolve
from flotilla.resolve.privileges import REACHING_CAPABILITIES, WORDS, loud
from flotilla.static import static_problems
from hypothesis import given
from hypothesis import strategies as st

TMP = "/tmp:exec,mode=1777,size=268435456"
UNCHANGED = "no-new-privileges:true"


def resolved(changes: dict[str, Any], **context: Any) -> Resolved:
    service = {"image": "team/app:1", "networks": {"default": None}, "user": "1000:1000", **changes}
    config = {"name": "notes", "networks": {"default": {"name": "notes_default"}}, "services": {"web": service}}
    top = {"volumes": context.pop("volumes", {}), "configs": context.pop("configs", {})}
    return resolve({**config, **top}, Context(app="notes", source="/srv/notes", base="/opt/notes", **context))


def web(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = resolved(changes).compose["services"]["web"]
    return found


def refused(changes: dict[str, Any], **context: Any) -> dict[str, str]:
    with pytest.raises(ComposeFileError) as error:
        resolved(changes, **context)
    return {problem.variable: str(problem) for problem in error.value.problems}


# -- what is added ----------------------------------------------------------------------------------


def test_a_silent_service_gets_the_strict_keys() -> None:
    service = web()
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == [UNCHANGED]
    assert service["read_only"] is True
    assert service["tmpfs"] == [TMP]


@pytest.mark.parametrize(
    ("stated", "key", "expected"),
    [
        ({"cap_drop": ["NET_RAW"]}, "cap_drop", ["NET_RAW"]),
        ({"cap_drop": []}, "cap_drop", []),
        ({"cap_add": ["CHOWN"]}, "cap_add", ["CHOWN"]),
        ({"cap_add": ["CHOWN"]}, "cap_drop", ["ALL"]),
        ({"security_opt": ["no-new-privileges:false"]}, "security_opt", ["no-new-privileges:false"]),
        ({"security_opt": ["no-new-privileges=false"]}, "security_opt", ["no-new-privileges=false"]),
        ({"security_opt": ["no-new-privileges"]}, "security_opt", ["no-new-privileges"]),
        ({"security_opt": ["seccomp:builtin"]}, "security_opt", ["seccomp:builtin", UNCHANGED]),
        ({"read_only": False}, "read_only", False),
        ({"read_only": False}, "tmpfs", None),
        ({"read_only": True}, "tmpfs", None),
        ({"tmpfs": "/tmp:size=1m"}, "tmpfs", ["/tmp:size=1m"]),
        ({"tmpfs": ["/run", "/tmp/"]}, "tmpfs", ["/run", "/tmp/"]),
        ({"tmpfs": ["/tmp/x"]}, "tmpfs", ["/tmp/x", TMP]),
        ({"mem_limit": "64m"}, "tmpfs", ["/tmp:exec,mode=1777,size=33554432"]),
        ({"volumes": [{"type": "tmpfs", "target": "/tmp"}]}, "tmpfs", None),
        ({"volumes": [{"type": "tmpfs", "target": "/tmp"}]}, "volumes", [{"type": "tmpfs", "target": "/tmp"}]),
    ],
)
def test_what_a_service_states_is_kept(stated: dict[str, Any], key: str, expected: Any) -> None:
    assert web(**stated).get(key) == expected


def test_shared_services_and_the_migration_get_the_same() -> None:
    found = resolved({}, shared=("web",))
    assert found.shared
    assert found.shared["services"]["web"]["read_only"] is True
    found = resolved({}, migration="web")
    assert found.migration
    assert found.migration["services"]["web"]["cap_drop"] == ["ALL"]


def test_the_router_keeps_the_rules_of_every_service() -> None:
    router = resolved({}).compose["services"][ROUTER]
    assert (router["read_only"], router["cap_drop"], router["security_opt"]) == (True, ["ALL"], [UNCHANGED])
    # On the disk; how much of it is in test_disk_limits.
    assert {"type": "volume", "target": "/tmp"} in router["volumes"]


def test_a_running_database_is_not_restarted_by_what_is_added() -> None:
    """Its fingerprint is of what the user wrote."""
    assert resolved({}, shared=("web",)).shared_fingerprint != ""
    stated = resolved({"cap_drop": ["ALL"]}, shared=("web",)).shared_fingerprint
    assert resolved({}, shared=("web",)).shared_fingerprint != stated


def test_what_was_added_is_said_as_a_person_would_write_it() -> None:
    assert resolved({}).hardened == {
        "web": ("cap_drop: [ALL]", "security_opt: [no-new-privileges:true]", "read_only: true", "tmpfs: [/tmp]")
    }
    stated = {"cap_drop": ["ALL"], "security_opt": [UNCHANGED], "read_only": True}
    assert resolved(stated).hardened == {}


# -- what is refused --------------------------------------------------------------------------------

TAKES_THE_HOST = [
    ("privileged", {"privileged": True}, "privileged"),
    ("pid", {"pid": "host"}, "pid"),
    ("ipc", {"ipc": "host"}, "ipc"),
    ("uts", {"uts": "host"}, "uts"),
    ("cgroup", {"cgroup": "host"}, "cgroup"),
    ("userns_mode", {"userns_mode": "host"}, "userns_mode"),
    ("devices", {"devices": [{"source": "/dev/kvm", "target": "/dev/kvm"}]}, "devices"),
    ("device_cgroup_rules", {"device_cgroup_rules": ["c 1:3 rw"]}, "devices"),
    ("security_opt[1]", {"security_opt": ["seccomp:builtin", "seccomp=unconfined"]}, "unconfined"),
    ("security_opt[0]", {"security_opt": ["seccomp:unconfined"]}, "unconfined"),
    ("security_opt[0]", {"security_opt": ["apparmor:unconfined"]}, "unconfined"),
    ("security_opt[0]", {"security_opt": ["systempaths=unconfined"]}, "unconfined"),
    ("security_opt[0]", {"security_opt": ["label:disable"]}, "unconfined"),
    ("cap_add[0]", {"cap_add": ["ALL"]}, "ALL"),
    ("cap_add[1]", {"cap_add": ["CHOWN", "cap_sys_admin"]}, "SYS_ADMIN"),
    ("cap_add[0]", {"cap_add": ["CAP_SYS_PTRACE"]}, "SYS_PTRACE"),
    ("gpus", {"gpus": [{"count": -1}]}, "gpus"),
    ("network_mode", {"network_mode": "host", "networks": None}, "network_mode"),
]


@pytest.mark.parametrize(("path", "changes", "privilege"), TAKES_THE_HOST)
def test_what_takes_the_host_is_refused_with_the_way_out(path: str, changes: dict[str, Any], privilege: str) -> None:
    problems = refused(changes)
    assert list(problems) == [f"services.web.{path}"]
    assert f"privileges: {{web: [{privilege}]}}" in problems[f"services.web.{path}"]
    kept = resolved(changes, privileges={"web": (privilege.lower(),)}).compose["services"]["web"]
    assert all(kept.get(key) == value for key, value in changes.items() if key != "security_opt")
    assert set(changes.get("security_opt", [])) <= set(kept["security_opt"])


def test_another_services_privilege_is_not_this_ones() -> None:
    problems = refused({"privileged": True}, privileges={"wweb": ("privileged",), "web": ("privilegd",)})
    assert "did you mean `web`?" in problems["apps[notes].privileges.wweb"]
    assert "did you mean `privileged`?" in problems["apps[notes].privileges.web[0]"]
    assert "services.web.privileged" in problems


@pytest.mark.parametrize(
    "name", ["", "path:", "path:srv", "path:/a/../b", "path:/a/", "path:/a:rw", "volume:", "network:a b"]
)
def test_a_privilege_that_is_none_is_told(name: str) -> None:
    assert "write one of" in refused({}, privileges={"web": (name,)})["apps[notes].privileges.web[0]"]


@pytest.mark.parametrize(
    "name", sorted({*WORDS, *REACHING_CAPABILITIES, "path:/srv/a b:ro", "volume:x", "network:x_y"})
)
def test_a_harmless_service_needs_no_privilege(name: str) -> None:
    assert resolved({"cap_add": ["NET_BIND_SERVICE", "NET_ADMIN"], "pid": "service:web"}, privileges={"web": (name,)})


ENGINE = ["/run/docker.sock", "/run", "/", "/var/lib/docker/volumes/postgres-data/_data", "/run/containerd/x", "/var"]


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """A path of the engine's, spelt in a roundabout way."""
    parts = [part for part in draw(st.sampled_from(ENGINE)).split("/") if part]
    if parts[:1] == ["run"] and draw(st.booleans()):
        parts = ["var", *parts]
    noise = st.lists(st.sampled_from([".", "", "x/.."]), max_size=2)
    walked = [step for part in parts for step in (*draw(noise), part)]
    start = draw(st.sampled_from(["/", "//", "///", "/proc/1/root/", "/proc/self/root/"]))
    return start + "/".join([*walked, *draw(noise)])


@given(spellings())
def test_the_engine_is_not_mounted_however_it_is_spelt(path: str) -> None:
    bind = {"type": "bind", "source": path, "target": "/x", "read_only": True}
    assert "engine's socket" in refused({"volumes": [bind]})["services.web.volumes[0]"]
    volume = {"type": "volume", "source": "v", "target": "/x"}
    device = {"v": {"driver_opts": {"type": "none", "o": "bind", "device": path}}}
    assert "engine's socket" in refused({"volumes": [volume]}, volumes=device)["volumes.v.driver_opts.device"]
    config = refused({"configs": [{"source": "c"}]}, configs={"c": {"file": path}})
    assert "engine's socket" in config["configs.c.file"]


@given(spellings())
def test_who_has_the_engine_is_told_loudly(path: str) -> None:
    (said,) = loud("notes", {"web": [f"path:{path}:ro"]})
    assert "apps[notes].privileges: `web` has" in said
    assert "root on every app host" in said


@pytest.mark.parametrize("name", ["docker_socket", "privileged", "cap_sys_admin", "ALL", "path:/var/run"])
def test_the_socket_is_told_loudly_and_what_is_as_much(name: str) -> None:
    assert len(loud("notes", {"web": ["pid", name]})) == 1
    assert loud("notes", {"web": ["pid", "gpus", "path:/srv/run", "path:/etc:ro", "volume:docker.sock"]}) == []


def test_the_controller_names_the_line_before_a_host_is_reached() -> None:
    text = "services:\n  web:\n    image: x:1\n    cap_add:\n      - CHOWN\n      - SYS_ADMIN\n    privileged: true\n"
    given: dict[str, Any] = {"file": "compose.yaml", "inventory": "inventories/staging", "app": "notes"}
    places = {(problem.where, problem.variable) for problem in static_problems(text, **given)}
    assert places == {("compose.yaml:6", "services.web.cap_add[1]"), ("compose.yaml:7", "services.web.privileged")}
    assert static_problems(text, **given, privileges={"web": ["SYS_ADMIN", "privileged"]}) == []
    assert static_problems("services: {a: {image: 'x:1', cap_add: $$X, security_opt: 3, pid: []}}", **given) == []


# -- what is said of a failure that comes from it ------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("mkdir: cannot create directory '/data': Read-only file system", "services.api.tmpfs"),
        ("Error: EROFS: read-only file system, open '/srv/x'", "services.api.read_only: false"),
        ("OSError: [Errno 30] Read-only file system: 'x'", "services.api.tmpfs"),
        ("chown: changing ownership of '/data': Operation not permitted", "services.api.cap_add"),
        ("Error: EACCES: permission denied, mkdir '/app/x'", "services.api.user"),
        ("PermissionError: [Errno 13] Permission denied: '/x'", "services.api.user"),
        ("OSError: [Errno 28] No space left on device: '/tmp/x'", "services.api.tmpfs: ['/tmp:exec"),
    ],
)
def test_a_failure_points_to_the_key_that_lets_it(said: str, key: str) -> None:
    (hint,) = way_out("api", said, read_only=True, drops=True, user="1000")
    assert key in hint
    assert way_out("api", said, read_only=False, drops=False, user="") == []


@pytest.mark.parametrize("said", ["", "listening on 3000", "[Errno 130]", "a readonly replica"])
def test_another_failure_is_not_blamed_on_it(said: str) -> None:
    assert way_out("api", said, read_only=True, drops=True, user="") == []


def test_the_verdict_tells_it_below_the_log() -> None:
    container = {
        "Config": {"Labels": {"com.docker.compose.service": "api"}, "User": "1000:1000"},
        "HostConfig": {"ReadonlyRootfs": True, "CapDrop": ["ALL"]},
        "State": {"Status": "exited", "ExitCode": 1},
    }
    lines = explain(container, "touch: cannot touch '/x': Read-only file system\n", []).splitlines()
    assert lines[-2].startswith("  log: touch")
    assert lines[-1].startswith("  perhaps: its root file system is read-only. ")

"""What cannot be deployed is refused: the message says what, where and what next, and what served goes on serving."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.fleet import APP, HOST, ROOT, STAGING_LAB, Environment, Live, Run, app_entry, inventory_variables
from tests.e2e.waiting import eventually

LAB = STAGING_LAB
NEXT = "Next: "


@dataclass(frozen=True)
class Standing:
    """What must not change when a deploy is refused."""

    live: Live
    containers: dict[str, dict[str, str]]
    volumes: str

    @classmethod
    def of(cls, environment: Environment) -> Standing:
        assert environment.journal()["phase"] == "idle"
        assert environment.containers(f"{APP}-migration") == {}
        return cls(environment.live(), environment.colours(), environment.ssh("docker volume ls --quiet | sort"))


@contextmanager
def refusal(environment: Environment) -> Iterator[None]:
    """Whatever is done in the block, the same release serves in the same containers, and nothing else is left."""
    before = Standing.of(environment)
    assert list(before.containers) == [before.live.colour]
    yield
    assert Standing.of(environment) == before


def says(run: Run, *fragments: str) -> None:
    """The command failed, with these words in its output."""
    assert run.rc != 0, run.output
    missing = [fragment for fragment in fragments if fragment not in run.text]
    assert not missing, f"{missing} not in:\n{run.text[-6000:]}"


# -- a bare droplet ---------------------------------------------------------------------------------


@pytest.fixture
def bare(staging: Environment) -> Iterator[Environment]:
    """A droplet with nothing of ours, before and after."""
    assert untouched(staging)
    yield staging
    assert untouched(staging)


def untouched(environment: Environment) -> bool:
    return environment.ssh("command -v docker nft; ls /opt; id -u deploy 2> /dev/null", check=False) == ""


@pytest.mark.parametrize("port", [80, 443])
def test_a_taken_port_is_refused_before_anything_is_touched(bare: Environment, port: int) -> None:
    bare.ssh(f"systemd-run --unit squatter python3 -m http.server {port}")
    try:
        eventually(lambda: bare.ssh(f"ss -Hltn 'sport = :{port}'"), why=f"somebody listens on port {port}")
        run = bare.deploy()
    finally:
        bare.ssh("systemctl stop squatter")
    says(run, HOST, f"port {port}", "python3", NEXT, "systemctl", "squatter")


def test_an_unsupported_system_is_refused_before_anything_is_touched(bare: Environment) -> None:
    bare.ssh("sed -i.ours 's/^ID=debian/ID=slackware/' /usr/lib/os-release")
    try:
        run = bare.deploy()
    finally:
        bare.ssh("mv /usr/lib/os-release.ours /usr/lib/os-release")
    says(run, HOST, "slackware", "Debian 13", NEXT)


def test_a_host_that_cannot_be_reached_is_named(bare: Environment, tmp_path: Path) -> None:
    nobody = bare.address.rsplit(".", 1)[0] + ".249"
    elsewhere = {HOST: {"ansible_host": nobody, "ansible_control_path": "%(directory)s/nobody"}}
    says(bare.over(tmp_path / "elsewhere", {}, elsewhere).deploy(), HOST, nobody, "unreachable", "ansible_host", NEXT)


def test_a_firewall_that_would_lock_its_operator_out_is_refused(bare: Environment, tmp_path: Path) -> None:
    """As the inventories are before anybody has edited them."""
    variables = inventory_variables("firewall")
    place = f"{tmp_path}/group_vars/all/test.yml:1"
    here = bare.address.rsplit(".", 1)[0] + ".254"
    says(
        bare.over(tmp_path, variables).deploy(),
        f"{place}: firewall_ssh_sources: {HOST}: you are connected from {here}",
        NEXT,
    )


# -- a droplet that serves --------------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """A release that must not go live. `app`: changes to the inventory's entry of the app."""

    says: tuple[str, ...]
    version: str = "1.1.0"
    app: dict[str, Any] = field(default_factory=dict)
    compose: dict[str, Any] = field(default_factory=dict)


FILE = "compose.yaml"
# Of a release that never is: time enough to start, to listen and to be probed on a busy machine.
READY_SECONDS = 20
BAD = {
    "an image that does not exist": Bad(
        ("services.api.image", "has no image registry.example.com/acme/notes:9.9.9", "-e version=<version>"),
        version="9.9.9",
    ),
    "a registry that cannot be reached": Bad(
        ("services.api.image", "nowhere.example.com cannot be reached", HOST),
        compose={"api": {"image": "nowhere.example.com/acme/notes:${VERSION}"}},
    ),
    "a file that Compose refuses": Bad(
        ("docker compose refuses it", "cpus"),
        compose={"api": {"deploy": {"resources": {"limits": {"cpus": "plenty"}}}}},
    ),
    "limits that the memory does not hold": Bad(
        (HOST, "notes 2 x 1792", "2048 memory", "swap", "lower the limits"),
        app={"environment": {"API_MEMORY": "1536M"}},
    ),
    "a crash loop": Bad(
        ("api", "exit code 3", "out of memory: no", "rehearsing crash", "migration: applied"),
        app={"environment": {"REHEARSE": "crash"}},
    ),
    "a service that takes more memory than it may": Bad(
        ("api", "out of memory: yes"),
        app={"environment": {"API_MEMORY": "16M"}},
    ),
    "a service that never becomes healthy": Bad(
        ("api", "not ready in time", "probe:", "listens on: 3000"),
        app={"environment": {"REHEARSE": "unhealthy"}, "deadlines": {"ready_seconds": READY_SECONDS}},
    ),
    "a release that is never ready": Bad(
        ("/api/ready of the new release answered 503", "wanted 200"),
        app={"environment": {"REHEARSE": "not_ready"}, "deadlines": {"ready_seconds": READY_SECONDS}},
    ),
    "a migration that fails": Bad(
        ("the migration (migrate) failed", "no colour was booted", "migration: failed"),
        app={"environment": {"REHEARSE_MIGRATE": "migration_fails"}},
    ),
    "an image that runs as root where the file does not say that it may": Bad(
        ("services.ui.user", "nginx@sha256:", "runs as root", 'user: "0:0"', "cap_add", "migration: none"),
        compose={"ui": {"user": None}},
    ),
    "a service that writes where nothing is mounted": Bad(
        ("mkdir", "Read-only file system", "services.ui.tmpfs", "services.ui.read_only: false"),
        compose={"ui": {"read_only": None, "tmpfs": None, "command": ["mkdir", "/uploads"]}},
    ),
    "a service that needs a capability": Bad(
        ("chown", "services.ui.cap_add"),
        compose={"ui": {"cap_drop": None, "user": "0:0", "command": ["chown", "nobody", "/tmp"]}},
    ),
}


def with_compose(directory: Path, changes: dict[str, Any]) -> str:
    """A copy of the sample app whose services differ; a key that is None is left out."""
    shutil.copytree(ROOT / "compose/app", directory)
    document = yaml.safe_load((directory / FILE).read_text())
    for service, change in changes.items():
        changed = document["services"].get(service, {}) | change
        document["services"][service] = {key: value for key, value in changed.items() if value is not None}
    (directory / FILE).write_text(yaml.safe_dump(document))
    return str(directory)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_release_is_refused_and_explained(served: Environment, tmp_path: Path, name: str) -> None:
    bad = BAD[name]
    changes = dict(bad.app)
    if bad.compose:
        changes["source"] = with_compose(tmp_path / "app", bad.compose)
    environment = served.over(tmp_path / "overlay", {"apps": [app_entry(**changes)]})
    with refusal(served):
        says(environment.deploy(bad.version), *bad.says, NEXT)


def test_a_volume_that_an_earlier_file_has_bound_is_refused(served: Environment, tmp_path: Path) -> None:
    """The privilege is gone, and the engine would go on with the volume that was made by it."""
    served.ssh("docker volume create --opt type=none --opt o=bind --opt device=/root notes_kept")
    file = Path(with_compose(tmp_path / "app", {"ui": {"volumes": ["kept:/kept"]}})) / FILE
    try:
        for declared in (None, {"external": True, "name": "notes_kept"}):
            document = yaml.safe_load(file.read_text())
            document["volumes"] = {**(document.get("volumes") or {}), "kept": declared}
            file.write_text(yaml.safe_dump(document))
            environment = served.over(tmp_path / f"{declared}", {"apps": [app_entry(source=str(file.parent))]})
            with refusal(served):
                run = environment.deploy("1.1.0")
            says(run, "volumes.kept", "`notes_kept` is there already and mounts `none /root`", "docker volume rm", NEXT)
    finally:
        served.ssh("docker volume rm notes_kept")


@pytest.mark.parametrize("login", ["missing", "wrong"])
def test_a_refused_login_is_told_from_a_missing_image(served: Environment, login: str) -> None:
    auths = {"missing": "{}", "wrong": '{"auths": {"registry.example.com": {"auth": "ZmxvdGlsbGE6d3Jvbmc="}}}'}
    config = "/root/.docker/config.json"
    served.ssh(f"cp -a {config} {config}.kept && cat > {config}", given=auths[login])
    try:
        with refusal(served):
            run = served.deploy("1.1.0")
    finally:
        served.ssh(f"mv {config}.kept {config}")
    says(run, "docker_registry_logins", "refused the login", "playbooks/provision.yml", NEXT)


def test_all_mistakes_are_told_at_once_before_a_host_is_asked(served: Environment, tmp_path: Path) -> None:
    source = with_compose(tmp_path / "app", {"ui": {"healthcheck": None}, "extra": {"build": ".", "privileged": True}})
    environment = served.over(
        tmp_path / "overlay", {"apps": [app_entry(source=source)], "postgres_memroy_mb": 512, "redis_version": "99"}
    )
    with refusal(served):
        run = environment.deploy("latest")
    inventory = ("postgres_memroy_mb", "did you mean", "redis_version", "`latest` is forbidden")
    says(run, "nothing was touched", *inventory, "services.ui", "health", "services.extra.build", "add `image:", NEXT)
    says(run, "compose.yaml:", "services.extra.privileged", "privileges: {extra: [privileged]}")
    assert "Check the host" not in run.output

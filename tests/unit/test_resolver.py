"""Every rule of the resolver, on small files and on what Compose 2.26 made of a large one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flotilla.resolve import (
    ROUTER,
    ComposeFileError,
    Context,
    Copy,
    Limits,
    Network,
    Resolved,
    Route,
    UpdateConfig,
    Volume,
    fingerprint,
    resolve,
)

DATA = Path(__file__).parent / "resolver_data"
SOURCE = "/srv/notes"
CHECK = {"test": ["CMD", "true"]}
DIGEST = f"sha256:{'0' * 64}"


def context(**changes: Any) -> Context:
    return Context(
        **{"app": "notes", "source": SOURCE, "base": "/opt/notes", "file": "compose/app/compose.yaml", **changes}
    )


def service(**keys: Any) -> dict[str, Any]:
    """A service as `docker compose config` writes it."""
    return {"command": None, "entrypoint": None, "image": "team/app:1", "networks": {"default": None}, **keys}


def config(*, top: dict[str, Any] | None = None, **services: dict[str, Any]) -> dict[str, Any]:
    """A whole file as `docker compose config` writes it."""
    networks = {"default": {"name": "notes_default", "ipam": {}}}
    return {"name": "notes", "networks": networks, "services": services, **(top or {})}


def run(what: dict[str, Any], **changes: Any) -> Resolved:
    return resolve(what, context(**changes))


def refused(what: dict[str, Any], **changes: Any) -> dict[str, str]:
    """The problems of a file: variable → the whole message."""
    with pytest.raises(ComposeFileError) as error:
        run(what, **changes)
    return {problem.variable: str(problem) for problem in error.value.problems}


def bind(source: str, **keys: Any) -> dict[str, Any]:
    return {"type": "bind", "source": source, "target": "/data", "bind": {"create_host_path": True}, **keys}


@pytest.fixture(scope="module")
def notes() -> Resolved:
    captured = json.loads((DATA / "notes.2.26.json").read_text())
    return run(
        captured,
        routes=(Route("/api", "api", 3000), Route("/", "ui", 80)),
        migration="migrate",
        workers=("worker",),
        secrets=("password", "token"),
        secrets_version="3f",
        shared_paths=("uploads",),
        privileges={"db": ("volume:customname",)},
        digests={
            "redis:7": f"redis@{DIGEST}",
            "registry.example.com/team/ui:1": f"registry.example.com/team/ui@{DIGEST}",
        },
    )


# -- a large file as Compose reads it -------------------------------------------------------------


def test_each_service_has_one_place(notes: Resolved) -> None:
    assert notes.shared and notes.migration
    assert sorted(notes.compose["services"]) == ["api", ROUTER, "seed", "ui", "worker"]
    assert sorted(notes.shared["services"]) == ["cache", "db"]
    assert sorted(notes.migration["services"]) == ["migrate"]
    assert "services.debug: left out: it is in the profile debug" in notes.notes


def test_workers_start_at_the_commit_and_the_rest_with_the_colour(notes: Resolved) -> None:
    assert notes.start_with_colour == ("api", ROUTER, "seed", "ui")
    assert notes.start_at_commit == ("worker",)
    assert notes.one_shots == ("seed",)


def test_dollars_stay_escaped_and_only_our_variables_are_open(notes: Resolved) -> None:
    api = notes.compose["services"]["api"]
    assert api["command"] == ["sh", "-c", "echo $$HOME $${X}"]
    assert api["environment"]["GREETING"] == "pa$$word"
    assert api["environment"]["PASSED"] == "x$$y"
    assert api["healthcheck"]["test"] == ["CMD-SHELL", "curl -f http://localhost/$$X"]
    assert notes.compose["configs"]["motd"] == {"content": "hello $${X} 1.0"}
    assert api["environment"]["FLOTILLA_COLOUR"] == "${FLOTILLA_COLOUR}"


def test_the_colour_waits_only_for_its_own(notes: Resolved) -> None:
    """The database is up and the migration done before: Compose would start a second copy of them."""
    assert set(notes.compose["services"]["api"]["depends_on"]) == {"seed"}
    assert notes.migration and "depends_on" not in notes.migration["services"]["migrate"]


def test_every_network_exists_once_per_colour(notes: Resolved) -> None:
    assert notes.networks == (
        Network("notes-${FLOTILLA_COLOUR}"),
        Network("notes-${FLOTILLA_COLOUR}-back", internal=True),
        Network("notes-${FLOTILLA_COLOUR}-front"),
    )
    assert notes.networks[1].for_colour("green") == "notes-green-back"
    assert notes.compose["networks"]["back"] == {"name": "notes-${FLOTILLA_COLOUR}-back", "external": True}
    assert notes.compose["services"]["api"]["networks"] == {"back": {"aliases": ["backend"]}, "front": {}}


def test_shared_services_join_both_colours_under_their_name(notes: Resolved) -> None:
    assert notes.shared
    assert notes.shared["services"]["db"]["networks"] == {
        "back-blue": {"aliases": ["db"]},
        "back-green": {"aliases": ["db"]},
    }
    assert notes.shared["networks"]["back-green"] == {"name": "notes-green-back", "external": True}


def test_the_router_reaches_the_edge_and_every_service_on_a_route(notes: Resolved) -> None:
    router = notes.compose["services"][ROUTER]
    assert router["networks"] == {
        "default": {},
        "flotilla-edge": {"ipv4_address": "${FLOTILLA_ROUTER_ADDRESS}"},
        "front": {},
    }
    assert notes.compose["networks"]["flotilla-edge"] == {"name": "flotilla-edge", "external": True}
    assert notes.images[ROUTER] == "nginx:1.30"


def test_a_routed_service_of_one_container_has_an_address_and_others_are_found_by_name() -> None:
    two = {"replicas": 2}
    apart = {"networks": {"own": None}}
    result = run(
        config(
            web=service(), many=service(deploy=two), far=service(**apart), idle=service(), top={"networks": {"own": {}}}
        ),
        routes=tuple(Route(f"/{name}", name, 80) for name in ("web", "many", "far")),
        unchecked=("web", "many", "far"),
    )
    services = result.compose["services"]
    assert result.addresses == {"web": 2}
    assert services["web"]["networks"]["default"] == {"ipv4_address": "${FLOTILLA_ADDRESS_2}"}
    assert "ipv4_address" not in services["many"]["networks"]["default"]
    assert "ipv4_address" not in services["idle"]["networks"]["default"]
    upstreams = {name: value for name, value in services[ROUTER]["environment"].items() if "UPSTREAM" in name}
    assert upstreams == {
        "FLOTILLA_UPSTREAM_0": "far",
        "FLOTILLA_UPSTREAM_1": "many",
        "FLOTILLA_UPSTREAM_2": "${FLOTILLA_ADDRESS_2}",
    }


def test_read_only_binds_are_copied_and_listed_writable_ones_are_kept(notes: Resolved) -> None:
    mounts = {entry["target"]: entry for entry in notes.compose["services"]["api"]["volumes"]}
    assert mounts["/etc/conf"]["source"] == "/opt/notes/releases/${FLOTILLA_RELEASE}/files/conf"
    assert mounts["/data"]["source"] == "/opt/notes/shared/uploads"
    assert mounts["/etc/localtime"]["source"] == "/etc/localtime"
    assert notes.shared_directories == ("/opt/notes/shared/uploads",)
    assert Copy("conf", "releases/${FLOTILLA_RELEASE}/files/conf") in notes.copies
    assert notes.copies[0].path("/opt/notes", "r1") == "/opt/notes/releases/r1/files/conf"


def test_a_shared_services_files_outlive_releases(notes: Resolved) -> None:
    assert notes.shared
    assert notes.shared["services"]["db"]["volumes"][1]["source"] == "/opt/notes/shared/.files/conf/a.conf"
    assert Copy("conf/a.conf", "shared/.files/conf/a.conf") in notes.copies


def test_named_volumes_have_one_name_that_compose_cannot_remove(notes: Resolved) -> None:
    assert notes.shared and notes.migration
    assert notes.volumes == (Volume("customname"), Volume("notes_files"))
    assert notes.compose["volumes"] == {"files": {"name": "notes_files", "external": True}}
    assert notes.migration["volumes"] == notes.compose["volumes"]
    assert notes.shared["volumes"] == {"pg": {"name": "customname", "external": True}}


def test_secrets_are_files_of_their_version(notes: Resolved) -> None:
    assert notes.compose["secrets"] == {
        "password": {"file": "/opt/notes/secrets/3f/password"},
        "token": {"file": "/opt/notes/secrets/3f/token"},
    }
    assert notes.compose["services"]["api"]["secrets"] == [
        {"source": "password", "target": "/run/secrets/password"},
        {"source": "token", "target": "/x/token"},
    ]
    assert notes.secrets == {"password": ("api", "db", "migrate", "worker"), "token": ("api",)}


def test_digests_are_pinned_where_they_are_known(notes: Resolved) -> None:
    assert notes.shared
    assert notes.compose["services"]["ui"]["image"] == f"registry.example.com/team/ui@{DIGEST}"
    assert notes.shared["services"]["cache"]["image"] == f"redis@{DIGEST}"
    assert notes.shared["services"]["db"]["image"] == "postgres:17"
    assert notes.images["ui"] == "registry.example.com/team/ui:1"


def test_limits_count_replicas_and_name_the_unlimited(notes: Resolved) -> None:
    mib = 1024 * 1024
    unlimited = ("cache", "db", "migrate", "seed", "worker")
    expected = Limits(colour_memory=(2 * 128 + 64 + 64) * mib, colour_cpus=1.7, unlimited=unlimited)
    assert notes.limits == expected


def test_grace_periods_are_seconds(notes: Resolved) -> None:
    assert notes.grace_seconds == {
        "api": 90,
        "cache": 10,
        "db": 10,
        "migrate": 10,
        "seed": 10,
        "ui": 10,
        "worker": 10,
        ROUTER: 35,
    }


def test_the_update_config_is_compose_own(notes: Resolved) -> None:
    stated = frozenset({"parallelism", "delay_seconds", "monitor_seconds", "order"})
    assert notes.update == UpdateConfig("start-first", 2, 10, 60, "rollback", 0, stated)
    assert notes.rollback == UpdateConfig()


def test_a_colours_services_are_labelled_and_know_their_release(notes: Resolved) -> None:
    assert notes.shared
    labels = {
        "flotilla.app": "notes",
        "flotilla.release": "${FLOTILLA_RELEASE}",
        "flotilla.colour": "${FLOTILLA_COLOUR}",
    }
    for resolved in notes.compose["services"].values():
        assert resolved["labels"] == labels
        assert resolved["environment"]["FLOTILLA_HOST"] == "${FLOTILLA_HOST}"
    assert notes.shared["services"]["db"]["labels"] == {"flotilla.app": "notes"}


# -- one rule each --------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["always", "on-failure", "on-failure:3", "unless-stopped", None])
def test_long_running_services_come_back_after_a_reboot_unless_they_were_stopped(policy: str | None) -> None:
    keys = {"restart": policy} if policy else {}
    web = service(deploy={"restart_policy": {"condition": "any"}}, **keys)
    resolved = run(config(web=web)).compose["services"]["web"]
    assert resolved["restart"] == "unless-stopped"
    assert "restart_policy" not in resolved["deploy"]


@pytest.mark.parametrize("keys", [{"restart": "no"}, {"deploy": {"restart_policy": {"condition": "none"}}}])
def test_a_service_that_must_not_be_restarted_is_a_one_shot(keys: dict[str, Any]) -> None:
    result = run(config(job=service(**keys)))
    assert result.one_shots == ("job",)
    assert result.compose["services"]["job"]["restart"] == "no"


def test_a_service_on_a_route_is_never_a_one_shot() -> None:
    result = run(config(web=service(restart="no", healthcheck=CHECK)), routes=(Route("/", "web", 80),))
    assert result.one_shots == ()
    assert result.compose["services"]["web"]["restart"] == "unless-stopped"


def test_what_only_building_and_developing_need_is_left_out() -> None:
    web = service(build={"context": SOURCE}, container_name="web", pull_policy="always", develop={"watch": []})
    resolved = run(config(web=web)).compose["services"]["web"]
    assert not {"build", "container_name", "pull_policy", "develop"} & set(resolved)


def test_old_limits_move_where_compose_takes_all_of_them_together() -> None:
    web = service(mem_limit="67108864", cpus=0.25, pids_limit=10, mem_reservation="1024", deploy={"replicas": 3})
    resolved = run(config(web=web)).compose["services"]["web"]
    assert resolved["deploy"] == {
        "replicas": 3,
        "resources": {"limits": {"memory": "67108864", "cpus": "0.25", "pids": 10}, "reservations": {"memory": "1024"}},
    }
    assert not {"mem_limit", "cpus", "pids_limit", "mem_reservation", "scale"} & set(resolved)


def test_a_service_without_limits_gets_those_that_keep_the_host() -> None:
    """Its memory is what the host has left: no number would suit every image."""
    result = run(
        config(web=service(), api=service(mem_limit="0"), db=service(), one=service(mem_limit="64m")), shared=("db",)
    )
    left = {"pids": 512, "memory": "${FLOTILLA_MEMORY}"}
    for name in ("web", "api"):
        assert result.compose["services"][name]["deploy"]["resources"]["limits"] == left
    assert result.shared and result.shared["services"]["db"]["deploy"]["resources"]["limits"] == left
    assert result.limits.unlimited == ("api", "db", "web")
    assert result.limits.colour_memory == (64 + 64) * 1024 * 1024
    assert result.limits.shared_memory == 0
    path = "services.web.deploy.resources.limits.memory"
    assert f"{path}: is not stated: what the host has left is the limit" in result.notes


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (None, {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}),
        ({"driver": "json-file"}, {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}),
        (
            {"driver": "local", "options": {"max-size": "1m"}},
            {"driver": "local", "options": {"max-size": "1m", "max-file": "3"}},
        ),
        ({"driver": "journald"}, {"driver": "journald"}),
    ],
)
def test_logs_cannot_fill_the_disk(written: Any, expected: Any) -> None:
    assert run(config(web=service(logging=written))).compose["services"]["web"]["logging"] == expected


def test_a_variable_without_a_value_is_not_passed() -> None:
    result = run(config(web=service(environment={"A": None, "B": "1"})))
    assert "A" not in result.compose["services"]["web"]["environment"]
    assert "services.web.environment.A: left out: it has no value" in result.notes


def test_a_database_is_kept_out_of_both_colours_unless_said_otherwise() -> None:
    what = config(db=service(image="registry.example.com/mirror/postgres:17"), web=service())
    assert run(what).shared
    assert run(what, per_colour=("db",)).shared is None


def test_a_one_shot_of_a_database_image_is_no_database() -> None:
    psql = service(image="postgres:17", restart="no")
    assert run(config(psql=psql)).shared is None


def test_any_service_can_be_named_as_shared() -> None:
    result = run(config(store=service(), web=service()), shared=("store",))
    assert result.shared and list(result.shared["services"]) == ["store"]


def test_a_shared_service_changes_only_when_the_user_changes_it() -> None:
    """New digests, another upload directory and another version of the secrets restart no database."""
    captured = json.loads((DATA / "notes.2.26.json").read_text())
    common: dict[str, Any] = {"secrets": ("password", "token"), "shared_paths": ("uploads",), "migration": "migrate"}
    common["privileges"] = {"db": ("volume:customname",)}
    first = run(captured, **common)
    moved = json.loads(json.dumps(captured).replace(SOURCE, "/srv/other"))
    second = run(
        moved, source="/srv/other", secrets_version="4", digests={"postgres:17": f"postgres@{DIGEST}"}, **common
    )
    assert first.shared_fingerprint == second.shared_fingerprint
    captured["services"]["db"]["image"] = "postgres:18"
    assert run(captured, **common).shared_fingerprint != first.shared_fingerprint


def test_the_user_keeps_the_name_of_an_external_network_and_volume() -> None:
    top = {
        "networks": {"mail": {"name": "company-mail", "external": True}},
        "volumes": {"v": {"name": "kept", "external": True}},
    }
    web = service(networks={"mail": {}}, volumes=[{"type": "volume", "source": "v", "target": "/v"}])
    result = run(config(web=web, top=top), privileges={"web": ("network:company-mail", "volume:kept")})
    assert result.compose["networks"]["mail"] == {"name": "company-mail", "external": True}
    assert result.compose["volumes"] == {"v": {"name": "kept", "external": True}}
    assert result.volumes == ()
    assert any("both colours answer to `web`" in note for note in result.notes)


def test_a_read_only_bind_below_a_shared_path_is_shared_too() -> None:
    result = run(config(web=service(volumes=[bind(f"{SOURCE}/uploads/a", read_only=True)])), shared_paths=("uploads",))
    assert result.compose["services"]["web"]["volumes"][0]["source"] == "/opt/notes/shared/uploads/a"
    assert result.copies == ()


def test_a_dollar_in_a_path_is_a_dollar_on_the_disk() -> None:
    result = run(config(web=service(volumes=[bind(f"{SOURCE}/a$$b", read_only=True)])))
    assert result.copies[0].source == "a$b"
    assert result.compose["services"]["web"]["volumes"][0]["source"].endswith("/files/a$$b")


# -- what is refused, with the fix ----------------------------------------------------------------

REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    (
        "host port",
        config(web=service(ports=[{"mode": "ingress", "target": 80, "published": "8080", "protocol": "tcp"}])),
        {},
        "services.web.ports[0]",
        'remove "8080:80" from ports; a route of apps[notes].routes reaches it: {path: /, service: web, port: 80}',
    ),
    (
        "database port",
        config(db=service(image="postgres:17", ports=[{"target": 5432, "published": "5432", "host_ip": "127.0.0.1"}])),
        {},
        "services.db.ports[0]",
        'remove "127.0.0.1:5432:5432"',
    ),
    (
        "writable relative bind",
        config(web=service(volumes=[bind(f"{SOURCE}/uploads")])),
        {},
        "services.web.volumes[0]",
        "add `uploads` to apps[notes].shared_paths",
    ),
    (
        "writable source",
        config(web=service(volumes=[bind(SOURCE)])),
        {},
        "services.web.volumes[0]",
        "write `.:/data:ro`",
    ),
    (
        "bind in a volume's clothes",
        config(
            web=service(volumes=[{"type": "volume", "source": "v", "target": "/v"}]),
            top={
                "volumes": {
                    "v": {"name": "notes_v", "driver_opts": {"type": "none", "o": "bind", "device": f"{SOURCE}/v"}}
                }
            },
        ),
        {},
        "volumes.v.driver_opts.device",
        "remove driver_opts",
    ),
    (
        "engine socket",
        config(web=service(volumes=[bind("/var/run/docker.sock")])),
        {},
        "services.web.volumes[0]",
        "privileges: {web: [docker_socket]}",
    ),
    (
        "root of the host",
        config(web=service(volumes=[bind("/", read_only=True)])),
        {},
        "services.web.volumes[0]",
        "privileges: {web: [path:/:ro]}",
    ),
    (
        "out of the upload",
        config(web=service(volumes=[bind("/opt/notes/releases/x", read_only=True)])),
        {},
        "services.web.volumes[0]",
        "move the file beside compose/app/compose.yaml",
    ),
    (
        "host network",
        config(web=service(networks=None, network_mode="host")),
        {},
        "services.web.network_mode",
        "privileges: {web: [network_mode]}",
    ),
    (
        "container network",
        config(web=service(networks=None, network_mode="container:x")),
        {},
        "services.web.network_mode",
        "service:<name>",
    ),
    (
        "link",
        config(web=service(links=["db:store"]), db=service()),
        {},
        "services.web.links[0]",
        "add `store` to the aliases of `db`",
    ),
    ("global mode", config(web=service(deploy={"mode": "global"})), {}, "services.web.deploy.mode", "remove the line"),
    ("reserved name", config(**{ROUTER: service()}), {}, f"services.{ROUTER}", "another name"),
    (
        "reserved variable",
        config(web=service(environment={"FLOTILLA_X": "1"})),
        {},
        "services.web.environment.FLOTILLA_X",
        "name",
    ),
    (
        "reserved label",
        config(web=service(labels={"flotilla.x": "1"})),
        {},
        "services.web.labels.flotilla.x",
        "another name",
    ),
    (
        "build without image",
        config(web=service(image=None, build={"context": SOURCE})),
        {},
        "services.web.build",
        "add `image: registry.example.com/team/web:${VERSION}`",
    ),
    ("no image", config(web=service(image=None)), {}, "services.web.image", "neither an image nor a build"),
    ("no tag", config(web=service(image="team/app")), {}, "services.web.image", "`team/app:${VERSION}`"),
    ("latest", config(web=service(image="team/app:latest")), {}, "services.web.image", "the tag `latest`"),
    ("empty version", config(web=service(image="team/app:")), {}, "services.web.image", "not an image reference"),
    (
        "no health check",
        config(web=service()),
        {"routes": (Route("/", "web", 3000),)},
        "services.web.healthcheck",
        'test: ["CMD", "curl", "-fsS", "http://127.0.0.1:3000/health"]',
    ),
    (
        "disabled health check",
        config(web=service(healthcheck={"disable": True})),
        {"routes": (Route("/", "web", 3000),)},
        "services.web.healthcheck",
        "this one is disabled",
    ),
    (
        "NONE health check",
        config(web=service(healthcheck={"test": ["NONE"]})),
        {"routes": (Route("/", "web", 3000),)},
        "services.web.healthcheck",
        "routes_without_health_check",
    ),
    (
        "route without containers",
        config(web=service(healthcheck=CHECK, deploy={"replicas": 0})),
        {"routes": (Route("/", "web", 80),)},
        "services.web.deploy.replicas",
        "write 1 or more",
    ),
    (
        "route off the network",
        config(web=service(healthcheck=CHECK, networks=None, network_mode="none")),
        {"routes": (Route("/", "web", 80),)},
        "services.web.network_mode",
        "remove network_mode",
    ),
    (
        "misspelt route",
        config(frontend=service()),
        {"routes": (Route("/", "fronted", 80),)},
        "apps[notes].routes[0].service",
        "did you mean `frontend`?",
    ),
    ("unknown worker", config(web=service()), {"workers": ("work",)}, "apps[notes].workers[0]", "no service `work`"),
    (
        "unknown migration",
        config(web=service()),
        {"migration": "up"},
        "apps[notes].migration.service",
        "no service `up`",
    ),
    ("unknown shared", config(web=service()), {"shared": ("db",)}, "apps[notes].shared[0]", "no service `db`"),
    (
        "two places",
        config(web=service()),
        {"workers": ("web",), "shared": ("web",)},
        "apps[notes].shared[0]",
        "is a worker service already",
    ),
    (
        "worker on a route",
        config(web=service(healthcheck=CHECK)),
        {"workers": ("web",), "routes": (Route("/", "web", 80),)},
        "apps[notes].routes[0].service",
        "take `web` out of workers",
    ),
    (
        "colour waits for a worker",
        config(web=service(depends_on={"work": {"condition": "service_started"}}), work=service()),
        {"workers": ("work",)},
        "services.web.depends_on.work",
        "starts only at the commit",
    ),
    (
        "database waits for the app",
        config(db=service(image="mysql:8", depends_on={"web": {"condition": "service_started"}}), web=service()),
        {},
        "services.db.depends_on.web",
        "starts before them",
    ),
    (
        "dependency in a profile",
        config(web=service(depends_on={"x": {"condition": "service_started"}}), x=service(profiles=["dev"])),
        {},
        "services.web.depends_on.x",
        "in a profile",
    ),
    (
        "volumes of another project",
        config(web=service(volumes_from=["db"]), db=service(image="postgres:17")),
        {},
        "services.web.volumes_from[0]",
        "mount a named volume",
    ),
    (
        "secret without a value",
        config(web=service(secrets=[{"source": "key"}]), top={"secrets": {"key": {"file": "/x"}}}),
        {},
        "apps[notes].secrets.key",
        'add `key: "{{ vault_notes_key }}"` to apps[notes].secrets',
    ),
    (
        "config from the environment",
        config(web=service(configs=[{"source": "c"}]), top={"configs": {"c": {"environment": "C"}}}),
        {},
        "configs.c.environment",
        "write `content: ${C}`",
    ),
    (
        "external default network",
        config(web=service(), top={"networks": {"default": {"name": "x", "external": True}}}),
        {},
        "networks.default",
        "another key",
    ),
    (
        "fixed subnet",
        config(web=service(), top={"networks": {"default": {"ipam": {"config": [{"subnet": "10.9.0.0/24"}]}}}}),
        {},
        "networks.default.ipam",
        "remove ipam",
    ),
    (
        "fixed address",
        config(web=service(networks={"default": {"ipv4_address": "10.9.0.2"}})),
        {},
        "services.web.networks.default.ipv4_address",
        "by its name, `web`",
    ),
    (
        "the edge's network",
        config(web=service(), top={"networks": {"flotilla-edge": {"external": True}}}),
        {},
        "networks.flotilla-edge",
        "routes reach a service",
    ),
    (
        "the other colour's network",
        config(web=service(), top={"networks": {"x": {"name": "notes-green", "external": True}}}),
        {},
        "networks.x",
        "remove it",
    ),
    (
        "misspelt network",
        config(web=service(networks={"bak": None}), top={"networks": {"back": {}}}),
        {},
        "services.web.networks.bak",
        "did you mean `back`?",
    ),
    (
        "misspelt volume",
        config(
            web=service(volumes=[{"type": "volume", "source": "fils", "target": "/x"}]), top={"volumes": {"files": {}}}
        ),
        {},
        "services.web.volumes[0]",
        "did you mean `files`?",
    ),
    (
        "update_config that disagrees",
        config(
            a=service(deploy={"update_config": {"parallelism": 1}}),
            b=service(deploy={"update_config": {"parallelism": 2}}),
        ),
        {},
        "services.b.deploy.update_config.parallelism",
        "differs from services.a",
    ),
    (
        "update_config with a word of its own",
        config(a=service(deploy={"update_config": {"order": "both"}})),
        {},
        "services.a.deploy.update_config.order",
        "start-first or stop-first",
    ),
]


@pytest.mark.parametrize(
    ("what", "changes", "variable", "fragment"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_it_is_refused_with_the_fix(
    what: dict[str, Any], changes: dict[str, Any], variable: str, fragment: str
) -> None:
    problems = refused(what, **changes)
    assert list(problems) == [variable]
    assert fragment in problems[variable]
    assert problems[variable].startswith(("compose/app/compose.yaml: ", "inventory: "))


def test_all_problems_come_at_once() -> None:
    what = config(a=service(image="x", links=["b"]), b=service(deploy={"mode": "global"}))
    assert sorted(refused(what)) == ["services.a.image", "services.a.links[0]", "services.b.deploy.mode"]


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        (config(web=service(image="team/app")), {"allow_latest": True}),
        (config(web=service(image=f"team/app@{DIGEST}")), {}),
        (config(web=service()), {"routes": (Route("/", "web", 80),), "unchecked": ("web",)}),
        (config(web=service(depends_on={"x": {"required": False}}), x=service(profiles=["dev"])), {}),
        (config(web=service(volumes=[bind("/opt/notes/shared/media")])), {}),
        (config(web=service(expose=["80"], cap_add=["NET_ADMIN"], extra_hosts=["a=1.2.3.4"])), {}),
    ],
)
def test_it_is_accepted(what: dict[str, Any], changes: dict[str, Any]) -> None:
    assert run(what, **changes).compose["services"]["web"]


# -- the fingerprint ------------------------------------------------------------------------------


def test_the_fingerprint_changes_with_everything_that_runs() -> None:
    base = run(config(web=service()))
    prints = [
        fingerprint(base, "router", "1", "files"),
        fingerprint(base, "other", "1", "files"),
        fingerprint(base, "router", "2", "files"),
        fingerprint(base, "router", "1", "other"),
        fingerprint(run(config(web=service(environment={"A": "1"}))), "router", "1", "files"),
        fingerprint(run(config(web=service()), digests={"team/app:1": f"team/app@{DIGEST}"}), "router", "1", "files"),
    ]
    assert len(set(prints)) == len(prints)


def test_the_fingerprint_does_not_know_where_the_upload_lies() -> None:
    captured = (DATA / "notes.2.26.json").read_text()
    prints = set()
    for source in (SOURCE, "/var/tmp/upload-42"):
        result = run(
            json.loads(captured.replace(SOURCE, source)),
            source=source,
            secrets=("password", "token"),
            shared_paths=("uploads",),
            migration="migrate",
            privileges={"db": ("volume:customname",)},
        )
        assert source not in json.dumps([result.compose, result.shared, result.migration])
        prints.add(fingerprint(result, "", "1", ""))
    assert len(prints) == 1

"""An app of two colours behind the edge: a real router each, a toy service each."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from flotilla.addresses import router_addresses
from testinfra.host import Host

from roles.nginx.molecule.default.tests.edge_client import APP, COLOURS, DIRECTORY, LIVE, SERVICE, App, Edge, write
from tests.unit.nginx_rendering import render_router


@pytest.fixture(scope="module")
def edge(host: Host) -> Edge:
    address = host.check_output("echo $SSH_CONNECTION").split()[2]
    return Edge(address, host.file(f"{DIRECTORY}/ca.crt").content_string)


def routers(host: Host) -> dict[str, str]:
    """The addresses, by colour, at which the edge looks for the app's routers."""
    network = json.loads(host.check_output("docker network inspect flotilla-edge"))[0]
    slots = json.loads(host.file(f"{DIRECTORY}/routers.json").content_string)
    return router_addresses(network, slots["notes"])


@pytest.fixture(scope="module")
def app(host: Host) -> Iterator[App]:
    """Both colours up, blue live; removed afterwards."""
    host.run_expect([0], f"mkdir -p /opt/notes-try {LIVE}")
    write(host, "/opt/notes-try/router.conf", render_router(APP))
    addresses = routers(host)
    for colour in COLOURS:
        service = SERVICE.format(colour=colour, large="x" * 3000, padding="x" * 1500)
        write(host, f"/opt/notes-try/{colour}.conf", service)
        for command in (
            f"network create notes-{colour}",
            f"run --detach --name notes-service-{colour} --network notes-{colour}"
            " --network-alias api --network-alias ui"
            f" --volume /opt/notes-try/{colour}.conf:/etc/nginx/nginx.conf:ro nginx:1.30",
            f"create --name notes-router-{colour} --network notes-{colour} --user 101:101 --cap-drop ALL"
            " --volume /opt/notes-try/router.conf:/etc/nginx/templates/router.conf.template:ro"
            " --env NGINX_ENVSUBST_FILTER=^FLOTILLA_ --env NGINX_ENVSUBST_OUTPUT_DIR=/tmp"
            f" --env FLOTILLA_RELEASE=release-of-{colour} --env FLOTILLA_COLOUR={colour}"
            " --env FLOTILLA_UPSTREAM_0=api --env FLOTILLA_UPSTREAM_1=ui"
            " nginx:1.30 nginx -e stderr -c /tmp/router.conf",
            f"network connect --ip {addresses[colour]} flotilla-edge notes-router-{colour}",
            f"start notes-router-{colour}",
        ):
            host.run_expect([0], f"docker {command}")
    for colour in COLOURS:
        probe = "curl -fsS --retry 20 --retry-delay 1 --retry-all-errors http://127.0.0.1:8081/"
        host.run_expect([0], f"docker exec notes-router-{colour} {probe}")
    host.run_expect([0], f"touch {LIVE}/deployed")
    yield App(host)
    host.run_expect([0], f"rm -rf {LIVE} /opt/notes-try")
    for colour in COLOURS:
        host.run_expect([0], f"docker rm --force notes-router-{colour} notes-service-{colour}")
        host.run_expect([0], f"docker network rm notes-{colour}")

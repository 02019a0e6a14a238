"""What the containers of a lab are made of, kept in images and volumes of the engine, and made again from these."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import docker
from docker.models.containers import Container

from tests.lab.roles.lab.module_utils.lab_containers import LabError

LAB_LABEL, HOST_LABEL, SNAPSHOT_LABEL = "flotilla.lab", "flotilla.lab.host", "flotilla.snapshot"
STOP_SECONDS = 60
AWAKE_SECONDS = 300
POLL_SECONDS = 0.3
# Copies an engine's data, or any other tree. The layers of images are never written to: they are linked. Everything
# else is copied: containers, volumes, the engine's books.
COPY = r"""
set -eu
from=$1 to=$2
cd "$from"
ls -A | grep -vx overlay2 | while read -r entry; do cp -a "$entry" "$to/"; done
[ -d overlay2 ] || exit 0
mkdir -p "$to/overlay2"
chown --reference=overlay2 "$to/overlay2" && chmod --reference=overlay2 "$to/overlay2"
grep -h '' image/overlay2/layerdb/sha256/*/cache-id > /tmp/layers || true
for entry in overlay2/*; do
    how=-a
    ! grep -qx "${entry#overlay2/}" /tmp/layers || how=-al
    cp $how "$entry" "$to/overlay2/"
done
"""
# Prints what is to come yet before a host is as it was: its engine, and the containers that ran.
WAITED_FOR = r"""
systemctl --quiet is-active ssh && [ ! -e /run/nologin ] || echo ssh
docker info > /dev/null 2>&1 || exec echo engine
for name in "$@"; do
    docker inspect --format '{{.State.Status}} {{with .State.Health}}{{.Status}}{{end}}' "$name" 2> /dev/null \
        | grep -Eqx 'running (healthy)?' || echo "$name"
done
"""


Given = TypeVar("Given")
Made = TypeVar("Made")


def in_parallel(call: Callable[[Given], Made], given: Iterable[Given]) -> list[Made]:
    """What a call makes of each, all at once."""
    items = list(given)
    with ThreadPoolExecutor(max(1, len(items))) as pool:
        return list(pool.map(call, items))


def said(container: Container, *command: str) -> list[str]:
    """The words that a command in a container prints."""
    output: Any = container.exec_run([*command], stderr=False).output
    return [str(word) for word in output.decode().split()]


class LabContainers:
    """The containers of a lab, and what they are made of."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.client = docker.from_env(timeout=600)

    def all(self) -> list[Container]:
        """Registry and hosts, running or not."""
        found: list[Container] = self.client.containers.list(all=True, filters={"label": f"{LAB_LABEL}={self.lab}"})
        return sorted(found, key=lambda one: str(one.name))

    def keep(self, container: Container, key: str, seen: Mapping[str, Any]) -> dict[str, Any]:
        """Keep what a stopped container consists of; return what `make` needs, and what was seen of it before."""
        known = self.client.api.inspect_container(str(container.id))
        host = known["Config"]["Labels"].get(HOST_LABEL)
        (data,) = (mount for mount in known["Mounts"] if mount["Type"] == "volume")
        volume = f"flotilla-snapshot-{key}-{host or 'registry'}"
        image = known["Config"]["Image"]
        self.client.volumes.create(volume, labels={SNAPSHOT_LABEL: key})
        if host:
            repository = f"flotilla-lab/snapshot-{host}"
            container.commit(repository, tag=key, changes=f"LABEL {SNAPSHOT_LABEL}={key}")
            image = f"{repository}:{key}"
        self.copy(str(data["Name"]), volume, known["Image"])
        return {
            "id": known["Id"],
            "name": container.name,
            "image": image,
            "volume": volume,
            # The volume of a host has no name of its own.
            "data": f"{container.name}-data" if host else data["Name"],
            "mounted": data["Destination"],
            "config": known["Config"],
            "host_config": known["HostConfig"],
            "endpoints": {
                network: {"IPAMConfig": one["IPAMConfig"], "Aliases": one["Aliases"]}
                for network, one in known["NetworkSettings"]["Networks"].items()
            },
            "seen": seen,
        }

    def make(self, kept: Mapping[str, Any], moved: tuple[str, str]) -> Container:
        """Make a container as it was, with its data; it is not started.

        moved: where the lab's directory was, and where it is.
        """
        volume = kept["data"]
        self.client.volumes.create(volume, labels={LAB_LABEL: self.lab})
        self.copy(kept["volume"], volume, kept["image"])
        host_config = dict(kept["host_config"])
        binds = [bind for bind in host_config["Binds"] if bind.split(":")[1] != kept["mounted"]]
        host_config["Binds"] = [bind.replace(*moved) for bind in binds] + [f"{volume}:{kept['mounted']}:rw"]
        host_config["PortBindings"] = {
            port: [{**one, "HostPort": ""} for one in bindings]
            for port, bindings in (host_config["PortBindings"] or {}).items()
        }
        first = host_config["NetworkMode"]
        endpoints = dict(kept["endpoints"])
        api: Any = self.client.api
        made = api.create_container_from_config(
            {
                **kept["config"],
                "Image": kept["image"],
                "HostConfig": host_config,
                "NetworkingConfig": {"EndpointsConfig": {first: endpoints.pop(first)}},
            },
            name=kept["name"],
        )
        for network, endpoint in endpoints.items():
            self.client.api.connect_container_to_network(
                made["Id"], network, ipv4_address=endpoint["IPAMConfig"]["IPv4Address"], aliases=endpoint["Aliases"]
            )
        return self.client.containers.get(made["Id"])

    def copy(self, source: str, target: str, image: str) -> None:
        """Copy one volume into another one, which is empty."""
        volumes = f"{self.client.info()['DockerRootDir']}/volumes"
        helper = self.client.containers.create(
            image,
            entrypoint=["sh", "-c", COPY, "copy"],
            command=[f"/volumes/{source}/_data", f"/volumes/{target}/_data"],
            volumes={volumes: {"bind": "/volumes", "mode": "rw"}},
            # Attributes that an overlay keeps for itself are read and written by nobody else.
            cap_add=["SYS_ADMIN"],
            security_opt=["apparmor=unconfined"],
            network_mode="none",
            labels={LAB_LABEL: self.lab},
        )
        try:
            helper.start()
            if helper.wait()["StatusCode"] != 0:
                raise LabError(f"{source} could not be copied to {target}: {helper.logs().decode()}")
        finally:
            # Its image has a volume of its own.
            helper.remove(v=True, force=True)

    def see(self, container: Container) -> dict[str, Any]:
        """What `bring_back` needs to know of a host: the containers that run in it, and its /etc/hosts.

        The engine writes that file anew for each container.
        """
        file: Any = container.exec_run(["cat", "/etc/hosts"]).output
        return {"running": said(container, "docker", "ps", "--format", "{{.Names}}"), "hosts": file.decode()}

    def ports(self, container: Container) -> dict[str, int]:
        """Port in the container → port of this machine."""
        container.reload()
        published = container.attrs["NetworkSettings"]["Ports"]
        return {port: int(bindings[0]["HostPort"]) for port, bindings in published.items() if bindings}

    def bring_back(self, container: Container, seen: Mapping[str, Any]) -> None:
        """Wait until a host that was started answers, with its engine and the containers that ran in it.

        Raises:
            LabError: something is still not there after `AWAKE_SECONDS`.
        """
        container.exec_run(["sh", "-c", 'printf %s "$1" > /etc/hosts', "write", seen["hosts"]])
        deadline = time.monotonic() + AWAKE_SECONDS
        while missing := said(container, "sh", "-c", WAITED_FOR, "wait", *seen["running"]):
            if time.monotonic() > deadline:
                raise LabError(f"{container.name} does not come back: {', '.join(missing)} not there")
            time.sleep(POLL_SECONDS)

"""The Docker Engine's HTTP API over its Unix socket, as far as a release needs it.

The Python SDK costs about 0.3 s of imports in every call; a deploy makes several calls a host, so
this speaks the protocol directly. Source: Docker Engine API v1.41 (Engine 20.10) to v1.44 (Engine 25, and the oldest
that Engine 29 takes), https://docs.docker.com/reference/api/engine/version/v1.44/. Nothing here differs between them.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from .addresses import pinned_config
from .resolve import Network, Volume

# The versions of the API that this was written for. An engine that is newer than all of them gets its oldest.
OLDEST, NEWEST = (1, 41), (1, 44)
# How often a network is tried whose subnet somebody else was given meanwhile.
CREATE_ATTEMPTS = 5
DEFAULT_REGISTRY = "https://index.docker.io/v1/"


class EngineError(Exception):
    """The engine answered with an error. `status` is the HTTP status, 0 when it did not answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class End:
    """How a container's process ended: its exit code, and whether it had taken more memory than it may."""

    exit_code: int
    out_of_memory: bool


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True)
class Engine:
    """A client of one engine. Each call opens a connection of its own, so threads may share it."""

    socket_path: str = "/var/run/docker.sock"
    docker_config: Path = Path("/root/.docker/config.json")

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30,
    ) -> bytes:
        """Send one request and return the raw answer; raise `EngineError` for status 400 and above."""
        version = api_version(self.socket_path)
        url = f"/v{version}{path}" + ("?" + urlencode(query) if query else "")
        payload = None if body is None else json.dumps(body).encode()
        sent = dict(headers or {})
        if payload is not None:
            sent["Content-Type"] = "application/json"
        return _exchange(self.socket_path, method, url, payload, sent, timeout)

    def get(self, path: str, *, query: Mapping[str, str] | None = None, timeout: float = 30) -> Any:
        """The decoded JSON answer to a GET."""
        return json.loads(self.call("GET", path, query=query, timeout=timeout))

    def _found(self, path: str) -> dict[str, Any] | None:
        """The decoded answer to a GET, or None where the engine has no such thing."""
        try:
            found: dict[str, Any] = self.get(path)
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        return found

    # -- containers ---------------------------------------------------------------------------

    def project(self, name: str) -> list[dict[str, Any]]:
        """`inspect` of every container, stopped ones too, of the Compose project `name`."""
        filters = json.dumps({"label": [f"com.docker.compose.project={name}"]})
        found = self.get("/containers/json", query={"all": "1", "filters": filters})
        containers = []
        for summary in found:
            try:
                containers.append(self.get(f"/containers/{summary['Id']}/json"))
            except EngineError as error:
                if error.status != 404:  # it went away between the two calls
                    raise
        return containers

    def container(self, name: str) -> dict[str, Any] | None:
        """`inspect` of a container by name or id, or None where there is none."""
        return self._found(f"/containers/{quote(name, safe='')}/json")

    def stop(self, container: str, seconds: int) -> None:
        """TERM (or the image's STOPSIGNAL), then KILL after `seconds`. A stopped or absent one is fine."""
        try:
            self.call("POST", f"/containers/{container}/stop", query={"t": str(seconds)}, timeout=seconds + 30)
        except EngineError as error:
            if error.status not in (304, 404):
                raise

    def start(self, container: str) -> None:
        """Start a stopped container; a running one is fine."""
        self.call("POST", f"/containers/{container}/start", timeout=60)

    def remove(self, container: str) -> None:
        """Remove a container and its anonymous volumes, running or not. An absent one is fine."""
        try:
            self.call("DELETE", f"/containers/{container}", query={"force": "1", "v": "1"}, timeout=60)
        except EngineError as error:
            if error.status not in (404, 409):
                raise

    def logs(self, container: str, lines: int) -> str:
        """The last `lines` lines of both streams, in order, without the engine's frame headers."""
        query = {"stdout": "1", "stderr": "1", "tail": str(lines)}
        try:
            raw = self.call("GET", f"/containers/{container}/logs", query=query)
        except EngineError:
            return ""
        return demultiplex(raw).decode(errors="replace")

    def last_end(self, container: str) -> End | None:
        """How the container (by full id) last ended, also when it runs again; None when the engine forgot.

        An `inspect` of a container that was started again says nothing of why. The engine remembers its last 256
        events, in seconds or minutes of work.
        """
        filters = json.dumps({"type": ["container"], "container": [container], "event": ["oom", "die"]})
        query = {"since": "1", "until": f"{time.time():.9f}", "filters": filters}
        try:
            raw = self.call("GET", "/events", query=query)
        except EngineError:
            return None
        happened = list(map(json.loads, raw.splitlines()))
        deaths = [number for number, event in enumerate(happened) if event.get("Action") == "die"]
        if not deaths:
            return None
        code = int(happened[deaths[-1]]["Actor"]["Attributes"].get("exitCode", 0))
        # The kernel's word of the memory may come before or after the end that it tells of.
        since = deaths[-2] + 1 if len(deaths) > 1 else 0
        return End(code, any(event.get("Action") == "oom" for event in happened[since:]))

    # -- networks -----------------------------------------------------------------------------

    def network(self, name: str) -> dict[str, Any] | None:
        """`inspect` of a network, or None where there is none."""
        return self._found(f"/networks/{quote(name, safe='')}")

    def join(self, network: str, container: str, alias: str) -> None:
        """Connect a container to a network, where others find it as `alias`."""
        body = {"Container": container, "EndpointConfig": {"Aliases": [alias]}}
        self.call("POST", f"/networks/{quote(network, safe='')}/connect", body)

    def ensure_network(self, name: str, network: Network, labels: Mapping[str, str]) -> bool:
        """Create a network under `name` unless it is there. Returns whether it was created.

        The engine chooses the subnet. A network of one IPv4 subnet is then made once more, with that subnet stated:
        only such a network can give a container a fixed address (see `addresses`).
        """
        if self.network(name):
            return False
        for attempt in range(CREATE_ATTEMPTS):
            self._create_network(name, network, labels, [])
            pinned = pinned_config(self.network(name) or {})
            if pinned is None:
                return True
            self.call("DELETE", f"/networks/{quote(name, safe='')}")
            try:
                self._create_network(name, network, labels, [pinned])
                return True
            except EngineError:
                # Somebody else was given the same subnet meanwhile.
                if attempt + 1 == CREATE_ATTEMPTS:
                    raise
        return True

    def _create_network(
        self, name: str, network: Network, labels: Mapping[str, str], configs: list[dict[str, str]]
    ) -> None:
        body = {
            "Name": name,
            "CheckDuplicate": True,
            "Driver": network.driver,
            "Internal": network.internal,
            "EnableIPv6": network.ipv6,
            "Options": dict(network.options),
            "Labels": dict(labels),
            "IPAM": {"Driver": "default", "Config": configs},
        }
        self.call("POST", "/networks/create", body)

    def volume(self, name: str) -> dict[str, Any] | None:
        """`inspect` of a volume, or None where there is none."""
        return self._found(f"/volumes/{quote(name, safe='')}")

    def ensure_volume(self, volume: Volume, labels: Mapping[str, str]) -> None:
        """Create a named volume; one that is there stays as it is."""
        body = {
            "Name": volume.name,
            "Driver": volume.driver,
            "DriverOpts": dict(volume.options),
            "Labels": dict(labels),
        }
        self.call("POST", "/volumes/create", body)

    # -- images -------------------------------------------------------------------------------

    def distribution_digest(self, reference: str, *, timeout: float = 20) -> str:
        """The digest (`sha256:…`) that `reference` has in its registry now, mirrors included."""
        data = self.call(
            "GET",
            f"/distribution/{quote(reference, safe='/:@')}/json",
            headers=self._registry_auth(reference),
            timeout=timeout,
        )
        return str(json.loads(data)["Descriptor"]["digest"])

    def image(self, reference: str) -> dict[str, Any] | None:
        """`inspect` of a local image, or None."""
        return self._found(f"/images/{quote(reference, safe='/:@')}/json")

    def pull(self, reference: str, *, timeout: float) -> None:
        """Pull `reference` (`name@sha256:…`), logging in as the host's Docker configuration says."""
        name, _, digest = reference.partition("@")
        data = self.call(
            "POST",
            "/images/create",
            query={"fromImage": name, "tag": digest},
            headers=self._registry_auth(reference),
            timeout=timeout,
        )
        for line in data.splitlines():
            if line.strip() and (message := json.loads(line).get("error")):
                raise EngineError(500, str(message))

    def tag(self, reference: str, repository: str, tag: str) -> None:
        """Give a local image one more name."""
        self.call("POST", f"/images/{quote(reference, safe='/:@')}/tag", query={"repo": repository, "tag": tag})

    def untag(self, reference: str) -> None:
        """Remove one name of an image (and the image, when it was the last). An absent one is fine."""
        try:
            self.call("DELETE", f"/images/{quote(reference, safe='/:@')}", timeout=120)
        except EngineError as error:
            if error.status not in (404, 409):
                raise

    def file_of_image(self, reference: str, path: str) -> str:
        """The text of a file in an image, read from a container that is never started."""
        created = json.loads(self.call("POST", "/containers/create", {"Image": reference, "Cmd": ["true"]}))["Id"]
        try:
            archive = self.call("GET", f"/containers/{created}/archive", query={"path": path})
        except EngineError as error:
            if error.status != 404:
                raise
            return ""
        finally:
            self.remove(created)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            files = [tar.extractfile(entry) for entry in tar if entry.isfile()]
            return files[0].read().decode(errors="replace") if files and files[0] else ""

    def _registry_auth(self, reference: str) -> dict[str, str]:
        credentials = credentials_for(reference, self.docker_config)
        if credentials is None:
            return {}
        return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(credentials).encode()).decode()}


def _exchange(
    socket_path: str, method: str, url: str, payload: bytes | None, headers: Mapping[str, str], timeout: float
) -> bytes:
    connection = _UnixConnection(socket_path, timeout)
    try:
        connection.request(method, url, payload, {"Host": "docker", **headers})
        response = connection.getresponse()
        data = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise EngineError(0, f"the Docker engine did not answer {method} {url.partition('?')[0]}: {error}") from error
    finally:
        connection.close()
    if response.status >= 400:
        raise EngineError(response.status, _message(data))
    return data


@lru_cache
def api_version(socket_path: str, timeout: float = 30) -> str:
    """The version of the API to speak with this engine, asked for once a process."""
    data = _exchange(socket_path, "GET", "/version", None, {}, timeout)
    try:
        said = json.loads(data)
        least, most = (_version(said[name]) for name in ("MinAPIVersion", "ApiVersion"))
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(0, f"the Docker engine did not say which versions of its API it takes: {error!r}") from error
    if most < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise EngineError(
            0,
            f"the Docker engine {said.get('Version', '')} speaks version {said['ApiVersion']} of its API at most, "
            f"and {oldest} (Engine 20.10) is needed: upgrade docker.io or docker-ce on this host",
        )
    return ".".join(map(str, max(least, min(most, NEWEST))))


def _version(text: str) -> tuple[int, ...]:
    """`1.44` as numbers: 1.9 is older than 1.44."""
    return tuple(int(part) for part in text.split("."))


def registry_of(reference: str) -> str:
    """The registry's name in an image reference, as Docker reads it; Docker Hub's is `docker.io`."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return "docker.io"


def credentials_for(reference: str, config: Path) -> dict[str, str] | None:
    """The login for the registry of `reference` from a Docker `config.json`, or None."""
    try:
        auths = json.loads(config.read_text()).get("auths", {})
    except (OSError, ValueError):
        return None
    registry = registry_of(reference)
    key = DEFAULT_REGISTRY if registry == "docker.io" else registry
    encoded = (auths.get(key) or auths.get(f"https://{key}") or {}).get("auth")
    if not encoded:
        return None
    username, _, password = base64.b64decode(encoded).decode().partition(":")
    return {"username": username, "password": password, "serveraddress": key}


def demultiplex(raw: bytes) -> bytes:
    """Strip the 8-byte frame headers of the engine's log stream (none when the container has a TTY)."""
    out, position = bytearray(), 0
    while position + 8 <= len(raw):
        if raw[position] > 2 or raw[position + 1 : position + 4] != b"\0\0\0":
            return raw
        size = int.from_bytes(raw[position + 4 : position + 8], "big")
        out += raw[position + 8 : position + 8 + size]
        position += 8 + size
    return bytes(out)


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace").strip()

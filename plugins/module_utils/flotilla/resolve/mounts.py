"""What is mounted into containers: volumes, binds, configs and secrets."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..problem import did_you_mean
from .findings import Findings
from .model import RELEASE, Context, Copy, Volume
from .places import Place
from .values import escape, unescape

# A container that can talk to the engine owns the host. A mount of a parent directory holds the socket too.
_SOCKETS = frozenset({"docker.sock", "containerd.sock", "podman.sock", "crio.sock", "buildkitd.sock"})
_SOCKET_PARENTS = frozenset({"/", "/run", "/var", "/var/lib"})
_ENGINES = ("/run/docker", "/run/containerd", "/var/lib/docker", "/var/lib/containerd")


@dataclass
class Mounts:
    """Resolves the mounts of one service after the other and remembers what they need on the host."""

    config: Mapping[str, Any]
    context: Context
    findings: Findings
    copies: set[Copy] = field(default_factory=set)
    directories: set[str] = field(default_factory=set)
    volumes: dict[str, Volume] = field(default_factory=dict)
    secrets: dict[str, set[str]] = field(default_factory=dict)

    def service_volumes(self, name: str, service: Mapping[str, Any], place: Place) -> list[dict[str, Any]]:
        """`volumes` of a service with its binds moved to where they outlive the upload."""
        kept = []
        for index, entry in enumerate(service.get("volumes") or ()):
            path = f"services.{name}.volumes[{index}]"
            if entry.get("type") == "bind":
                kept.append(self._bind(path, entry, place))
            else:
                if entry.get("type") == "volume" and entry.get("source"):
                    self._use_volume(path, entry, place)
                kept.append(dict(entry))
        return kept

    def service_secrets(self, name: str, service: Mapping[str, Any]) -> list[dict[str, Any]]:
        """`secrets` of a service: uid, gid and mode go, Compose ignores them for files."""
        kept = []
        for entry in service.get("secrets") or ():
            source = entry["source"]
            self.secrets.setdefault(source, set()).add(name)
            kept.append({"source": source, "target": entry.get("target") or f"/run/secrets/{source}"})
        return kept

    def service_configs(self, name: str, service: Mapping[str, Any]) -> list[dict[str, Any]]:
        """`configs` of a service. A mode is kept where Compose obeys it: for a config with content."""
        declared = self.config.get("configs") or {}
        kept = []
        for entry in service.get("configs") or ():
            ignored = () if "content" in (declared.get(entry["source"]) or {}) else ("uid", "gid", "mode")
            kept.append({key: value for key, value in entry.items() if key not in ignored})
        return kept

    # -- top-level sections -------------------------------------------------------------------

    def volume_section(self, services: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The volumes that `services` use. External: Compose neither makes them nor, ever, removes them."""
        used = {
            entry["source"]
            for service in services.values()
            for entry in service.get("volumes", ())
            if entry.get("type") == "volume" and entry.get("source")
        }
        return {key: {"name": self._volume_name(key), "external": True} for key in sorted(used)}

    def secret_section(self, services: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The secrets that `services` use, each a file that Ansible wrote."""
        used = {entry["source"] for service in services.values() for entry in service.get("secrets", ())}
        directory = f"{self.context.base}/secrets/{self.context.secrets_version}"
        return {name: {"file": f"{directory}/{name}"} for name in sorted(used)}

    def config_section(self, services: Mapping[str, Mapping[str, Any]], place: Place) -> dict[str, Any]:
        """The configs that `services` use; the files among them are copied."""
        used = {entry["source"] for service in services.values() for entry in service.get("configs", ())}
        section = {}
        for name in sorted(used):
            known = self.config.get("configs") or {}
            definition = known.get(name) or {}
            path = f"configs.{name}"
            if name not in known:
                what = f"the file declares no config of this name{did_you_mean(name, known)}"
                self.findings.refuse(path, what, f"add `{name}:` to the top-level configs")
            elif definition.get("external"):
                self.findings.refuse(path, "external configs are Swarm's", "use `file:` or `content:`")
            elif "environment" in definition:
                variable = definition["environment"]
                self.findings.refuse(
                    f"{path}.environment",
                    "is read when a container starts",
                    f"write `content: ${{{variable}}}` instead",
                )
            elif "file" in definition:
                source = self._relative(definition["file"])
                if source is None and self._holds_the_engine(unescape(str(definition["file"]))):
                    self._refuse_engine(f"{path}.file", str(definition["file"]))
                section[name] = {"file": definition["file"] if source is None else self._copy(source, place)}
            else:
                section[name] = {"content": definition.get("content", "")}
        return section

    def check_secrets(self) -> None:
        """Every secret that a service mounts must come from the inventory."""
        app = self.context.app
        for name, services in sorted(self.secrets.items()):
            if name not in self.context.secrets:
                variable = f"vault_{app}_{name}".replace("-", "_")
                self.findings.refuse_inventory(
                    f"secrets.{name}",
                    f"services.{', services.'.join(sorted(services))}: the Compose file mounts the secret `{name}`, "
                    "and the inventory has no value for it",
                    f'add `{name}: "{{{{ {variable} }}}}"` to apps[{app}].secrets, and {variable} to the vault',
                )

    # -- binds --------------------------------------------------------------------------------

    def _bind(self, path: str, entry: Mapping[str, Any], place: Place) -> dict[str, Any]:
        source = posixpath.normpath(unescape(str(entry.get("source", ""))))
        read_only = bool(entry.get("read_only"))
        relative = self._relative(str(entry.get("source", "")))
        bind = dict(entry)
        if relative is not None:
            if self._is_shared(relative):
                bind["source"] = escape(self._share(relative))
            elif read_only:
                bind["source"] = self._copy(relative, place)
            else:
                self._refuse_writable(path, relative, str(entry.get("target", "")))
            bind["bind"] = {**(entry.get("bind") or {}), "create_host_path": False}
        elif self._holds_the_engine(source):
            self._refuse_engine(path, source)
        elif self._below(source, self.context.base) and not self._below(source, f"{self.context.base}/shared"):
            self.findings.refuse(
                path,
                "leads out of the Compose file's directory, into Flotilla's own on the host",
                f"move the file beside {self.findings.file}, or keep the data in {self.context.base}/shared/",
            )
        elif self._below(source, "/opt/flotilla"):
            self.findings.refuse(path, f"{source} is Flotilla's own", "remove the line")
        elif not read_only:
            self.findings.note(path, f"{source} of the host is mounted writable, by both colours while a deploy runs")
        return bind

    def _refuse_engine(self, path: str, source: str) -> None:
        self.findings.refuse(
            path,
            f"{source} gives the container the engine's socket or its data, and with it the host",
            "remove the line; what needs the engine runs outside the app",
        )

    def _holds_the_engine(self, source: str) -> bool:
        """Whether a path of the host, however it is spelt, is the engine's or has the engine's below it."""
        path = re.sub(r"^/+", "/", posixpath.normpath(source))
        path = re.sub(r"^/proc/[^/]+/root(?=/|$)", "", path) or "/"
        path = re.sub(r"^/var/run(?=/|$)", "/run", path)
        return (
            posixpath.basename(path) in _SOCKETS
            or path in _SOCKET_PARENTS
            or any(self._below(path, directory) for directory in _ENGINES)
        )

    def _refuse_writable(self, path: str, relative: str, target: str) -> None:
        shown = "." if relative == "." else f"./{relative}"
        ways = [f"write `{shown}:{target}:ro` if the container only reads it"]
        if relative != ".":
            kept = f"{self.context.base}/shared/{relative}"
            ways.append(f"add `{relative}` to apps[{self.context.app}].shared_paths to keep it in {kept}")
        ways.append("use a named volume")
        self.findings.refuse(
            path,
            f"{shown} is mounted writable, and each release has its own, fresh copy of that directory: "
            "what is written there would be lost",
            ", or ".join(ways),
        )

    def _relative(self, source: str) -> str | None:
        """A path below the project directory, relative to it; None for any other path."""
        path = posixpath.normpath(unescape(source))
        if not self._below(path, self.context.source):
            return None
        return posixpath.relpath(path, self.context.source)

    def _copy(self, relative: str, place: Place) -> str:
        """Have a path copied; returns the place that the container mounts, as a Compose string.

        A shared service outlives releases, so its files do too.
        """
        directory = "shared/.files" if place is Place.SHARED else f"releases/{RELEASE}/files"
        suffix = "" if relative == "." else f"/{relative}"
        self.copies.add(Copy(relative, f"{directory}{suffix}"))
        return f"{self.context.base}/{directory}{escape(suffix)}"

    def _share(self, relative: str) -> str:
        path = f"{self.context.base}/shared/{relative}"
        self.directories.add(path)
        return path

    def _is_shared(self, relative: str) -> bool:
        return any(self._below(relative, posixpath.normpath(listed)) for listed in self.context.shared_paths)

    @staticmethod
    def _below(path: str, directory: str) -> bool:
        return path == directory or path.startswith(f"{directory.rstrip('/')}/")

    # -- volumes ------------------------------------------------------------------------------

    def _use_volume(self, path: str, entry: Mapping[str, Any], place: Place) -> None:
        key = entry["source"]
        known = self.config.get("volumes") or {}
        if key not in known:
            what = f"the file declares no volume `{key}`{did_you_mean(key, known)}"
            self.findings.refuse(path, what, f"add `{key}:` to the top-level volumes")
        definition = known.get(key) or {}
        if place.in_colour and not entry.get("read_only"):
            self.findings.note(
                path,
                f"both colours write to the volume `{key}` while a deploy runs; if only one may, "
                f"name the service in apps[{self.context.app}].shared",
            )
        if definition.get("external"):
            return
        self._check_device(key, definition)
        options = {name: unescape(str(value)) for name, value in (definition.get("driver_opts") or {}).items()}
        device = options.get("device", "")
        if "bind" in options.get("o", "").split(",") and self._relative(device) is not None:
            relative = self._relative(device)
            self.findings.refuse(
                f"volumes.{key}.driver_opts.device",
                f"./{relative} lies in the upload, which each release replaces",
                "remove driver_opts: a plain named volume keeps the data",
            )
        name = unescape(self._volume_name(key))
        self.volumes[key] = Volume(name, definition.get("driver") or "local", options)

    def _check_device(self, key: str, definition: Mapping[str, Any]) -> None:
        """A named volume may be a bind by another name."""
        device = unescape(str((definition.get("driver_opts") or {}).get("device", "")))
        if device.startswith("/") and self._holds_the_engine(device):
            self._refuse_engine(f"volumes.{key}.driver_opts.device", device)

    def _volume_name(self, key: str) -> str:
        """One name for both colours. A name of the user's own is kept."""
        definition = (self.config.get("volumes") or {}).get(key) or {}
        stated = definition.get("name")
        if definition.get("external"):
            return str(stated or key)
        if stated and stated != f"{self.config.get('name')}_{key}":
            return str(stated)
        return f"{self.context.app}_{key}"

"""What is mounted into containers: volumes, binds, configs and secrets."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..problem import did_you_mean
from .findings import Findings
from .model import RELEASE, Context, Copy, Volume
from .places import Place
from .privileges import (
    below,
    bound_directory,
    harmless,
    holds_the_engine,
    is_tmpfs,
    plain,
    refuse_path,
    refuse_unless,
)
from .values import escape, unescape

_TYPES = frozenset({"bind", "volume", "tmpfs", "image"})


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
    _checked: set[str] = field(default_factory=set)
    # What is mounted from the host's own directories: where the file says so, the plain path, whether it is writable.
    _sources: list[tuple[str, str, bool]] = field(default_factory=list)

    def service_volumes(self, name: str, service: Mapping[str, Any], place: Place) -> list[dict[str, Any]]:
        """`volumes` of a service with its binds moved to where they outlive the upload."""
        kept = []
        for index, entry in enumerate(service.get("volumes") or ()):
            path = f"services.{name}.volumes[{index}]"
            kind = entry.get("type")
            if kind not in _TYPES:
                self.findings.refuse(
                    path, f"`{kind}` is no mount that a host has", f"write one of {', '.join(sorted(_TYPES))}"
                )
            elif kind == "bind":
                kept.append(self._bind(name, path, entry, place))
            else:
                if kind == "volume" and entry.get("source"):
                    self._use_volume(path, entry, place)
                kept.append(_without_labels(entry))
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
                section[name] = {"file": self._config_file(name, str(definition["file"]), services, place)}
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

    def check_nested(self) -> None:
        """Nothing is mounted from below what a container writes to. After all services and sections.

        It could put a link there, and the engine, which looks for the source as root, would mount what it leads to.
        """
        # Who may write to the engine's own directories is root already.
        writable = {
            source: path for path, source, writes in reversed(self._sources) if writes and not holds_the_engine(source)
        }
        for path, source, _ in self._sources:
            for outer, by in writable.items():
                if source != outer and below(source, outer):
                    self.findings.refuse(
                        path,
                        f"{source} lies in {outer}, which {by} mounts writable: a container could put a link to any "
                        "directory of the host in its place",
                        f"mount {outer} here too (read-only where it is only read), or keep the two beside each other",
                    )

    # -- binds --------------------------------------------------------------------------------

    def _config_file(self, config: str, file: str, services: Mapping[str, Mapping[str, Any]], place: Place) -> str:
        """Where a config is mounted from: its copy, or a file of the host that may be read."""
        relative = self._relative(file)
        if relative is not None:
            copied = self._copy(relative, place)
            self._sources.append((f"configs.{config}.file", unescape(copied), False))
            return copied
        source = plain(unescape(file))
        self._sources.append((f"configs.{config}.file", source, False))
        if not harmless(source):
            fix = f"move the file beside {self.context.file}"
            for name in sorted(services):
                if any(entry["source"] == config for entry in services[name].get("configs", ())):
                    refuse_path(name, f"configs.{config}.file", source, True, self.context, self.findings, fix)
        return str(escape(source))

    def _bind(self, name: str, path: str, entry: Mapping[str, Any], place: Place) -> dict[str, Any]:
        bound = self._bound(name, path, entry, place)
        self._sources.append((path, unescape(str(bound["source"])), not bound.get("read_only")))
        return bound

    def _bound(self, name: str, path: str, entry: Mapping[str, Any], place: Place) -> dict[str, Any]:
        source = plain(unescape(str(entry.get("source", ""))))
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
            return bind
        bind["source"] = escape(source)
        if harmless(source):
            if not read_only:
                self.findings.note(path, f"{source} of the host is mounted read-only")
            return {**bind, "read_only": True, "bind": {"create_host_path": False}}
        if below(source, f"{self.context.base}/shared"):
            self.directories.add(source)
            return bind
        if below(source, self.context.base):
            fix = f"move the file beside {self.findings.file}, or keep the data in {self.context.base}/shared/"
            refuse_path(name, path, source, read_only, self.context, self.findings, fix)
        else:
            refuse_path(name, path, source, read_only, self.context, self.findings)
        if not read_only:
            self.findings.note(path, f"{source} of the host is mounted writable, by both colours while a deploy runs")
        return bind

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
        if not below(path, self.context.source):
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
        return any(below(relative, posixpath.normpath(listed)) for listed in self.context.shared_paths)

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
        self.check_volume(key, definition)
        if definition.get("external"):
            return
        options = {name: unescape(str(value)) for name, value in (definition.get("driver_opts") or {}).items()}
        if bound := bound_directory(options):
            options["device"] = bound[0]
        name = unescape(self._volume_name(key))
        self.volumes[key] = Volume(name, definition.get("driver") or "local", options)

    def check_volume(self, key: str, definition: Mapping[str, Any]) -> None:
        """Whether those who mount a volume may: it may be another app's, or a bind by another name."""
        if key in self._checked:
            return
        self._checked.add(key)
        users = sorted(
            name for name, service in (self.config.get("services") or {}).items() if key in volumes_of(service)
        )
        name = unescape(self._volume_name(key))
        own = f"{self.context.app}_"
        if not name.startswith(own):
            path = f"volumes.{key}" + (".name" if definition.get("name") else "")
            what = f"`{name}` is not the app's own volume, whose name begins with `{own}`"
            fix = f"name it `{own}{name}`" if definition.get("external") else "remove `name`"
            refuse_unless(users, path, f"volume:{name}", what, self.context, self.findings, fix)
        if definition.get("external"):
            return
        path, options = f"volumes.{key}.driver_opts", definition.get("driver_opts") or {}
        if (driver := definition.get("driver") or "local") != "local":
            what = f"`{driver}` is a program of the host, and what it mounts is not known"
            refuse_unless(users, f"volumes.{key}.driver", "driver_opts", what, self.context, self.findings)
        elif bound := bound_directory(options):
            directory, read_only = bound
            self._sources.append((f"{path}.device", directory, not read_only))
            relative = self._relative(directory)
            if relative is not None:
                what = f"./{relative} lies in the upload, which each release replaces"
                fix = "remove driver_opts: a plain named volume keeps the data"
                self.findings.refuse(f"{path}.device", what, fix)
            elif below(directory, f"{self.context.base}/shared"):
                self.directories.add(directory)
            else:
                for user in users:
                    fix = "remove driver_opts: a plain named volume keeps the data"
                    refuse_path(user, f"{path}.device", directory, read_only, self.context, self.findings, fix)
        elif options and not is_tmpfs(options):
            what = "mounts something of the host or of its network"
            refuse_unless(users, path, "driver_opts", what, self.context, self.findings)

    def _volume_name(self, key: str) -> str:
        """One name for both colours. A name of the user's own is kept."""
        definition = (self.config.get("volumes") or {}).get(key) or {}
        stated, external = definition.get("name"), definition.get("external")
        if external:
            return str(stated or (external.get("name") if isinstance(external, Mapping) else None) or key)
        if stated and stated != f"{self.config.get('name')}_{key}":
            return str(stated)
        return f"{self.context.app}_{key}"


def _without_labels(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A mount without labels for its volume: they are how Flotilla knows its own."""
    kept = dict(entry)
    if isinstance(options := kept.get("volume"), Mapping) and "labels" in options:
        kept["volume"] = {key: value for key, value in options.items() if key != "labels"}
    return kept


def volumes_of(service: Mapping[str, Any]) -> set[str]:
    """The keys of the volumes that a service mounts."""
    return {str(entry.get("source")) for entry in service.get("volumes") or () if entry.get("type") == "volume"}

"""The files of an app that `docker compose config` and the release need, as one reproducible archive.

For the controller only. Build contexts stay behind: a host builds nothing.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from .resolve.privileges import granted, plain
from .zeros import STATED, find

LIMIT_BYTES = 2 * 1024 * 1024
COMPOSE = "compose.yaml"


class BundleError(Exception):
    """The app's directory cannot be handed to a host; the message names the file and what to do."""


class _Loader(yaml.SafeLoader):
    """Reads YAML as Compose does, with its tags (`!reset`, `!override`) and no other."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node of the text; raises for what Compose, which is written in Go, would read as something else."""
        node = super().compose_node(parent, index)
        if node is not None and node.tag not in _TAGS:
            raise yaml.constructor.ConstructorError(None, None, f"the tag {node.tag} is not used here", node.start_mark)
        if node is not None and node.tag.endswith(":merge") and node.value != "<<":
            raise yaml.constructor.ConstructorError(None, None, "the tag !!merge is not used here", node.start_mark)
        return node


_TAGS = frozenset(
    {
        "!override",
        "!reset",
        *(
            f"tag:yaml.org,2002:{kind}"
            for kind in ("bool", "float", "int", "map", "merge", "null", "seq", "str", "timestamp", "value")
        ),
    }
)


def _untagged(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None


_Loader.add_multi_constructor("!", _untagged)


class Kind(Enum):
    """Who reads the file of a reference: a container, Compose as values, or Compose as a Compose file."""

    MOUNTED = auto()
    READ = auto()
    COMPOSE = auto()


@dataclass(frozen=True)
class Reference:
    """A path that a Compose file names on its own side.

    required: whether the file must exist.  service: that names it, for its privileges.
    directory: of a file of Kind.COMPOSE, which its own paths are relative to where it is not the file's own.
    """

    path: str
    kind: Kind = Kind.MOUNTED
    required: bool = True
    service: str = ""
    directory: str | None = None


def references(compose: Any) -> Iterator[Reference]:
    """The paths that a Compose file names.

    Source: the Compose Specification's `include`, `extends`, `env_file`, `label_file`, `configs` and `volumes`.
    Files of top-level `secrets` are left out: Flotilla puts its own in their place.
    """
    if not isinstance(compose, Mapping):
        return
    for entry in _list(compose.get("include")):
        stated = entry if isinstance(entry, Mapping) else {"path": entry}
        paths = _texts(stated.get("path"))
        # Compose reads the paths of a list relative to the first of them.
        first = str(PurePosixPath(paths[0]).parent) if paths else "."
        directory = stated.get("project_directory") or first
        for path in paths:
            yield Reference(path, Kind.COMPOSE, directory=str(directory))
        yield from (Reference(path, Kind.READ) for path in _texts(stated.get("env_file")))
        yield from (Reference(path, Kind.READ) for path in _texts(stated.get("project_directory")))
    for config in _mappings(compose.get("configs")):
        yield from (Reference(path) for path in _texts(config.get("file")))
    services = compose.get("services")
    for name, service in services.items() if isinstance(services, Mapping) else ():
        if isinstance(service, Mapping):
            yield from _of_service(str(name), service)


def _of_service(name: str, service: Mapping[str, Any]) -> Iterator[Reference]:
    extends = service.get("extends")
    if isinstance(extends, Mapping):
        yield from (Reference(path, Kind.COMPOSE) for path in _texts(extends.get("file")))
    for entry in [*_list(service.get("env_file")), *_list(service.get("label_file"))]:
        if isinstance(entry, Mapping):
            required = entry.get("required") is not False
            yield from (Reference(path, Kind.READ, required, name) for path in _texts(entry.get("path")))
        else:
            yield from (Reference(path, Kind.READ, service=name) for path in _texts(entry))
    for volume in _list(service.get("volumes")):
        yield from (Reference(path, required=False) for path in _bind_source(volume))


def _bind_source(volume: Any) -> list[str]:
    if isinstance(volume, Mapping):
        return _texts(volume.get("source")) if volume.get("type") == "bind" else []
    source = volume.split(":")[0] if isinstance(volume, str) and ":" in volume else ""
    return [source] if source.startswith((".", "/", "~", "$")) else []


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _texts(value: Any) -> list[str]:
    return [text for text in _list(value) if isinstance(text, str)]


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value.values() if isinstance(item, Mapping)] if isinstance(value, Mapping) else []


def local_path(reference: str) -> PurePosixPath | None:
    """A reference as a path below the app's directory; None for one that is not there (absolute, home).

    Of a path with a variable the part before the variable's own component counts, as any file there may be meant.
    """
    fixed = reference
    if "$" in reference:
        fixed = reference[: reference.index("$")].rpartition("/")[0] or "."
        if reference.startswith(("/", "$")):
            return None
    if fixed.startswith(("/", "~")):
        return None
    parts: list[str] = []
    for part in PurePosixPath(fixed).parts:
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)


def collect(directory: Path, privileges: Mapping[str, Sequence[str]] | None = None) -> dict[str, Path]:
    """The files to hand over, by their path relative to the app's directory. Raises BundleError.

    Compose reads files on the host as root, before anything of what it made can be judged. So what it reads is below
    the app's directory, or is a file of the host that `privileges` (service → `path:…` among others) name.
    """
    found: dict[str, Path] = {}
    # Compose files, each with the directory that its paths are relative to.
    waiting, done = [(COMPOSE, ".")], set()
    while waiting:
        name, base = waiting.pop()
        if (name, base) in done:
            continue
        done.add((name, base))
        found[name] = directory / name
        for reference in references(_parsed(directory, name, _compose_text(directory, name))):
            where = f"{directory / name}: `{reference.path}`"
            if reference.kind is not Kind.MOUNTED and _of_host(where, name, base, reference, privileges or {}):
                continue
            path = local_path(_below(base, reference.path))
            if path is None:
                continue
            for file in _files(directory, path, where, reference):
                relative = file.relative_to(directory).as_posix()
                found.setdefault(relative, file)
                if reference.kind is Kind.COMPOSE:
                    below = (
                        f"{base}/{reference.directory}" if reference.directory else str(PurePosixPath(relative).parent)
                    )
                    waiting.append((relative, str(local_path(below))))
    return found


def _below(base: str, text: str) -> str:
    """A path as Compose reads it, relative to a directory."""
    return text if text.startswith(("/", "~", "$")) else f"{base}/{text}"


def _of_host(where: str, name: str, base: str, reference: Reference, privileges: Mapping[str, Sequence[str]]) -> bool:
    """Whether Compose reads a file of the host that it may read. Raises BundleError where it may not, or might.

    Values of variables are not known here, and in an included file they may be the app's own (`include.env_file`).
    """
    text, kind = reference.path, reference.kind
    if kind is Kind.COMPOSE and (":" in text or text.startswith("github.com/")):
        raise BundleError(f"{where}: is no file of the app's directory. Next: put a copy of it there")
    candidates = _candidates(text) if name == COMPOSE and kind is Kind.READ else {text: "$" in text}
    for candidate, uncertain in candidates.items():
        if uncertain:
            what = "means what a variable says, and Compose reads it as root on the host"
            raise BundleError(
                f"{where}: {what}. Next: write the path out, a variable only for the end of a file's name"
            )
        if not candidate.startswith(("/", "~")):
            if (local_path(f"{base}/{candidate}") or PurePosixPath("..")).parts[:1] == ("..",):
                raise BundleError(f"{where}: is outside the app's directory. Next: move it below the app's directory")
            continue
        path = plain(f"/root{candidate[1:]}" if candidate.startswith("~") else candidate)
        if kind is Kind.READ and reference.service:
            if granted(privileges.get(reference.service, ()), f"path:{path}:ro"):
                continue
            entry = f"privileges: {{{reference.service}: [path:{path}:ro]}}"
            raise BundleError(
                f"{where}: is a file of the host, which Compose reads as root. Next: move it to the app's directory, "
                f"or, where the app may have it, write `{entry}` into its entry of apps"
            )
        raise BundleError(f"{where}: is outside the app's directory. Next: move it there")
    return all(candidate.startswith(("/", "~")) for candidate in candidates)


_VARIABLE = re.compile(r"\$(?:(?P<named>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?::?-(?P<default>[^${}]*))?\})")


def _candidates(text: str) -> dict[str, bool]:
    """What a path with variables may be, each with whether that may be anything.

    A variable is taken as its default, as a name, and as a path from the root on. So it may stand within a path
    (`env/${STAGE}.env`), or be the whole of it where it has a default: another value is the inventory's own.
    """
    if "$" not in text:
        return {text: False}
    found = dict.fromkeys((_VARIABLE.sub(lambda match: match["default"] or "", text), _VARIABLE.sub("x", text)), False)
    whole = _VARIABLE.fullmatch(text)
    if not (whole and whole["default"]):
        rooted = _VARIABLE.sub("/x", text)
        found[rooted] = (
            rooted.startswith("/") or ".." in str(local_path(rooted)).split("/") or ".." in text[text.index("$") :]
        )
    return {candidate: uncertain or "$" in candidate for candidate, uncertain in found.items()}


def _compose_text(directory: Path, name: str) -> str:
    try:
        return (directory / name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(
            f"{directory / name}: cannot be read: {error}. Next: put the app's Compose file there"
        ) from None


def _parsed(directory: Path, name: str, text: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        problem = str(error).replace("\n", " ")
        raise BundleError(
            f"{directory / name}: is not YAML: {problem}. Next: docker compose -f {name} config"
        ) from None


def _is_compose(file: Path) -> bool:
    """Whether a file may be an included or extended Compose file, with references of its own."""
    if file.suffix not in (".yaml", ".yml"):
        return False
    try:
        content = yaml.load(file.read_text(), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(content, Mapping) and isinstance(content.get("services"), Mapping)


def _compose_files(files: Mapping[str, Path]) -> list[str]:
    return [name for name, file in files.items() if name == COMPOSE or _is_compose(file)]


def _files(directory: Path, path: PurePosixPath, where: str, reference: Reference) -> list[Path]:
    if path.parts[:1] == ("..",):
        raise BundleError(f"{where}: is outside the app's directory. Next: move it below {directory}")
    target = directory / path
    if not target.exists():
        if reference.required and "$" not in reference.path:
            raise BundleError(f"{where}: there is no such file. Next: create {target}, or remove the line")
        return []
    files = [target] if target.is_file() else [file for file in sorted(target.rglob("*")) if file.is_file()]
    for file in files:
        if not file.resolve().is_relative_to(directory.resolve()):
            raise BundleError(f"{where}: {file} is a link out of the app's directory. Next: put the file itself there")
    return [file for file in files if ".git" not in file.relative_to(directory).parts]


def pack(files: Mapping[str, Path], directory: Path, limit: int = LIMIT_BYTES) -> bytes:
    """A gzipped tar archive that depends on names, contents and executable bits alone. Raises BundleError.

    Beside the files it has one of its own, for `zeros.restore`.
    """
    sizes = {name: file.stat().st_size for name, file in files.items()}
    if sum(sizes.values()) > limit:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        listed = ", ".join(f"{name} ({sizes[name] // 1024} KiB)" for name in largest)
        raise BundleError(
            f"{directory / COMPOSE}: the files it refers to take {sum(sizes.values()) // 1024} KiB, more than "
            f"{limit // 1024} KiB; the largest: {listed}. Next: put them into an image or a named volume"
        )
    contents = {name: (file.read_bytes(), bool(file.stat().st_mode & 0o100)) for name, file in files.items()}
    if stated := find(_parsed(directory, name, contents[name][0].decode()) for name in _compose_files(files)):
        contents[STATED] = json.dumps(stated, sort_keys=True).encode(), False
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=9) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, (content, executable) in sorted(contents.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755 if executable else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()

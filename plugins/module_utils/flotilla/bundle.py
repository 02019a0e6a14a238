"""The files of an app that `docker compose config` and the release need, as one reproducible archive.

For the controller only. Build contexts stay behind: a host builds nothing.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from .zeros import STATED, find

LIMIT_BYTES = 2 * 1024 * 1024
COMPOSE = "compose.yaml"


class BundleError(Exception):
    """The app's directory cannot be handed to a host; the message names the file and what to do."""


class _Loader(yaml.SafeLoader):
    """Reads Compose's own tags (`!reset`, `!override`) as the values that they stand before."""


def _untagged(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None


_Loader.add_multi_constructor("!", _untagged)


def references(compose: Any) -> Iterator[tuple[str, bool]]:
    """The paths that a Compose file names on its own side, each with whether the file must exist.

    Source: the Compose Specification's `include`, `extends`, `env_file`, `label_file`, `configs` and `volumes`.
    Files of top-level `secrets` are left out: Flotilla puts its own in their place.
    """
    if not isinstance(compose, Mapping):
        return
    for entry in _list(compose.get("include")):
        for key in ("path", "env_file"):
            yield from ((path, True) for path in _texts(entry.get(key) if isinstance(entry, Mapping) else entry))
        if isinstance(entry, Mapping):
            yield from ((path, True) for path in _texts(entry.get("project_directory")))
    for config in _mappings(compose.get("configs")):
        yield from ((path, True) for path in _texts(config.get("file")))
    for service in _mappings(compose.get("services")):
        extends = service.get("extends")
        if isinstance(extends, Mapping):
            yield from ((path, True) for path in _texts(extends.get("file")))
        for entry in [*_list(service.get("env_file")), *_list(service.get("label_file"))]:
            if isinstance(entry, Mapping):
                yield from ((path, entry.get("required") is not False) for path in _texts(entry.get("path")))
            else:
                yield from ((path, True) for path in _texts(entry))
        for volume in _list(service.get("volumes")):
            yield from ((path, False) for path in _bind_source(volume))


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
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)


def collect(directory: Path) -> dict[str, Path]:
    """The files to hand over, by their path relative to the app's directory. Raises BundleError."""
    found: dict[str, Path] = {}
    waiting = [COMPOSE]
    while waiting:
        name = waiting.pop()
        text = _compose_text(directory, name)
        found[name] = directory / name
        for reference, required in references(_parsed(directory, name, text)):
            # Compose reads what an included or extended file names relative to that file.
            path = local_path(
                str(PurePosixPath(name).parent / reference) if not reference.startswith(("/", "~", "$")) else reference
            )
            if path is None:
                continue
            for file in _files(directory, path, name, reference, required):
                relative = file.relative_to(directory).as_posix()
                if relative not in found and relative not in waiting and _is_compose(file):
                    waiting.append(relative)
                else:
                    found.setdefault(relative, file)
    return found


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


def _files(directory: Path, path: PurePosixPath, name: str, reference: str, required: bool) -> list[Path]:
    where = f"{directory / name}: `{reference}`"
    if path.parts[:1] == ("..",):
        raise BundleError(f"{where}: is outside the app's directory. Next: move it below {directory}")
    target = directory / path
    if not target.exists():
        if required and "$" not in reference:
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

"""A release before it exists: the app's source, resolved on the host, with its digests and its fingerprint."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from . import zeros
from .compose_cli import ComposeError, Project
from .engine import Engine, EngineError
from .problem import Problem
from .registry import problem as image_problem
from .resolve import ComposeFileError, Context, Resolved, environment_problems, fingerprint, resolve
from .settings import Settings
from .store import Store, digest_of_files

COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")


@dataclass(frozen=True)
class Draft:
    """What a deploy would bring.

    source: the unpacked directory that the file was resolved in.
    fingerprint: of everything but the images' digests, which are compared beside it (only one host of
    a fleet asks the registry for them).
    """

    resolved: Resolved
    fingerprint: str
    secrets_version: str
    source: Path


def read(settings: Settings, store: Store, source: Path, router_config: str, digests: Mapping[str, str]) -> Draft:
    """Resolve the app's source with the given digests. Raises `ComposeFileError` with everything that is wrong."""
    if problems := environment_problems(settings.name, settings.environment):
        raise ComposeFileError(problems)
    file = next((source / name for name in COMPOSE_NAMES if (source / name).is_file()), source / COMPOSE_NAMES[0])
    project = Project(settings.name, file, settings.compose_variables(), directory=source)
    try:
        config = zeros.restore(project.config(), zeros.read(source))
    except ComposeError as error:
        what = _without_secrets(error.output, settings.secrets.values())
        raise ComposeFileError(
            [Problem(settings.file, "(the file)", f"docker compose refuses it: {what}", f"mend {settings.file}")]
        ) from error
    secrets_version = store.secrets_version(settings.secrets)
    context = Context(
        app=settings.name,
        source=str(source),
        base=str(settings.base),
        file=settings.file,
        inventory=settings.directory,
        routes=settings.routes,
        migration=settings.migration,
        workers=settings.workers,
        shared=settings.shared,
        per_colour=settings.per_colour,
        shared_paths=settings.shared_paths,
        unchecked=settings.unchecked,
        privileges=settings.privileges,
        secret_variables=settings.secret_variables,
        secrets=tuple(settings.secrets),
        secrets_version=secrets_version,
        router_image=settings.router_image,
        drain_seconds=settings.drain_seconds,
        allow_latest=settings.allow_latest,
    )
    plain = resolve(config, context)
    resolved = resolve(config, replace(context, digests=digests)) if digests else plain
    missing = [copy.source for copy in resolved.copies if not (source / copy.source).exists()]
    if missing:
        raise ComposeFileError(
            Problem(
                settings.file,
                name,
                f"is mounted, and {Path(settings.file).parent / name} does not exist",
                "add it, or remove the mount",
            )
            for name in missing
        )
    files = digest_of_files(source / copy.source for copy in resolved.copies)
    return Draft(resolved, fingerprint(plain, router_config, secrets_version, files), secrets_version, source)


def find_digests(engine: Engine, settings: Settings, images: Mapping[str, str]) -> dict[str, str]:
    """Image as written → `name@sha256:…`, asked of the registries all at once.

    Raises `ComposeFileError` that tell a missing image from a refused login and from a registry that is away.
    """
    services: dict[str, str] = {}
    for service, reference in images.items():
        services.setdefault(reference, service)
    problems: list[Problem] = []

    def find(reference: str) -> tuple[str, str] | None:
        if "@" in reference:
            return reference, reference
        try:
            return reference, f"{name_of(reference)}@{engine.distribution_digest(reference)}"
        except EngineError as error:
            problems.append(image_problem(settings, services[reference], reference, error))
            return None

    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(find, services))
    if problems:
        raise ComposeFileError(problems)
    return dict(pair for pair in found if pair)


def name_of(reference: str) -> str:
    """An image reference without its tag: `host:5000/team/app:1.2` → `host:5000/team/app`."""
    return re.sub(r":[^:/@]+$", "", reference)


def _without_secrets(text: str, values: Iterable[str]) -> str:
    for value in sorted(values, key=len, reverse=True):
        if len(value) > 3:
            text = text.replace(value, "********")
    return text

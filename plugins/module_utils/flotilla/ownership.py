"""Who must be able to read a release's secrets: the users that its containers run as.

Compose's file secrets are bind mounts: uid, gid and mode in the Compose file are ignored, so the
file itself must belong to the container's user. A secret that services of two users mount becomes
two files.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from .engine import Engine
from .problem import Problem
from .resolve import Resolved

# What the entry points of the official images need, which begin as root, take their files over and become another user.
_TO_BECOME_ANOTHER = "[CHOWN, DAC_OVERRIDE, FOWNER, SETGID, SETUID]"


def service_uids(engine: Engine, resolved: Resolved, images: Mapping[str, str]) -> dict[str, int]:
    """Service → uid, for the services that mount secrets: from `user:`, or from the image and its /etc/passwd."""
    cache: dict[tuple[str, str], int] = {}
    uids = {}
    for service in sorted({service for services in resolved.secrets.values() for service in services}):
        key = (images[service], resolved.users.get(service, ""))
        if key not in cache:
            cache[key] = _uid(engine, *key)
        uids[service] = cache[key]
    return uids


def run_as_root(engine: Engine, resolved: Resolved, images: Mapping[str, str], file: str) -> list[Problem]:
    """The services that would run as root because their image does, and their file does not say that it may.

    images: service → image, present on this host.
    """
    problems = []
    for service, image in sorted(images.items()):
        if resolved.users.get(service):
            continue
        user = str(((engine.image(image) or {}).get("Config") or {}).get("User") or "")
        if user.partition(":")[0] in ("", "0", "root"):
            problems.append(
                Problem(
                    file,
                    f"services.{service}.user",
                    f"the image {image} runs as root, and the file does not say that it may",
                    'write `user: "1000:1000"`, a user that can read the image\'s files; or, where it has to be root, '
                    f'`user: "0:0"` and the capabilities it needs, often `cap_add: {_TO_BECOME_ANOTHER}`',
                )
            )
    return problems


def assign_secrets(
    documents: Mapping[str, dict[str, Any]], uids: Mapping[str, int]
) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[str, int]]]:
    """Give every service secrets that its user can read.

    Returns the documents with one secret a user, named `<secret>-<uid>`, and the files to write:
    file name → (secret, uid).
    """
    files: dict[str, tuple[str, int]] = {}
    written = {}
    for name, document in documents.items():
        document = copy.deepcopy(document)
        paths = {secret: PurePosixPath(entry["file"]) for secret, entry in document.get("secrets", {}).items()}
        section = {}
        for service, definition in document["services"].items():
            for entry in definition.get("secrets", ()):
                secret, uid = entry["source"], uids[service]
                entry["source"] = f"{secret}-{uid}"
                section[entry["source"]] = {"file": str(paths[secret].with_name(entry["source"]))}
                files[entry["source"]] = (paths[secret].name, uid)
        if section:
            document["secrets"] = section
        written[name] = document
    return written, files


def uid_of(name: str, passwd: str) -> int:
    """The uid of a user in the text of an /etc/passwd; root's where there is no such user."""
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[0] == name and fields[2].isdecimal():
            return int(fields[2])
    return 0


def _uid(engine: Engine, image: str, user: str) -> int:
    if not user:
        inspected = engine.image(image) or {}
        user = (inspected.get("Config") or {}).get("User") or "0"
    name = user.partition(":")[0]
    return int(name) if name.isdecimal() else uid_of(name, engine.file_of_image(image, "/etc/passwd"))

"""Who must be able to read a release's secrets: the users that its containers run as."""

from __future__ import annotations

from collections.abc import Mapping

from .engine import Engine
from .resolve import Resolved


def secret_owners(engine: Engine, resolved: Resolved, images: Mapping[str, str]) -> dict[str, int]:
    """Secret → uid of its reader. Compose file secrets are bind mounts, so the file's own owner counts.

    A secret that services of several users mount is owned by the first non-root one; root reads it anyway.
    """
    cache: dict[str, int] = {}
    owners: dict[str, int] = {}
    for secret, services in resolved.secrets.items():
        uids = []
        for service in services:
            key = f"{images[service]}\0{resolved.users.get(service, '')}"
            if key not in cache:
                cache[key] = _uid(engine, images[service], resolved.users.get(service, ""))
            uids.append(cache[key])
        owners[secret] = next((uid for uid in uids if uid != 0), 0)
    return owners


def _uid(engine: Engine, image: str, user: str) -> int:
    if not user:
        inspected = engine.image(image) or {}
        user = (inspected.get("Config") or {}).get("User") or "0"
    name = user.partition(":")[0]
    return int(name) if name.isdecimal() else uid_of(name, engine.file_of_image(image, "/etc/passwd"))


def uid_of(name: str, passwd: str) -> int:
    """The uid of a user in the text of an /etc/passwd; root's where there is no such user."""
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[0] == name and fields[2].isdecimal():
            return int(fields[2])
    return 0

"""Why an image could not be had: it is not there, a login is wanted, or the registry is away."""

from __future__ import annotations

from enum import StrEnum

from .engine import EngineError, registry_of
from .problem import Problem
from .settings import Settings


class ImageTrouble(StrEnum):
    """The three cases that a person mends in three different ways."""

    NOT_FOUND = "not found"
    LOGIN = "login wanted"
    UNREACHABLE = "registry unreachable"


_LOGIN = ("unauthorized", "authentication required", "no basic auth", "denied", "incorrect username")
_MISSING = ("manifest unknown", "not found", "name unknown", "no such image", "does not exist")


def classify(error: EngineError) -> ImageTrouble:
    """Sort an engine's answer to a distribution or pull request.

    The engine passes the registry's words on with its own status (404 for a missing manifest,
    401/403 or 500 with "unauthorized" for a refused login, 500 with a network error for the rest).
    """
    text = error.message.lower()
    if error.status in (401, 403) or any(word in text for word in _LOGIN):
        return ImageTrouble.LOGIN
    network = ("dial tcp", "no such host", "timeout", "timed out", "connection refused", "tls:", "x509", "eof")
    if any(word in text for word in network):
        return ImageTrouble.UNREACHABLE
    if error.status == 404 or any(word in text for word in _MISSING):
        return ImageTrouble.NOT_FOUND
    return ImageTrouble.UNREACHABLE


def problem(settings: Settings, service: str, reference: str, error: EngineError) -> Problem:
    """What is wrong with the image, where it is named, and what to do next."""
    registry = registry_of(reference)
    inventory = settings.directory
    image = f"services.{service}.image"
    match classify(error):
        case ImageTrouble.NOT_FOUND:
            again = settings.command("deploy.yml", "-e version=<version>")
            return Problem(
                settings.file,
                image,
                f"the registry {registry} has no image {reference}",
                f"push it, or deploy one that exists: {again}",
            )
        case ImageTrouble.LOGIN:
            return Problem(
                inventory,
                "docker_registry_logins",
                f"the registry {registry} refused the login for {reference} ({error.message})",
                f"add or mend its entry, then ansible-playbook playbooks/provision.yml {settings.arguments}",
            )
        case ImageTrouble.UNREACHABLE:
            return Problem(
                settings.file,
                image,
                f"the registry {registry} cannot be reached from {settings.host} for {reference} ({error.message})",
                "check the registry's name and the host's network, then deploy again",
            )

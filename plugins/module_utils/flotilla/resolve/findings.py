"""Problems and notes, gathered while the whole file is looked at, so that a person sees all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..problem import Problem, did_you_mean


@dataclass
class Findings:
    """What one resolution found. `file` and `inventory` are the places that messages name."""

    file: str
    inventory: str
    app: str
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def refuse(self, path: str, what: str, fix: str) -> None:
        """Something in the Compose file that Flotilla does not run. `path` is like `services.web.ports[0]`."""
        self.problems.append(Problem(self.file, path, what, fix))

    def refuse_inventory(self, key: str, what: str, fix: str) -> None:
        """Something that the inventory says about the app. `key` is like `routes[0].service`."""
        self.problems.append(Problem(self.inventory, f"apps[{self.app}].{key}", what, fix))

    def unknown_service(self, key: str, name: str, known: Iterable[str]) -> None:
        """The inventory names a service that the Compose file does not have."""
        names = sorted(known)
        self.refuse_inventory(
            key,
            f"the Compose file has no service `{name}`{did_you_mean(name, names)}",
            f"name one of {', '.join(names) or '(none)'}, or add the service to {self.file}",
        )

    def note(self, path: str, text: str) -> None:
        """Something that was changed or left out, and that a person may want to know."""
        self.notes.append(f"{path}: {text}")

"""Whether the hosts' trails are as others saw them: each entry of a run carries the heads of the other hosts' chains.

Somebody who rewrites the whole chain of one host cannot rewrite what other hosts and the control nodes know of it.
Heads name the host by the text of its public SSH host key, which it tells itself: hosts believe it, so that a host
that was replaced begins anew; the control node does not, and wants to be told by a person. Pure functions, for the
controller, but for `Kept`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .journal import alone, write_atomic


@dataclass(frozen=True)
class Kept:
    """The heads that this control node was told: host → each a list of number, hash, identity."""

    file: Path

    @classmethod
    def of(cls, place: Path) -> Kept:
        """Those of an environment; see `account.directory`."""
        return cls(place / "trail.json")

    def read(self) -> dict[str, list[list[Any]]]:
        """What was kept; nothing where nothing can be read. Earlier versions kept one head a host."""
        try:
            found = json.loads(self.file.read_text())
            lists = {str(host): heads if isinstance(heads[0], list) else [heads] for host, heads in found.items()}
            return {host: [[int(one[0]), str(one[1]), str(one[2])] for one in heads] for host, heads in lists.items()}
        except (OSError, ValueError, TypeError, AttributeError, LookupError):
            return {}

    def add(self, heads: Mapping[str, Sequence[Any]]) -> None:
        """Keep these beside those that are kept: nobody has compared them with the chains."""
        self._write(heads, settled=False)

    def settle(self, heads: Mapping[str, Sequence[Any]]) -> None:
        """Keep these in the place of those that were: the chains were seen to contain them, or a person said so."""
        self._write(heads, settled=True)

    def _write(self, heads: Mapping[str, Sequence[Any]], *, settled: bool) -> None:
        """Several runs from one checkout may end at once."""
        if not heads:
            return
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(self.file.parent):
            found = self.read()
            for host, head in heads.items():
                earlier = [] if settled else found.get(host, [])
                found[host] = [*(one for one in earlier if one != list(head)), list(head)]
            write_atomic(self.file, json.dumps(found, indent=1, sort_keys=True) + "\n", mode=0o600)


def contradictions(
    trails: Mapping[str, Mapping[str, Any]], kept: Mapping[str, Sequence[Sequence[Any]]]
) -> Iterator[tuple[str, str]]:
    """Host and what is wrong with its trail, by what others know of it.

    trails: host → `links` (the hashes of its entries), `seen` (what its entries say of others) and `trail` (its head),
    worked out from its raw file here.  kept: host → heads, of this control node; a host cannot get rid of them by
    saying that it is another.
    """
    told: set[str] = set()
    witnesses = [
        (one["host"], (int(one["number"]), str(one["hash"]), str(one["identity"])), f"{witness} saw at {one['time']}")
        for witness, trail in sorted(trails.items())
        for one in trail.get("seen", ())
    ]
    for host, heads in kept.items():
        if host in trails and any(str(head[2]) != trails[host]["trail"][2] for head in heads):
            told.add(host)
            yield host, "it says that it is another host than this control node knows: its public host key was changed"
        witnesses += [(host, (int(one[0]), str(one[1]), ""), "this control node saw") for one in heads]
    for host, (number, link, identity), who in witnesses:
        links = trails.get(host, {}).get("links")
        if links is None or host in told or identity not in ("", trails[host]["trail"][2]):
            continue
        if number > len(links):
            told.add(host)
            yield host, f"its log has {len(links)} entries, and {who} {number}: entries were taken away"
        elif number > 0 and links[number - 1] != link:
            told.add(host)
            yield host, f"its log was rewritten: entry {number} is not the one that {who}"

"""Renders the Nginx templates as Ansible does, and reads the result as nested blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader, init_plugin_loader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[2]
ROUTERS = {"blue": "172.18.128.0", "green": "172.18.128.1"}


@dataclass
class Block:
    """A block of Nginx configuration; `name` is what stands before its brace, each line is one directive."""

    name: str
    lines: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def find(self, name: str) -> Block:
        """The one block of this name, here or below."""
        found = [block for block in self.walk() if block.name == name]
        assert len(found) == 1, f"{len(found)} blocks {name!r}"
        return found[0]

    def walk(self) -> Iterator[Block]:
        yield self
        for block in self.blocks:
            yield from block.walk()

    def values(self, directive: str) -> list[str]:
        """What stands after each `directive` of this block."""
        return [line.partition(" ")[2] for line in self.lines if line.partition(" ")[0] == directive]


def parse(text: str) -> Block:
    """The blocks of a configuration that opens and closes them at the ends of lines, as our templates do."""
    stack = [Block("")]
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.endswith("{"):
            block = Block(line[:-1].strip())
            stack[-1].blocks.append(block)
            stack.append(block)
        elif line == "}":
            stack.pop()
            assert stack, "one brace too many"
        else:
            stack[-1].lines.append(line.removesuffix(";"))
    assert len(stack) == 1, f"{stack[-1].name!r} is not closed"
    return stack[0]


@cache
def load_filters() -> None:
    """Make the filters of this repository known, once."""
    init_plugin_loader([])
    filter_loader.add_directory(str(ROOT / "plugins" / "filter"))


def render(template: Path, variables: Mapping[str, Any]) -> str:
    """The text that Ansible's template action makes."""
    load_filters()
    templar = Templar(loader=DataLoader(), variables=dict(variables))
    return str(templar.template(trust_as_template(template.read_text())))


def render_router(app: Mapping[str, Any]) -> str:
    return render(ROOT / "roles/app/templates/router.conf.j2", {"app": app})


def render_waf(mode: str) -> str:
    defaults = yaml.safe_load((ROOT / "roles/nginx/defaults/main.yml").read_text())
    types = yaml.safe_load((ROOT / "roles/nginx/vars/main.yml").read_text())["__nginx_waf_types"]
    return render(
        ROOT / "roles/nginx/templates/waf.conf.j2", {**defaults, "__nginx_waf": mode, "__nginx_waf_types": types}
    )


def render_edge(**variables: Any) -> str:
    defaults = yaml.safe_load((ROOT / "roles/nginx/defaults/main.yml").read_text())
    return render(
        ROOT / "roles/nginx/templates/nginx.conf.j2",
        {
            **defaults,
            "__nginx_certificate_directory": "selfsigned",
            "__nginx_tls_groups": "X25519:prime256v1:secp384r1",
            "__nginx_waf": variables.get("nginx_waf", "off"),
            "__nginx_banners": yaml.safe_load((ROOT / "roles/nginx/vars/main.yml").read_text())["__nginx_banners"],
            "__nginx_routers": {"addresses": {app["name"]: ROUTERS for app in variables.get("nginx_apps", [])}},
            **variables,
        },
    )

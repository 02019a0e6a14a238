"""The second Compose file, which joins a stack's service to networks made elsewhere."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from plugins.filter.flotilla_networks import flotilla_networks


def test_each_network_is_external_and_knows_the_service_by_its_alias() -> None:
    assert flotilla_networks(["notes-green", "notes-blue"], "redis") == {
        "services": {
            "redis": {
                "networks": {
                    "default": {},
                    "notes-blue": {"aliases": ["redis"]},
                    "notes-green": {"aliases": ["redis"]},
                }
            }
        },
        "networks": {
            "notes-blue": {"name": "notes-blue", "external": True},
            "notes-green": {"name": "notes-green", "external": True},
        },
    }


def test_without_networks_the_service_keeps_its_own() -> None:
    assert flotilla_networks([], "redis") == {"services": {"redis": {"networks": {"default": {}}}}, "networks": {}}


@pytest.mark.parametrize("name", ["", "a b", "-a", "default", None])
def test_what_is_no_networks_name_is_refused(name: str) -> None:
    with pytest.raises(AnsibleFilterError, match="redis_networks"):
        flotilla_networks([name], "redis")

"""Neither what a developer has set for Ansible in the shell nor how busy the machine is plays a part in the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

# A test that needs fewer examples than the others takes a part of the profile's. `make thorough` asks for the other profile
# (--hypothesis-profile=thorough).
settings.register_profile("check", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile("check")

SETTINGS = ("ANSIBLE_STDOUT_CALLBACK", "ANSIBLE_FORCE_COLOR", "ANSIBLE_DISPLAY_SKIPPED_HOSTS", "ANSIBLE_VERBOSITY")


@pytest.fixture(scope="session", autouse=True)
def own_settings() -> Iterator[None]:
    """No setting of the shell's that changes what Ansible prints."""
    with pytest.MonkeyPatch.context() as patch:
        for name in SETTINGS:
            patch.delenv(name, raising=False)
        yield

#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flotilla_secrets
short_description: Complete or re-encrypt the vault of an environment
description:
  - Runs on the controller, without a connection. No secret is ever returned or displayed.
  - With O(state=complete) every C(vault_*) name that the inventory's files mention and that has no value yet gets a
    random one. Existing values stay.
  - C(vault_pki_authorities) is no random text. When the inventory mentions it and it has no value, it is returned as
    RV(authority), for a playbook that makes one and gives it in O(values).
  - The names in the variable C(environment_given_secrets) are never made up; those still without a value are returned.
  - With O(state=rekeyed) the vault is encrypted with a new password.
  - With O(state=rotated) secrets get new random values. The result holds them and is never shown.
  - A name such as C(vault_notes_database_user) is a login of Postgres, and gets a random name for one.
options:
  state:
    description: What to do.
    type: str
    choices: [complete, rekeyed, rotated]
    default: complete
  directory:
    description: Inventory directory whose C(vault.yml) is written; the last one given with C(-i) when empty.
    type: str
    default: ""
  values:
    description: >-
      Secrets that others hand out, such as a registry's password. They replace what is there. Each is a text, or lists
      and dictionaries of texts.
    type: dict
    default: {}
  names:
    description: What O(state=rotated) gives new values; when empty, all that O(logins) use.
    type: list
    elements: str
    default: []
  logins:
    description:
      - Who logs in to the data services, each with C(login) and C(password), and C(database) for those of Postgres. One
        whose password would change and whose name would not is refused, as a login has one password at a time.
    type: list
    elements: dict
    default: []
  apps:
    description: >-
      The inventory's C(apps). One with a secret in its environment is refused, as a restart would not change it.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    support: full
    description: Can run in check mode.
  diff_mode:
    support: none
    description: Will return details on what has changed.
author:
  - Flotilla contributors (@flotilla)
"""

EXAMPLES = r"""
- name: Complete the secrets
  flotilla_secrets:
    state: complete
"""

RETURN = r"""
file:
  description: The vault.
  returned: always
  type: str
password_file:
  description: The file that holds the vault's password.
  returned: always
  type: str
password_created:
  description: Whether the password is new.
  returned: always
  type: bool
names:
  description: Names of the secrets that were set.
  returned: O(state=complete) and O(state=rotated)
  type: list
  elements: str
current:
  description: Name to the value that a secret has now.
  returned: O(state=rotated)
  type: dict
ungiven:
  description: Names of secrets that others hand out and that were not given yet.
  returned: O(state=complete)
  type: list
  elements: str
authority:
  description: The name C(vault_pki_authorities) when it is to have a value and has none, else empty.
  returned: O(state=complete)
  type: str
"""

"""An environment's vault: where it and its password are, how it is opened, written and given a new password.

For the controller only. The format is Ansible's own, so that `ansible-vault` opens the same files.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret, get_file_vault_secret
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

VAULT = "vault.yml"
BESIDE = ".vault-password"
SECRET_LENGTH = 32
LOGIN_LENGTH = 10
# Not random text: a list of {certificate, key}, which the role pki makes.
AUTHORITIES = "vault_pki_authorities"
# Nor these: private keys.
KEYS = frozenset({"vault_acme_account_key", "vault_acme_certificate_key"})
# What backups are encrypted with: another one would not open those that are there.
BACKUP_KEYS = frozenset({"vault_backup_key", "vault_backup_volumes_key"})
# Names whose value is a login of Postgres, and no password.
LOGIN = re.compile(r"vault_[a-z0-9_]+_user")
REFERENCE = re.compile(r"\bvault_[a-z0-9_]+\b")


class VaultError(Exception):
    """A vault that cannot be used; the message names the file and the next command."""


@dataclass(frozen=True)
class Vault:
    """The vault of one inventory directory. `password` is the file that holds, or will hold, its password."""

    directory: Path
    password: Path

    @property
    def file(self) -> Path:
        return self.directory / VAULT

    @property
    def environment(self) -> str:
        """Name of the environment, and the vault id's label."""
        return self.directory.name

    @property
    def next_password(self) -> Path:
        """Holds the new password while a rotation is under way."""
        return self.password.with_name(self.password.name + ".new")


def password_variable(environment: str) -> str:
    """The process environment's variable that names a password file elsewhere."""
    return "FLOTILLA_VAULT_PASSWORD_FILE_" + re.sub(r"\W", "_", environment).upper()


def locate(directory: Path, root: Path, environ: Mapping[str, str]) -> Vault:
    """The vault of an inventory directory of the project at `root`.

    The password is beside the vault in a directory below .lab or where one stands there already; else in
    the file that the environment names; else in .vault/ of the project.
    """
    directory = directory.absolute()
    environment = directory.name
    beside = directory / BESIDE
    if beside.exists() or root / ".lab" in directory.parents:
        return Vault(directory, beside)
    named = environ.get(password_variable(environment))
    return Vault(directory, Path(named).absolute() if named else root / ".vault" / f"{environment}.password")


def relative(path: Path, root: Path) -> str:
    """A path as a user types it at the root of the project."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def check_password(vault: Vault, root: Path) -> None:
    """Refuse a password that is absent, or that others on this machine can read. Scripts may be readable."""
    shown = relative(vault.password, root)
    try:
        mode = vault.password.stat().st_mode
    except OSError as error:
        file = relative(vault.file, root)
        raise VaultError(
            f"{file}: its password is not at {shown} ({error.strerror}). Next: "
            f"install -D -m 600 <the copy you kept> {shown}, or name the copy in "
            f"{password_variable(vault.environment)}. If it is lost: "
            f"rm {file} && {secrets_command(vault, root)} makes new secrets"
        ) from None
    if mode & 0o077 and not mode & 0o100:
        raise VaultError(f"{shown}: others can read the vault password. Next: chmod 600 {shown}")


def undecryptable(vault: Vault, root: Path) -> VaultError:
    """What to say when the password is not the vault's."""
    file, password = relative(vault.file, root), relative(vault.password, root)
    return VaultError(
        f"{file}: the password in {password} does not open it. Next: put the right one there, then try "
        f"ansible-vault view --vault-id {vault.environment}@{password} {file}"
    )


def passwords(vault: Vault) -> list[VaultSecret]:
    """What may open the vault: its password and, when a rotation was cut short, the new one."""
    found = []
    for path in (vault.password, vault.next_password):
        if path == vault.password or path.exists():
            secret = get_file_vault_secret(filename=str(path), vault_id=vault.environment, loader=DataLoader())
            secret.load()
            found.append(secret)
    return found


def open_vault(vault: Vault, root: Path) -> tuple[dict[str, Any], VaultSecret]:
    """The secrets of a vault by name, and the password that opened it. Raises VaultError, which holds no value."""
    check_password(vault, root)
    for password in passwords(vault):
        try:
            text = VaultLib([(vault.environment, password)]).decrypt(vault.file.read_bytes())
            values = yaml.safe_load(text) or {}
        except (AnsibleError, yaml.YAMLError):
            continue
        if isinstance(values, dict):
            return values, password
    raise undecryptable(vault, root)


def opens(vault: Vault, path: Path) -> bool:
    """Whether the password in this file opens the vault."""
    return opens_with(vault, VaultSecret(path.read_bytes().strip()))


def opens_with(vault: Vault, password: VaultSecret) -> bool:
    """Whether this password opens the vault."""
    try:
        VaultLib([(vault.environment, password)]).decrypt(vault.file.read_bytes())
    except AnsibleError:
        return False
    return True


def vault_id(vault: Vault) -> str:
    """The id that the vault was encrypted under: the label in its first line, which a format before 1.2 has not."""
    header = vault.file.read_text().partition("\n")[0].split(";")
    return header[3].strip() if len(header) > 3 else vault.environment


def write_vault(vault: Vault, values: Mapping[str, Any], password: VaultSecret) -> None:
    """Encrypt the secrets under the environment's vault id and replace its vault in one step."""
    text = yaml.safe_dump(dict(values), default_flow_style=False, sort_keys=True)
    write_private(vault.file, VaultLib().encrypt(text, secret=password, vault_id=vault.environment))


def write_password(path: Path) -> VaultSecret:
    """Make a new password and put it on disk."""
    password = new_secret().encode()
    write_private(path, password + b"\n")
    return VaultSecret(password)


def rekey(vault: Vault, values: Mapping[str, Any]) -> None:
    """Encrypt with a new password so that, wherever this stops, a password on disk opens the vault on disk.

    The new password is on disk before the vault that needs it, and takes the old one's place after it. When the
    last rotation stopped between the two, the first step is to finish it.
    """
    if vault.next_password.exists() and not opens(vault, vault.password):
        vault.next_password.replace(vault.password)
    write_vault(vault, values, write_password(vault.next_password))
    vault.next_password.replace(vault.password)


def secrets_command(vault: Vault, root: Path) -> str:
    """The command that completes the secrets of an environment."""
    return f"ansible-playbook playbooks/secrets.yml -i {relative(vault.directory, root)}"


def strip_comments(text: str) -> str:
    """YAML without its comments, so that a commented-out example asks for nothing."""
    return re.sub(r"(^|\s)#.*$", r"\1", text, flags=re.MULTILINE)


def variable_files(directory: Path) -> list[Path]:
    """The files of an inventory directory that hold variables, its vault aside."""
    if not directory.is_dir():
        return []
    found = [path for path in directory.iterdir() if path.is_file() and path.name != VAULT]
    for part in ("group_vars", "host_vars"):
        found += (directory / part).rglob("*")
    return sorted(path for path in found if path.suffix in (".yml", ".yaml", ".json") and path.is_file())


def references(texts: Iterable[str]) -> set[str]:
    """The names of all secrets that inventory texts mention."""
    return {name for text in texts for name in REFERENCE.findall(strip_comments(text))}


def new_value(name: str) -> str:
    """A random value that fits its name: a private key, a login of Postgres for `vault_…_user`, or a password."""
    if name in KEYS:
        return new_key()
    return new_login() if LOGIN.fullmatch(name) else new_secret()


def new_login() -> str:
    """`login_` and 10 small letters and digits: an identifier that needs no quotes, new at each rotation."""
    return "login_" + "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(LOGIN_LENGTH))


def new_secret() -> str:
    """32 letters and digits (190 bits): safe in a URL, a shell, an env file, and for Postgres and Redis."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(secrets.choice(alphabet) for _ in range(SECRET_LENGTH))


def new_key() -> str:
    """A private key of the curve P-256, PKCS #8 in PEM."""
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(*pem).decode()


def plain_value(value: Any) -> Any:
    """A secret as YAML can write it: text, or lists and dictionaries of text, without what Ansible adds to strings."""
    if isinstance(value, Mapping):
        return {str(name): plain_value(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    return str(value)


def texts_of(value: Any) -> Iterator[str]:
    """All texts in a secret that are not empty, however deep."""
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else None
    if items is not None:
        for item in items:
            yield from texts_of(item)
    elif value:
        yield str(value)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all, and on disk when this returns."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

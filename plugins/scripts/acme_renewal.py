#!/usr/bin/python3
# MIT License, see LICENSE at the root of the project.
"""Keeps the public certificate of this host's edge: `flotilla-acme renew` and `flotilla-acme status`.

The role acme installs it and a timer runs it. lego speaks with the ACME server; this decides when, checks what came
back, and swaps it in. What serves is replaced by a certificate that fits, or not at all. Needs nothing but openssl.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The role installs it there, beside this.
sys.path.append("/usr/local/lib/flotilla")

from flotilla.contained import opened
from flotilla.terminal import visible

DIRECTORY = Path("/opt/flotilla/acme")
CURRENT = "current"
DAY = 86_400
# A certificate is renewed when so much of its lifetime is left, as Let's Encrypt asks (30 of 90 days).
RENEW_SHARE = 1 / 3
# A host after the first waits this much longer for the certificate of those before it (3 of 90 days).
STEP_SHARE = 1 / 30
# One attempt of lego; all attempts that are made because the server rejects nonces.
ATTEMPT_SECONDS = 600
NONCE_SECONDS = 1800
PEER_SECONDS = 5
AT_A_TIME = 4
BAD_NONCE = "urn:ietf:params:acme:error:badNonce"
NO_ACCOUNT = "urn:ietf:params:acme:error:accountDoesNotExist"
PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)


class AcmeError(Exception):
    """Why there is no new certificate, for a person. What served before serves on."""


@dataclass(frozen=True)
class Settings:
    """What the role wrote. `peers` serve the same names with the same key; `rank` is this host's place among them."""

    email: str
    server: str
    challenge: str
    names: tuple[str, ...]
    provider: str
    resolvers: tuple[str, ...]
    propagation: bool
    certificates: Path
    owner: int
    peers: tuple[str, ...]
    rank: int
    warn_days: float
    socket: str

    @classmethod
    def read(cls, path: Path) -> Settings:
        values: dict[str, Any] = json.loads(path.read_text())
        lists = {name: tuple(values[name]) for name in ("names", "resolvers", "peers")}
        return cls(**{**values, **lists, "certificates": Path(values["certificates"])})


@dataclass(frozen=True)
class Certificate:
    """The first certificate of a chain. Times are seconds since 1970; `key` is its public key in PEM."""

    names: frozenset[str]
    begins: float
    ends: float
    key: str
    fingerprint: str

    @property
    def lifetime(self) -> float:
        return self.ends - self.begins


def openssl(*arguments: str, given: str = "") -> str:
    """What openssl answers. Raises AcmeError."""
    done = subprocess.run(["openssl", *arguments], input=given, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise AcmeError(
            f"openssl {arguments[0]}: {done.stderr.strip().splitlines()[0] if done.stderr.strip() else '?'}"
        )
    return done.stdout


def read_certificate(pem: str) -> Certificate:
    """The first certificate of a PEM text. Raises AcmeError."""
    asked = ("-noout", "-startdate", "-enddate", "-fingerprint", "-sha256", "-ext", "subjectAltName", "-pubkey")
    return parse_certificate(openssl("x509", *asked, given=pem))


def parse_certificate(text: str) -> Certificate:
    """What `openssl x509` prints of a certificate. Raises AcmeError for anything else."""
    begins = re.search(r"^notBefore=(.+)$", text, re.MULTILINE)
    ends = re.search(r"^notAfter=(.+)$", text, re.MULTILINE)
    fingerprint = re.search(r"Fingerprint=([0-9A-F:]+)$", text, re.MULTILINE)
    key = re.search(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", text, re.DOTALL)
    if not (begins and ends and fingerprint and key):
        raise AcmeError("openssl says nothing of a certificate")
    names = frozenset(name.lower() for name in re.findall(r"DNS:([^,\s]+)", text))
    try:
        times = [ssl.cert_time_to_seconds(one[1].strip()) for one in (begins, ends)]
    except ValueError as error:
        raise AcmeError(f"openssl gives a time that cannot be read: {error}") from None
    return Certificate(names, times[0], times[1], key[0], fingerprint[1].replace(":", "").lower())


def due(
    served: Certificate | None, names: Sequence[str], key: str, from_server: str, server: str, rank: int, now: float
) -> str:
    """Why a new certificate is due; empty when it is not.

    served: what the edge has from an ACME server, if anything.  from_server: where that came from.
    """
    if served is None:
        return "there is none yet"
    if served.names != frozenset(names):
        return "the names have changed"
    if served.key != key:
        return "the key has changed"
    if from_server != server:
        return "the ACME server has changed"
    share = RENEW_SHARE - min(rank * STEP_SHARE, RENEW_SHARE / 2)
    if served.ends - now < served.lifetime * share:
        return "it ends soon"
    return ""


def refusal(found: Certificate, names: Sequence[str], key: str, now: float) -> str:
    """Why a certificate may not be put into use; empty when it may."""
    if found.key != key:
        return "it is for another key"
    if found.names != frozenset(names):
        return f"it is for {', '.join(sorted(found.names)) or 'no name'}"
    if found.ends <= now:
        return "it has ended"
    return ""


def limit_days(certificate: Certificate, warn_days: float) -> float:
    """Days left below which status complains. A certificate for a few days has a limit of a quarter of them."""
    return min(warn_days, certificate.lifetime / DAY / 4)


def last_words(output: str) -> str:
    """What lego says last, without the time it begins its lines with, as one line of a few hundred letters."""
    lines = [re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", "", line).strip() for line in output.splitlines()]
    kept = [line for line in lines if line and not line.startswith("[INFO]")]
    start = next((index for index, line in enumerate(kept) if "Could not" in line or "error:" in line[:8]), -1)
    return " ".join(kept[start:])[:600] or "lego said nothing"


def lego_command(settings: Settings, path: Path, request: Path, webroot: Path) -> list[str]:
    """The command line of one attempt. Nothing in it is secret."""
    command = ["lego", "--accept-tos", "--server", settings.server, "--email", settings.email]
    command += ["--path", str(path), "--csr", str(request)]
    if settings.challenge == "dns":
        command += ["--dns", settings.provider]
        command += [] if settings.propagation else ["--dns.disable-cp"]
        for resolver in settings.resolvers:
            command += ["--dns.resolvers", resolver]
    else:
        # The edge answers each challenge by itself (the account's thumbprint): what lego writes here nobody reads.
        command += ["--http", "--http.webroot", str(webroot)]
    return [*command, "run"]


def write(path: Path, text: str, mode: int = 0o600, owner: int = 0) -> None:
    """Write a file whole or not at all."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(mode)
        if os.geteuid() == 0:
            os.chown(name, owner, 0)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def finish(attempt: subprocess.Popen[str]) -> str:
    """What lego has said when it failed; nothing when it succeeded. Its log goes to the journal."""
    try:
        output = attempt.communicate(timeout=ATTEMPT_SECONDS)[0].strip()
    except subprocess.TimeoutExpired:
        attempt.kill()
        attempt.communicate()
        return f"lego was not done after {ATTEMPT_SECONDS} seconds"
    print(visible(output, lines=True), flush=True)
    return (output or "lego said nothing") if attempt.returncode else ""


def crowd(attempt: Callable[[Path], subprocess.Popen[str]], lego: Path, work: Path) -> str:
    """Try against a server that rejects most nonces, until one succeeds. Returns what `finish` does.

    lego waits longer and longer between the tries of one request and gives up after 20 seconds. What an attempt has
    reached (the account, an authorization) the server keeps, so several at a time come through.
    """
    end = time.monotonic() + NONCE_SECONDS
    running: list[subprocess.Popen[str]] = []
    won = threading.Event()

    def one(path: Path) -> str:
        shutil.copytree(lego, path)
        output = BAD_NONCE
        while BAD_NONCE in output and not won.is_set() and time.monotonic() < end:
            process = attempt(path)
            running.append(process)
            output = finish(process)
        if not output and not won.is_set():
            won.set()
            shutil.rmtree(lego)
            shutil.copytree(path, lego)
            for other in running:
                other.terminate()
        return output

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        outputs = list(pool.map(one, [work / str(number) for number in range(AT_A_TIME)]))
    return "" if won.is_set() else outputs[0]


class Keeper:
    """The certificate of this host."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self.directory = directory
        self.settings = Settings.read(directory / "settings.json")
        self.place = self.settings.certificates

    # -- what there is ----------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.directory / "state.json").read_text())
        except (OSError, ValueError):
            return {}
        return found

    def served(self) -> Certificate | None:
        """What the edge has from an ACME server; nothing while its own, self-signed one serves."""
        try:
            if (self.place / CURRENT).readlink().parent != Path():
                return None
            return read_certificate((self.place / CURRENT / "tls.crt").read_text())
        except (OSError, AcmeError):
            return None

    def key(self) -> str:
        """The public key that certificates are to be for. A host that was given none makes one, once."""
        path = self.directory / "certificate.key"
        if not path.exists():
            write(path, openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"))
        return openssl("pkey", "-pubout", "-in", str(path)).strip()

    def why(self, now: float) -> str:
        """Why a certificate is due."""
        settings = self.settings
        origin = str(self.state().get("server", ""))
        return due(self.served(), settings.names, self.key(), origin, settings.server, settings.rank, now)

    def status(self) -> dict[str, Any]:
        """What there is to tell, for the role and for playbooks/status.yml."""
        served, state, now = self.served(), self.state(), time.time()
        return {
            "names": list(self.settings.names),
            "issued": served is not None,
            "days_left": round((served.ends - now) / DAY, 2) if served else None,
            "limit_days": round(limit_days(served, self.settings.warn_days), 2) if served else None,
            "due": self.why(now),
            "error": state.get("error", ""),
            "tried": state.get("tried", ""),
        }

    # -- a new one --------------------------------------------------------------------------------

    def renew(self) -> bool:
        """Have a certificate that is not due, and have the edge serve it. True when it is new. Raises AcmeError."""
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tried = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            try:
                changed = self._adopt()
                if self.why(time.time()):
                    self._use(self._obtain())
                    changed = True
                self._tell_balancer()
            except (AcmeError, OSError, subprocess.SubprocessError) as problem:
                self._note(tried=tried, error=str(problem))
                raise AcmeError(str(problem)) from problem
            self._note(tried=tried, error="")
            return changed

    def _note(self, **news: str) -> None:
        write(self.directory / "state.json", json.dumps({**self.state(), **news}) + "\n")

    def _adopt(self) -> bool:
        """Take what a peer serves when it fits and ends later than ours. True when something was taken.

        A peer needs no trust: whoever serves a certificate for our key has that key.
        """
        names, key = self.settings.names, self.key()
        taken = False
        for peer in self.settings.peers:
            chain = served_by(peer, names)
            if not chain:
                continue
            found, served = read_certificate(chain), self.served()
            if refusal(found, names, key, time.time()):
                continue
            if served is None or refusal(served, names, key, time.time()) or found.ends > served.ends:
                self._use(chain)
                taken = True
        return taken

    def _use(self, chain: str) -> None:
        """Put a certificate in the place of the one in use, in one step; keep the one before it. Raises AcmeError."""
        found = read_certificate(chain)
        if why := refusal(found, self.settings.names, self.key(), time.time()):
            raise AcmeError(f"the ACME server's certificate is of no use: {why}")
        version = self.place / found.fingerprint[:16]
        version.mkdir(exist_ok=True)
        # Whatever the umask: the edge has a user of its own.
        version.chmod(0o755)
        write(version / "tls.key", (self.directory / "certificate.key").read_text(), 0o400, self.settings.owner)
        write(version / "tls.crt", chain, 0o400, self.settings.owner)
        before = (self.place / CURRENT).readlink() if (self.place / CURRENT).is_symlink() else Path()
        link = self.place / f".{CURRENT}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(version.name)
        link.replace(self.place / CURRENT)
        self._note(server=self.settings.server)
        for old in self.place.iterdir():
            if old.is_dir() and not old.is_symlink() and old.name not in (version.name, before.name):
                shutil.rmtree(old)

    def _obtain(self) -> str:
        """A chain from the ACME server. Raises AcmeError."""
        settings, lego = self.settings, self.directory / "lego"
        account = self._account(lego)
        shutil.rmtree(lego / "certificates", ignore_errors=True)
        with tempfile.TemporaryDirectory() as work:
            request, webroot = Path(work) / "request.pem", Path(work) / "webroot"
            webroot.mkdir()
            alternatives = ",".join(f"DNS:{name}" for name in settings.names)
            asked = ("-subj", "/", "-addext", f"subjectAltName={alternatives}", "-out", str(request))
            openssl("req", "-new", "-key", str(self.directory / "certificate.key"), *asked)

            def attempt(path: Path) -> subprocess.Popen[str]:
                return self._start(lego_command(settings, path, request, webroot))

            output = finish(attempt(lego))
            if NO_ACCOUNT in output and account.exists():
                # The server has forgotten us, or is another one at the same address.
                account.unlink()
                output = finish(attempt(lego))
            if BAD_NONCE in output:
                output = crowd(attempt, lego, Path(work))
        if output:
            raise AcmeError(last_words(output))
        found = [path for path in (lego / "certificates").glob("*.crt") if not path.name.endswith(".issuer.crt")]
        if len(found) != 1:
            raise AcmeError(f"lego left {len(found)} certificates in {lego}/certificates")
        return found[0].read_text()

    def _start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """lego, with the credentials in its environment."""
        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(self.directory)}
        if (self.directory / "authority.crt").exists():
            environment["LEGO_CA_CERTIFICATES"] = str(self.directory / "authority.crt")
        environment |= json.loads((self.directory / "credentials.json").read_text())
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _account(self, lego: Path) -> Path:
        """Give lego the account's key, in the form that it reads. Returns where it notes that it is registered."""
        settings = self.settings
        host = settings.server.split("//", 1)[-1].split("/", 1)[0].replace(":", "_")
        place = lego / "accounts" / host / settings.email
        (place / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
        key = openssl("pkey", "-traditional", "-in", str(self.directory / "account.key"))
        path, registered = place / "keys" / f"{settings.email}.key", place / "account.json"
        if not path.exists() or path.read_text() != key:
            registered.unlink(missing_ok=True)
            write(path, key)
        return registered

    # -- HAProxy keeps certificates in its memory -------------------------------------------------

    def _tell_balancer(self) -> None:
        """Have HAProxy serve what is on disk, without a reload. Nothing for an edge that reads it by itself."""
        current = self.place / CURRENT
        if not self.settings.socket or not Path(self.settings.socket).exists() or not (current / "tls.crt").exists():
            return
        name = "/etc/flotilla/certs/acme/current/tls.crt"
        chain = (current / "tls.crt").read_text()
        serial = openssl("x509", "-noout", "-serial", given=chain).strip().removeprefix("serial=")
        shown = re.search(r"^Serial: *([0-9A-F]+)$", self._ask(f"show ssl cert {name}"), re.MULTILINE)
        if shown and shown[1].lstrip("0") == serial.lstrip("0"):
            return
        # An empty line ends what is given.
        text = "\n".join(line for line in (chain + (current / "tls.key").read_text()).splitlines() if line.strip())
        for command in (f"set ssl cert {name} <<\n{text}\n", f"commit ssl cert {name}"):
            answer = self._ask(command)
            if "Transaction" not in answer and "Success" not in answer:
                raise AcmeError(f"HAProxy does not take the certificate: {' '.join(answer.split())[:300]}")

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            path = Path(self.settings.socket)
            # The directory is the balancer's.
            with opened(path.parent, below=path.parent) as place, place.socket(path.name) as known:
                connection.connect(known)
            connection.sendall(command.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode(errors="replace")


def served_by(peer: str, names: Sequence[str]) -> str:
    """The chain that `address:port` serves for our names, in PEM; empty when it cannot be asked."""
    asked = names[0].replace("*", "flotilla")
    command = ["openssl", "s_client", "-connect", peer, "-servername", asked, "-showcerts"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PEER_SECONDS)
    except subprocess.TimeoutExpired:
        return ""
    return "".join(PEM.findall(done.stdout)) if done.returncode == 0 else ""


def main(arguments: Sequence[str]) -> int:
    """The exit status: 1 when there should be a new certificate and is none."""
    if list(arguments) not in (["renew"], ["status"]):
        print("usage: flotilla-acme renew|status", file=sys.stderr)
        return 2
    try:
        keeper = Keeper()
        if arguments[0] == "status":
            print(json.dumps(keeper.status()))
        else:
            print("a new certificate serves" if keeper.renew() else "nothing is due")
    except (AcmeError, OSError, ValueError) as problem:
        print(visible(f"flotilla-acme: {problem}. What serves is as it was.", lines=True), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

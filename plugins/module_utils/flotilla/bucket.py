"""Whether what hosts send to object storage can be deleted by them, as far as S3's API tells. For the controller.

It asks as the host would, with the host's own key, and not on the host: who may be broken into does not testify.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import re
import ssl
import urllib.parse
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from .backups import HOW_TO

SECONDS = 15
# Never written: nothing is lost where it may be deleted.
PROBE = "flotilla-probe"
NOTHING = hashlib.sha256(b"").hexdigest()
# What `looked` is.
Look = Callable[[Mapping[str, Any], str, int], tuple[str, list[str]]]
NEXT = f"see {HOW_TO}#object-storage"


def signed(
    s3: Mapping[str, Any], method: str, host: str, path: str, query: Mapping[str, str], now: datetime
) -> dict[str, str]:
    """The headers of a request without a body: AWS' Signature Version 4. s3: `key`, `secret`, `region`."""
    day, moment = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": NOTHING, "x-amz-date": moment}
    names = ";".join(headers)
    written = "".join(f"{name}:{value}\n" for name, value in headers.items())
    asked = "\n".join((method, path, encoded(query), written, names, NOTHING))
    scope = f"{day}/{s3['region']}/s3/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(asked.encode()).hexdigest()))
    key = f"AWS4{s3['secret']}".encode()
    for part in (day, str(s3["region"]), "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={s3['key']}/{scope}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
    return headers


def encoded(query: Mapping[str, str]) -> str:
    """A query as it is signed, and sent."""
    return "&".join(f"{name}={urllib.parse.quote(value, safe='-_.~')}" for name, value in sorted(query.items()))


def ask(s3: Mapping[str, Any], method: str, name: str, query: Mapping[str, str]) -> tuple[int, str]:
    """Status and body of one request. name: of an object, or empty for the bucket. Raises OSError, HTTPException."""
    endpoint, bucket = str(s3["endpoint"]), str(s3["bucket"])
    path = urllib.parse.quote(f"/{bucket}/{name}" if s3.get("uri_style") == "path" else f"/{name}")
    host = endpoint if s3.get("uri_style") == "path" else f"{bucket}.{endpoint}"
    context = ssl.create_default_context(cadata=s3.get("authority") or None)
    connection = http.client.HTTPSConnection(host, timeout=SECONDS, context=context)
    try:
        headers = signed(s3, method, host, path, query, datetime.now(UTC))
        connection.request(method, f"{path}?{encoded(query)}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(1 << 20).decode(errors="replace")
    finally:
        connection.close()


def judge(
    versioning: tuple[int, str], lock: tuple[int, str], deletion: tuple[int, str], retention_days: int
) -> tuple[str, list[str]]:
    """A line about a bucket, and why what is in it does not survive its writer; nothing where it does.

    Each is the status and the body of what S3 answered: to ?versioning, to ?object-lock, to a delete of a version.
    """
    wrong = []
    if not (versioning[0] == 200 and "<Status>Enabled</Status>" in versioning[1]):
        wrong.append(f"it does not say that it keeps versions ({versioning[0]})")
    mode = re.search(r"<Mode>(\w+)</Mode>", lock[1]) if lock[0] == 200 else None
    span = re.search(r"<(Days|Years)>(\d+)</", lock[1]) if mode else None
    days = int(span[2]) * (365 if span[1] == "Years" else 1) if span else 0
    if days < retention_days:
        had = f"it locks objects for {days} days" if days else f"it does not say that it locks objects ({lock[0]})"
        wrong.append(f"{had}, and backups are kept for {retention_days}")
    if deletion[0] != 403:
        wrong.append(f"the host's key may remove versions (a delete was answered with {deletion[0]})")
    return f"{mode[1].lower() if mode else 'no lock'}, {days} days", wrong


def looked(s3: Mapping[str, Any], prefix: str, retention_days: int) -> tuple[str, list[str]]:
    """What `judge` says of a host's bucket now."""
    try:
        return judge(
            ask(s3, "GET", "", {"versioning": ""}),
            ask(s3, "GET", "", {"object-lock": ""}),
            ask(s3, "DELETE", f"{prefix}/{PROBE}", {"versionId": "null"}),
            retention_days,
        )
    except (OSError, http.client.HTTPException) as error:
        return "not reached", [f"it cannot be asked from here: {error}"]


def report(
    buckets: Mapping[str, tuple[Mapping[str, Any], str, int]], elsewhere: bool, look: Look = looked
) -> dict[str, list[str]]:
    """`lines` and `problems` of what hosts send to object storage. buckets: host → its `backup_s3`, prefix, days.

    elsewhere: other copies survive a host's writer, so that a bucket that does not protect its own is no problem.
    """
    lines, problems = [], []
    for host, (s3, prefix, days) in sorted(buckets.items()):
        line, wrong = look(s3, prefix, days)
        lines.append(f"  {host}  bucket {s3['bucket']}, {prefix}/: {line}{'; ' if wrong else ''}{'; '.join(wrong)}")
        if wrong and not elsewhere:
            what = f"what is in the bucket {s3['bucket']} may not survive a break-in on the host"
            problems.append(f"{host}: {what}: {'; '.join(wrong)}. Next: {NEXT}")
    return {"lines": ["buckets", *lines] if lines else [], "problems": problems}

"""Filters for what the edge and the balancer say of TLS."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# Mozilla's intermediate profile 6.0: https://ssl-config.mozilla.org/guidelines/6.0.json
HYBRID = "X25519MLKEM768"
CURVES = ("X25519", "prime256v1", "secp384r1")
# The first OpenSSL that has the hybrid; an older one refuses a list with a name that it does not know.
HYBRID_SINCE = (3, 5)
# `nginx -V` says "built with OpenSSL 3.0.15 3 Sep 2024", and "running with OpenSSL …" where that is another one;
# `haproxy -vv` says "Running on OpenSSL version : OpenSSL 3.5.7 9 Jun 2026". The last one said is the one in use.
OPENSSL = re.compile(r"OpenSSL (\d+)\.(\d+)\.\d+")


def flotilla_tls_groups(version_report: str) -> str:
    """The groups for key agreement, as `ssl_ecdh_curve` and `ssl-default-bind-curves` take them.

    version_report: what `nginx -V` or `haproxy -vv` prints. Without an OpenSSL in it, what every library has.
    """
    found = OPENSSL.findall(version_report)
    hybrid = bool(found) and (int(found[-1][0]), int(found[-1][1])) >= HYBRID_SINCE
    return ":".join((HYBRID, *CURVES) if hybrid else CURVES)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"flotilla_tls_groups": flotilla_tls_groups}

"""plugins/filter/flotilla_tls.py: which key agreements an image can do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.filter.flotilla_tls import flotilla_tls_groups

PLAIN = "X25519:prime256v1:secp384r1"
NGINX = "nginx version: nginx/1.26.3\nbuilt with {}\nTLS SNI support enabled\n"
HAPROXY = "Built with OpenSSL version : {}\nRunning on OpenSSL version : {}\nOpenSSL library supports SNI : yes\n"


@pytest.mark.parametrize(
    ("report", "hybrid"),
    [
        (NGINX.format("OpenSSL 3.5.7 9 Jun 2026"), True),
        (NGINX.format("OpenSSL 3.0.15 3 Sep 2024"), False),
        (NGINX.format("OpenSSL 3.10.0 1 Jan 2027"), True),
        (NGINX.format("OpenSSL 3.0.15 3 Sep 2024 (running with OpenSSL 3.5.1 1 Jul 2025)"), True),
        (NGINX.format("OpenSSL 4.0.0 1 Apr 2026"), True),
        (NGINX.format("LibreSSL 3.9.2"), False),
        (HAPROXY.format("OpenSSL 3.5.1 1 Jul 2025", "OpenSSL 3.0.15 3 Sep 2024"), False),
        (HAPROXY.format("OpenSSL 3.0.15 3 Sep 2024", "OpenSSL 3.5.1 1 Jul 2025"), True),
        ("", False),
    ],
)
def test_the_hybrid_is_named_where_openssl_has_it(report: str, hybrid: bool) -> None:
    assert flotilla_tls_groups(report) == ("X25519MLKEM768:" + PLAIN if hybrid else PLAIN)


@given(st.text())
def test_whatever_a_program_says_the_list_is_one_of_two(report: str) -> None:
    assert flotilla_tls_groups(report) in (PLAIN, "X25519MLKEM768:" + PLAIN)

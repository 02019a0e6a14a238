#!/usr/bin/env python3
"""Fetch the version that a lab serves over HTTPS, and print where it is: the last line of the demo."""

from __future__ import annotations

import argparse
import json
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path


def fetch_version(url: str, ca_certificate: str, path: str) -> tuple[str, str]:
    """Return the name and the version that the app at a URL gives of itself.

    Raises:
        OSError: nobody answers, the certificate is not the lab's, or the answer is an error.
        ValueError: the answer names no app or no version.
    """
    context = ssl.create_default_context(cafile=ca_certificate)
    with urllib.request.urlopen(url.rstrip("/") + path, timeout=10, context=context) as answer:
        version = json.load(answer)
    try:
        return str(version["app"]), str(version["version"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} answered {version!r}, without an app and a version") from error


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lab", type=Path, help="the lab's directory, such as .lab/flotilla")
    parser.add_argument("--path", default="/api/version", help="where the app tells its version")
    options = parser.parse_args()
    try:
        lab = json.loads((options.lab / "lab.json").read_text())
    except FileNotFoundError:
        print(f"There is no lab in {options.lab}: run make lab-up.", file=sys.stderr)
        return 1
    url = f"https://127.0.0.1:{lab['https_port']}/"
    try:
        name, version = fetch_version(url, lab["ca_certificate"], options.path)
    except (OSError, ValueError) as error:
        print(f"{url} does not serve the app: {error}", file=sys.stderr)
        return 1
    print(f"curl --cacert {lab['ca_certificate']} {url}")
    print(f"Flotilla demo: {url} serves {name} {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

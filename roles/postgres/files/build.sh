#!/bin/sh
# build.sh <base image> <directory> [look]: prints the tag of flotilla/postgres, made of the base image and pgBackRest. Says `built`
# on standard error when it was not there yet. With `look` nothing is pulled or built, and no tag is printed where that would be needed.
set -eu
base=$1 directory=$2
if ! docker image inspect "$base" > /dev/null 2>&1; then
    [ "${3:-}" != look ] || exit 0
    docker pull --quiet "$base" >&2
fi
[ "${3:-}" != look ] || [ -e "$directory/archive.sh" ] || exit 0
id=$(docker image inspect --format '{{.Id}}' "$base")
tag=$({ echo "$id"; cat "$directory/Dockerfile" "$directory/archive.sh"; } | sha256sum | cut -c1-16)
if ! docker image inspect "flotilla/postgres:$tag" > /dev/null 2>&1; then
    [ "${3:-}" != look ] || exit 0
    # Prints: Using proxy '<url or nothing>' for URL '…'
    proxy=$(/usr/lib/apt/apt-helper auto-detect-proxy http://deb.debian.org/ 2> /dev/null | sed -n "s/^Using proxy '\(http[^']*\)'.*/\1/p")
    docker build --network host --build-arg "POSTGRES_IMAGE=$base" ${proxy:+--build-arg "http_proxy=$proxy"} \
        --tag "flotilla/postgres:$tag" "$directory" >&2
    echo built >&2
fi
echo "$tag"

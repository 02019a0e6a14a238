#!/bin/sh
# build.sh <base image> <directory> <name> [look|fresh]: prints the tag of flotilla/<name>, made of the base image and the directory's files.
# Says `built` on standard error when it was not there yet. With `look` nothing is pulled or built, and no tag is printed where that
# would be needed. With `fresh` it is built again all the same, with the packages of now.
set -eu
export LC_ALL=C
base=$1 directory=$2 name=$3
if ! docker image inspect "$base" > /dev/null 2>&1; then
    [ "${4:-}" != look ] || exit 0
    docker pull --quiet "$base" >&2
fi
[ "${4:-}" != look ] || [ -e "$directory/Dockerfile" ] || exit 0
id=$(docker image inspect --format '{{.Id}}' "$base")
tag=$({ echo "$id"; cat "$directory"/*; } | sha256sum | cut -c1-16)
if [ "${4:-}" = fresh ] || ! docker image inspect "flotilla/$name:$tag" > /dev/null 2>&1; then
    [ "${4:-}" != look ] || exit 0
    # Prints: Using proxy '<url or nothing>' for URL '…'
    proxy=$(/usr/lib/apt/apt-helper auto-detect-proxy http://deb.debian.org/ 2> /dev/null | sed -n "s/^Using proxy '\(http[^']*\)'.*/\1/p")
    argument=$(sed -n 's/^ARG \([A-Z_]*\).*/\1/p' "$directory/Dockerfile" | head -n 1)
    [ "${4:-}" = fresh ] && cache=--no-cache || cache=
    docker build ${cache:+"$cache"} --network host --build-arg "$argument=$base" ${proxy:+--build-arg "http_proxy=$proxy"} \
        --tag "flotilla/$name:$tag" "$directory" >&2
    echo built >&2
fi
echo "$tag"

#!/bin/bash
# The floor of a deploy on one app host: only the commands of the engine and of the edge, without looking at anything.
# Usage: floor.sh STAGE COLOUR OLD HOST [IMAGE] [migrate]; files and addresses lie ready in /opt/by-hand, see floor.py.
#   prepare  pull IMAGE (if given), migrate (if told to), boot COLOUR and wait until it is healthy
#   commit   let the edge send requests to COLOUR, and hand the work over to its worker
#   finish   take OLD down
set -euo pipefail

stage=$1 colour=$2 old=$3 host=$4 image=${5:-} migrate=${6:-}
cd /opt/by-hand
set -a
. "/opt/by-hand/addresses-$colour"
FLOTILLA_COLOUR=$colour FLOTILLA_RELEASE=floor FLOTILLA_HOST=$host
set +a
new=(docker compose -p "notes-$colour" -f compose.json)

case $stage in
    prepare)
        [ -z "$image" ] || docker pull --quiet "$image"
        [ -z "$migrate" ] || docker compose -p notes-migration -f migration.json run --rm --no-TTY migrate
        "${new[@]}" up --detach --wait --wait-timeout 120 api ui flotilla-router
        ;;
    commit)
        case $colour in
            green) touch /opt/flotilla/nginx/live/notes/green ;;
            blue) rm /opt/flotilla/nginx/live/notes/green ;;
        esac
        docker compose -p "notes-$old" stop worker
        "${new[@]}" up --detach --wait --wait-timeout 120 worker
        ;;
    finish)
        docker compose -p "notes-$old" down
        ;;
esac

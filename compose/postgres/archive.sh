#!/bin/sh
# PostgreSQL's archive_command, in whose name pgBackRest looks for its own: hands a WAL segment to pgBackRest, which encrypts and sends it in the background.
# pgBackRest drops segments when more wait than its queue may hold (archive-push-queue-max), and calls that a success:
# it is written down here, and `playbooks/status.yml` fails until a backup has been made after it.
said=$(pgbackrest --stanza=main archive-push "$1" 2>&1)
code=$?
[ -z "$said" ] || printf '%s\n' "$said" >&2
case $said in
*"dropped WAL file"*) printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "${1##*/}" >> /var/spool/pgbackrest/dropped ;;
esac
exit "$code"

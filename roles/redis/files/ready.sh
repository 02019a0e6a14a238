# In the container: fails until the server answers; then has it serve the certificate and key of $1 and $2, unless it does.
# Prints `changed` when it did not. With $3 `check` nothing is changed.
set -eu
ask() {
    redis-cli --tls --cacert /etc/flotilla/certs/current/ca.crt "$@" < /dev/null
}

[ "$(REDISCLI_AUTH="$(cat /etc/redis/password)" ask ping)" = PONG ]

REDISCLI_AUTH="$(cat /etc/redis/operator_password)"
export REDISCLI_AUTH
if ask --user operator config get tls-cert-file | grep -qxF "$1"; then
    exit 0
fi
echo changed
if [ "$3" = apply ]; then
    ask --user operator config set tls-cert-file "$1" tls-key-file "$2" | grep -qx OK
fi

# In the container: fails until the server answers; then has it take the passwords that are declared, and serve the certificate and
# key of $1 and $2, unless it does. Prints `changed` when it did not. With $3 `check` nothing is changed.
set -eu
ask() {
    redis-cli --tls --cacert /etc/flotilla/certs/current/ca.crt "$@" < /dev/null
}
operator() {
    REDISCLI_AUTH="$(cat /etc/redis/operator_password)" ask --user operator "$@"
}

serves=$(operator config get tls-cert-file)
if [ "$3" = apply ]; then
    # Nobody is cut off who stays declared.
    operator acl load | grep -qx OK
fi
[ "$(REDISCLI_AUTH="$(cat /etc/redis/password)" ask ping)" = PONG ]

if printf '%s\n' "$serves" | grep -qxF "$1"; then
    exit 0
fi
echo changed
if [ "$3" = apply ]; then
    operator config set tls-cert-file "$1" tls-key-file "$2" | grep -qx OK
fi

# In the container: says whether the server lets $1 in with the password that comes on standard input.
IFS= read -r REDISCLI_AUTH
export REDISCLI_AUTH
said=$(redis-cli --tls --cacert /etc/flotilla/certs/current/ca.crt --user "$1" ping 2>&1 < /dev/null)
case $said in
    PONG | NOPERM*) printf in ;;
    *WRONGPASS*) printf refused ;;
    *) printf '%s' "$said" ;;
esac

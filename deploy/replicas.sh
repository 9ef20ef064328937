#!/usr/bin/env bash
# Three replicas on one PostgreSQL, on this machine, to try: deploy/replicas.sh postgres://USER@HOST/DATABASE
#
# The encryption key is made on the first run, in ./encryption.key: back it up. Each replica listens on the loopback, from
# PORT (50051) for gRPC and HTTP_PORT (8080) for HTTP on; any load balancer that speaks HTTP/2 may stand in front. Ctrl-c stops all three.
set -euo pipefail

export SIGNALBOX_DATABASE_URL=${1:?usage: $0 postgres://USER@HOST/DATABASE}
export ENCRYPTION_KEY_FILE=${ENCRYPTION_KEY_FILE:-encryption.key}
first=${PORT:-50051}
first_http=${HTTP_PORT:-8080}

# Before anything is made.
for number in 0 1 2; do
    for port in $((first + number)) $((first_http + number)); do
        if (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
            echo "port $port is taken: stop what listens there, or give other ones, such as PORT=50061 HTTP_PORT=8090 $0 ..." >&2
            exit 1
        fi
    done
done

if [ ! -e "$ENCRYPTION_KEY_FILE" ]; then
    (umask 077 && signalbox keys generate > "$ENCRYPTION_KEY_FILE")
    echo "made $ENCRYPTION_KEY_FILE: back it up, without it every secret is lost" >&2
fi

replicas=()
stop() {
    trap - INT TERM EXIT
    kill -TERM "${replicas[@]}" 2>/dev/null || true
    wait
}
trap stop INT TERM EXIT
# Ctrl-c is then for this script alone: a replica that is told to stop twice does not wait for its streams.
set -m
for number in 0 1 2; do
    port=$((first + number))
    # Each line says of whom it is. What tells that is not stopped by Ctrl-c: it ends with what the replica says last.
    signalbox serve --listen "127.0.0.1:$port" --http-listen "127.0.0.1:$((first_http + number))" \
        > >(trap '' INT TERM; exec sed -u "s/^/$port: /") 2>&1 &
    replicas+=($!)
done
# Said below what they log as they start. One that can't start says why itself, and the others end with it.
until signalbox health --server "http://127.0.0.1:$first" > /dev/null 2>&1; do
    [ "$(jobs -rp | wc -l)" -eq 3 ] || exit 1
    sleep 0.2
done
# Without the password, which is nobody's to read here.
shown=$(sed -E 's#^([a-z]+://[^:/@]*):.*@#\1:PASSWORD@#' <<< "$SIGNALBOX_DATABASE_URL")
cat >&2 << TEXT

On another terminal, in $PWD, the first token, which is good for a year, and what the replicas are:

    SIGNALBOX_DATABASE_URL='$shown' ENCRYPTION_KEY_FILE='$ENCRYPTION_KEY_FILE' \\
        signalbox token create --local --role admin --grant-secrets --ttl 8760h --file admin.token
    SIGNALBOX_URL=http://127.0.0.1:$first SIGNALBOX_TOKEN_FILE=admin.token signalbox status

TEXT
# One that ends takes the others along.
wait -n

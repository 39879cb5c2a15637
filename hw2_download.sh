#!/usr/bin/env bash
# Verify the checkpoints beside this script and fetch what is missing: bash hw2_download.sh [--url URL]
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
exec python3 "$here/common/download.py" "$@"

#!/usr/bin/env bash
# usage: bash hw2_3.sh IMAGE_DIR OUT_CSV
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
exec python3 "$here/p3_inference.py" "$@"

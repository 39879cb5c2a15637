#!/usr/bin/env bash
# usage: bash hw2_1.sh OUT_DIR
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
exec python3 "$here/p1_inference.py" "$@"

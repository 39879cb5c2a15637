#!/usr/bin/env bash
# Verify the checkpoints by checkpoints/SHA256SUMS and fetch those that are missing or broken.
#
#   bash hw2_download.sh                          # from $HW2_CHECKPOINT_URL/NAME, if need be
#   bash hw2_download.sh --url https://host/dir   # from dir/NAME; https, http or file
#
# A file gets its name only when its SHA-256 is right.  One with another content stays until then, and is kept as
# NAME.broken, so that no weights of your own are lost.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/checkpoints"
part=
trap 'rm -f -- "$part"' EXIT

refuse() {
    echo "hw2_download.sh: error: $*" >&2
    exit 2
}

sha256() { if command -v sha256sum > /dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }  # macOS has shasum

is_right() { [[ -f $1 && $(sha256 < "$1") == "$2 "* ]]; }

url=${HW2_CHECKPOINT_URL:-}
if [[ $# == 2 && $1 == --url ]]; then
    url=$2
elif [[ $# != 0 ]]; then
    refuse "usage: bash hw2_download.sh [--url URL]"
fi
url=${url// /%20} count=0
folder=${url%%\?*}

while read -r digest name || [[ $name ]]; do  # the last line may lack its end
    count=$((count + 1))
    is_right "$name" "$digest" && continue
    [[ $url ]] || refuse "$name is missing or broken: set HW2_CHECKPOINT_URL to the address of the checkpoints' folder"
    [[ $url =~ ^(https?|file)://. ]] || refuse "'$url' is not an address that begins with https://, http:// or file://"
    echo "fetching $name" >&2
    part=$(mktemp ".$name.XXXXXX") || refuse "$PWD cannot be written"
    # A query stays behind the name; 30 seconds without data are the end.
    reason=$(curl --fail --location --silent --show-error --connect-timeout 30 --speed-time 30 --speed-limit 1 \
        --output "$part" -- "${folder%/}/$name${url#"$folder"}" 2>&1) || refuse "$name was not fetched: $reason"
    is_right "$part" "$digest" || refuse "$name was not fetched: what is there is another file"
    [[ ! -e $name ]] || mv -- "$name" "$name.broken"
    chmod 644 "$part"
    mv -- "$part" "$name"
done < SHA256SUMS
echo "$count checkpoints verified"

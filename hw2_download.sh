#!/usr/bin/env bash
# Verify the checkpoints by checkpoints/SHA256SUMS and fetch those that are missing or broken.
#
#   bash hw2_download.sh                          # from $HW2_CHECKPOINT_URL/NAME, if need be
#   bash hw2_download.sh --url https://host/dir   # from dir/NAME; https, http or file
#
# A file gets its name only when its SHA-256 is right.  One with another content stays until then, and is kept as
# NAME.broken, so that no weights of your own are lost.
set -euo pipefail
part=
trap 'rm -f -- "$part"' EXIT

refuse() {
    echo "hw2_download.sh: error: $*" >&2
    exit 2
}

cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/checkpoints" 2> /dev/null || refuse "no folder checkpoints/"

sha256() { if command -v sha256sum > /dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }  # macOS has shasum

is_right() { [[ -f $1 && $(sha256 < "$1") == "$2 "* ]]; }

url=${HW2_CHECKPOINT_URL:-}
case "$#:${1:-}" in
    0:) ;;
    1:-h | 1:--help) sed -n '2,8s/^# \{0,1\}//p' ../hw2_download.sh && exit ;;
    1:--url=?*) url=${1#--url=} ;;
    2:--url) url=${2:-$url} ;;
    *) refuse "usage: bash hw2_download.sh [--url URL]" ;;
esac
url=${url// /%20} url=${url//#/%23} count=0
folder=${url%%\?*}
shopt -s nocasematch  # of digests
[[ -s SHA256SUMS ]] || refuse "checkpoints/SHA256SUMS is missing or names no checkpoint"

while read -r digest name || [[ $name ]]; do  # the last line may lack its end
    name=${name%$'\r'} name=${name#\*}
    [[ $digest =~ ^[0-9a-f]{64}$ && $name == [[:alnum:]_-]* && $name != *[/\\]* ]] ||
        refuse "checkpoints/SHA256SUMS holds a line that is not a SHA-256 and the name of a file beside it: $digest $name"
    count=$((count + 1))
    is_right "$name" "$digest" && continue
    [[ $url ]] || refuse "$name is missing or broken: set HW2_CHECKPOINT_URL to the address of the checkpoints' folder"
    [[ $url =~ ^(https?|file)://. ]] || refuse "'$url' is not an address that begins with https://, http:// or file://"
    echo "fetching $name" >&2
    part=$(mktemp ".$name.XXXXXX") 2> /dev/null || refuse "$PWD cannot be written"
    # A query stays behind the name; 30 seconds without data are the end.
    reason=$(curl --globoff --fail --location --silent --show-error --connect-timeout 30 --speed-time 30 --speed-limit 1 \
        --output "$part" -- "${folder%/}/$name${url#"$folder"}" 2>&1) || refuse "$name was not fetched: $reason"
    is_right "$part" "$digest" || refuse "$name was not fetched: what is there is another file"
    chmod 644 "$part"
    file=$(readlink -f -- "$name")  # a link stays
    if [[ -e $file ]]; then
        mv -- "$file" "$file.broken"
        echo "$name had another SHA-256 than it should, kept as ${file##*/}.broken" >&2
    fi
    mv -- "$part" "$file"
done < SHA256SUMS
echo "$count checkpoints verified"

#!/usr/bin/env bash
# Unpack Debian's packages into a folder, without installing them: nothing is started, no port taken, no root needed.
# usage: debian.sh FOLDER PACKAGE...
set -euo pipefail
folder=$1
shift
export DEBIAN_FRONTEND=noninteractive

# The packages, and what of theirs this machine lacks.
wanted() { apt-get -s -qq --no-install-recommends install "$@" 2>/dev/null | awk '/^Inst/ { print $2 }'; }

command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "Install $* by hand: there is no apt here." >&2; exit 1; }
if ! names=$(wanted "$@"); then
  # A fresh machine's apt knows of no packages yet.
  [ "$(id -u)" = 0 ] || { echo "apt doesn't know $*: run apt-get update as root, then try again." >&2; exit 1; }
  apt-get update -qq
  names=$(wanted "$@") || { echo "apt can't find $*." >&2; exit 1; }
fi
downloads=$(mktemp -d)
trap 'rm -rf "$downloads"' EXIT
mkdir -p "$folder"
[ -n "$names" ] || exit 0
# shellcheck disable=SC2086
(cd "$downloads" && apt-get -qq -o APT::Sandbox::User=root download $names)
for package in "$downloads"/*.deb; do dpkg -x "$package" "$folder"; done

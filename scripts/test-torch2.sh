#!/usr/bin/env bash
# Builds everything against libtorch 2.6 and runs every test, in a Debian 13 (trixie) of its own:
#
#   scripts/test-torch2.sh [CTEST OPTION ...]     -R Communicator: a part of the tests
#
#   .cache/trixie         the system: made by debootstrap once, 2.6 GB with its packages; reused
#   .cache/trixie-build   the build folder, and the tests' records
#   .cache/trixie-ccache  compiled objects
#
# Needs root, and Debian's archive the first time. The sources are there under their own path,
# read-only but for .cache. Everything runs in namespaces of its own: mounts and processes end with
# this script, however it ends. -O1: what differs between two versions shows as well, and sooner.
set -euo pipefail
cd "$(dirname "$0")/.."

source=$PWD
system=$source/.cache/trixie
build=$source/.cache/trixie-build
ccache=$source/.cache/trixie-ccache
mirror=http://deb.debian.org/debian

# What runs inside, with ctest's options.
inside() {
  local jobs
  # The first process of a PID namespace takes the signals that it asks for.
  trap 'exit 130' INT
  trap 'exit 143' TERM
  jobs=$(scripts/jobs.sh)
  scripts/install-dependencies.sh --test
  cmake --preset release -B "$build" -DCMAKE_CXX_FLAGS_RELEASE="-O1 -DNDEBUG" \
    -DTRIREME_TESTS=ON -DTRIREME_EXAMPLES=ON >"$build/configure.log" ||
    { cat "$build/configure.log"; return 1; }
  cmake --build "$build" --parallel "$jobs"
  ctest --test-dir "$build" --parallel "$jobs" --no-tests=error --output-on-failure \
    --timeout 300 --output-junit "$build/tests.xml" "$@"
}

# Mounts what the system inside needs, and goes on there; only in a mount namespace of its own.
enter() {
  # Itself a mount: programs inside may then change what is mounted on their /.
  mount --bind "$system" "$system"
  mkdir -p "$system$source"
  mount --bind "$source" "$system$source"
  mount -o remount,bind,ro "$system$source"
  mount --bind "$source/.cache" "$system$source/.cache"
  mount -t proc proc "$system/proc"
  mount --rbind /sys "$system/sys"
  mount --rbind /dev "$system/dev"
  cp /etc/resolv.conf "$system/etc/resolv.conf"
  exec env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 TERM="${TERM:-dumb}" CCACHE_DIR="$ccache" \
    chroot "$system" "$source/scripts/test-torch2.sh" --inside "$@"
}

case ${1:-} in
  --enter)
    shift
    enter "$@"
    ;;
  --inside)
    shift
    inside "$@"
    exit
    ;;
esac

if [[ $EUID -ne 0 ]]; then
  echo "$0: needs root, to make a Debian system in $system and to enter it" >&2
  exit 1
fi
if ! command -v debootstrap >/dev/null; then
  apt-get -q update
  DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends debootstrap
fi
if [[ ! -d $system ]]; then
  # The folder has its name once it is whole: what was interrupted is begun again.
  rm -rf "$system.partial"
  mkdir -p "$system.partial"
  nice -n 15 debootstrap --variant=minbase trixie "$system.partial" "$mirror"
  mv "$system.partial" "$system"
fi
mkdir -p "$build" "$ccache"
exec nice -n 15 unshare --mount --pid --fork --kill-child \
  "$source/scripts/test-torch2.sh" --enter "$@"

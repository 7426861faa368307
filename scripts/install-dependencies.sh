#!/usr/bin/env bash
# Installs the Debian packages that a build needs, or with --test those of the tests as well.
# Asks nothing; does nothing, silently, when all are there.
set -euo pipefail

packages=(
  build-essential cmake ninja-build pkg-config ccache mold
  libtorch-dev libgloo-dev libopenblas0-openmp
  libcli11-dev libtomlplusplus-dev nlohmann-json3-dev libfmt-dev libspdlog-dev
  libhwy-dev libhwloc-dev zlib1g-dev libsodium-dev libxxhash-dev
  libzmq3-dev cppzmq-dev libicu-dev
)
if [[ ${1:-} == --test ]]; then
  packages+=(
    libgtest-dev libgmock-dev librapidcheck-dev
    clang clang-format clang-tidy libclang-rt-dev
    openmpi-bin libopenmpi-dev mpich libmpich-dev
    tmux procps iproute2 python3 git
  )
elif [[ $# -gt 0 ]]; then
  echo "usage: $0 [--test]" >&2
  exit 2
fi

# libtorch reaches BLAS through two alternatives. The pthread flavour of OpenBLAS has the higher
# priority and takes every core for each rank; the OpenMP one obeys at::set_num_threads.
prefer_openmp_blas() {
  local lib link
  lib=/usr/lib/$(gcc -print-multiarch)
  for link in libblas.so.3 liblapack.so.3 libopenblas.so.0; do
    if update-alternatives --query "$link-${lib##*/}" 2>/dev/null |
        grep -qx "Alternative: $lib/openblas-openmp/$link"; then
      "${as_root[@]}" update-alternatives --quiet \
        --set "$link-${lib##*/}" "$lib/openblas-openmp/$link"
    fi
  done
}

if ! command -v apt-get >/dev/null; then
  echo "not a Debian system: trireme needs what corresponds to these packages of Debian 12:" >&2
  echo "  ${packages[*]}" >&2
  # With a compiler here the build may go on; CMake names what it does not find.
  command -v cmake >/dev/null && command -v ninja >/dev/null && command -v c++ >/dev/null
  exit
fi

installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)
missing=()
for package in "${packages[@]}"; do
  grep -qx "installed $package" <<<"$installed" || missing+=("$package")
done
if [[ ${#missing[@]} -eq 0 ]]; then exit 0; fi

as_root=()
if [[ $EUID -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "trireme needs packages that only root can install. As root, run:" >&2
    echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0)
echo "installing: ${missing[*]}"
"${apt[@]}" update
"${apt[@]}" install -y --no-install-recommends "${missing[@]}"

if [[ " ${missing[*]} " == *" libopenblas0-openmp "* ]]; then prefer_openmp_blas; fi

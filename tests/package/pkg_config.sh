#!/bin/sh
# Compiles and runs a program with the flags of pkg-config: pkg_config.sh CXX PREFIX LIBDIR SOURCE
set -eu
moved=$(mktemp -d)
trap 'rm -rf "$moved"' EXIT
cp -r "$2/." "$moved"
PKG_CONFIG_PATH=$moved/$3/pkgconfig
export PKG_CONFIG_PATH
"$1" -std=c++20 "$4" $(pkg-config --cflags --libs trireme_core) -o "$moved/program"
"$moved/program"

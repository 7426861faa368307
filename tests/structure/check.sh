#!/bin/sh
# Runs one check on the trireme/ that lies in ROOT: check.sh layers|silence|headers ROOT
set -eu
rules=$(cd "$(dirname "$0")" && pwd)/$1.awk
cd "$2"
sources=$(find trireme -name '*.h' -o -name '*.cpp' | LC_ALL=C sort)
case $1 in
  layers) exec awk -f "$rules" layers.txt $sources ;;
  silence | headers) exec awk -f "$rules" $sources ;;
esac

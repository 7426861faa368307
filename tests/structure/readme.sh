#!/bin/sh
# The C++ in README.md is examples/readme/main.cpp, which is compiled and run.
#   readme.sh SOURCE_FOLDER
awk '/^```cpp$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$1/README.md" |
  diff - "$1/examples/readme/main.cpp"

# Every header of trireme/ can be included twice, and is what its own source includes first, which
# is compiled only if the header stands alone:
#   awk -f headers.awk trireme/base/error.h ...
# Names file and line of each offence; fails on any. Headers without a source are compiled by
# themselves (CMakeLists.txt).

BEGIN {
  for (i = 1; i < ARGC; ++i) is_there[ARGV[i]] = 1
}

FNR == 1 {
  check_header()
  file = FILENAME
  is_guarded = 0
  own = FILENAME
  if (!sub(/\.cpp$/, ".h", own) || !(own in is_there)) own = ""
}

/^#pragma once$/ { is_guarded = 1 }

own != "" && /^[ \t]*#[ \t]*include/ {
  if ($0 != "#include \"" own "\"")
    offence(sprintf("%s:%d: its own header comes first: %s", FILENAME, FNR, $0))
  own = ""
}

END {
  check_header()
  exit offences > 0
}

# Highway's *-inl.h are compiled once for each instruction set.
function check_header() {
  if (file ~ /\.h$/ && file !~ /-inl\.h$/ && !is_guarded) offence(file ": has no #pragma once")
}

function offence(what) {
  print what
  ++offences
}

# The library neither prints nor exits; cli/ does, and the child side of launch/, whose standard
# error the parent reads:
#   awk -f silence.awk trireme/base/error.h ...
# Names file and line of each offence; fails on any.

FILENAME ~ /^trireme\/(cli\/|launch\/rank_process\.cpp)/ { next }

{
  code = $0
  gsub(/"([^"\\]|\\.)*"/, "\"\"", code)
  sub(/\/\/.*/, "", code)
  if (code ~ /(^|[^A-Za-z0-9_])(std::)?(cout|cerr|clog)[^A-Za-z0-9_]/) offence("prints")
  if (code ~ /(^|[^A-Za-z0-9_])(v?f?printf|puts|fputs|putchar|perror)[ ]*\(/) offence("prints")
  if (code ~ /fmt::print[ ]*\(/) offence("prints")
  if (code ~ /(^|[^A-Za-z0-9_.>])(exit|_exit|_Exit|quick_exit)[ ]*\(/) offence("exits")
  # A communicator has an abort() of its own.
  if (code ~ /std::(terminate|abort)[ ]*\(/) offence("exits")
}

END { exit offences > 0 }

function offence(what) {
  printf "%s:%d: %s, which only cli/ may: %s\n", FILENAME, FNR, what, $0
  ++offences
}

# Names each C++ block of the documents (*.md) that is in none of the sources after them, line by
# line, apart from the indentation of the block as a whole.
#   awk -f snippets.awk DOCUMENT.md... SOURCE.cpp...

FILENAME ~ /\.md$/ {
  if ($0 == "```cpp") { inside = 1; place[++blocks] = FILENAME ":" FNR; next }
  if ($0 == "```") inside = 0
  if (inside) block[blocks, ++length_of[blocks]] = $0
  next
}

FNR == 1 { source[++lines] = "\n" }
{ source[++lines] = $0 }

function is_at(b, first,    spaces, i, wanted) {
  spaces = length(source[first]) - length(block[b, 1])
  if (spaces < 0 || substr(source[first], 1, spaces) !~ /^ *$/) return 0
  for (i = 1; i <= length_of[b]; ++i) {
    wanted = block[b, i]
    if (wanted != "") wanted = sprintf("%*s%s", spaces, "", wanted)
    if (source[first + i - 1] != wanted) return 0
  }
  return 1
}

END {
  for (b = 1; b <= blocks; ++b) {
    for (first = 1; first <= lines && !is_at(b, first); ++first);
    if (first <= lines) continue
    print place[b] ": this block is in no source that is compiled"
    found = 1
  }
  if (blocks == 0) print "no C++ block"
  exit found || blocks == 0
}

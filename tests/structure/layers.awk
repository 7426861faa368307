# Holds every include of trireme/ against layers.txt:
#   awk -f layers.awk layers.txt trireme/*.h trireme/*/*.h ...
# run from the root of the repository. Names file, line and rule of each offence; fails on any.

FILENAME == ARGV[1] {
  if ($0 !~ /^#/ && NF > 0) {
    layer[$1] = $2
    for (i = 3; i <= NF; ++i) sideways[$1, $i] = 1
  }
  next
}

FNR == 1 {
  # A header of trireme/ itself, the umbrella, stands above all layers.
  folder = folder_of(FILENAME)
  if (folder != "" && !(folder in layer)) offence("folder " folder " is not in layers.txt")
}

/^[ \t]*#[ \t]*include[ \t]*"/ {
  split($0, quoted, "\"")
  check_include(quoted[2])
}

/^[ \t]*#[ \t]*include[ \t]*<(torch|ATen|c10|caffe2)\// {
  if (folder != "" && layer[folder] < layer["tensor"])
    offence("libtorch in " folder ", which is below tensor")
}

# The differences between libtorch versions are dealt with in tensor/ and world/c10d/ alone.
/^[ \t]*#.*TORCH_VERSION/ {
  if (folder != "tensor" && FILENAME !~ /world\/c10d\//)
    offence("an #if on libtorch's version outside tensor/ and world/c10d/")
}

END { exit offences > 0 }

function folder_of(path,   parts) {
  return split(path, parts, "/") > 2 ? parts[2] : ""
}

function check_include(path,   target) {
  # Highway includes its own headers in quotes, and has the ones who use it do so.
  if (path ~ /^hwy\//) return
  if (path !~ /^trireme\//) {
    offence("\"" path "\": write the path from the root, trireme/...")
    return
  }
  if (folder == "") return
  target = folder_of(path)
  if (target == "") {
    offence("trireme/" folder " includes " path ", which stands above all layers")
  } else if (!(target in layer)) {
    offence("folder " target " is not in layers.txt")
  } else if (target != folder && layer[target] >= layer[folder] && !((folder, target) in sideways)) {
    offence(folder " (layer " layer[folder] ") includes " target " (layer " layer[target] ")" \
            (layer[target] == layer[folder] ? ", which layers.txt does not grant it" : ": upward"))
  }
}

function offence(what) {
  printf "%s:%d: %s\n", FILENAME, FNR, what
  ++offences
}

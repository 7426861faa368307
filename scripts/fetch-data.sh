#!/usr/bin/env bash
# Lays data sets that Debian packages carry into .cache/data/NAME, as the package has them:
#
#   scripts/fetch-data.sh fashion-mnist|randhie|diabetes|digits|breast-cancer|insteval ...
#
# Needs no root and installs nothing. Every file is held against the SHA-256 below; a file that is
# there and right is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

package_of() {
  case $1 in
    fashion-mnist) echo dataset-fashion-mnist ;;
    randhie) echo python3-statsmodels ;;
    diabetes | digits | breast-cancer) echo python3-sklearn ;;
    insteval) echo r-cran-lme4 ;;
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
  esac
}

is_right() { [[ -f $1 ]] && sha256sum --status -c <<<"$2  $1"; }

all_right() {  # $1: name of the data set
  local file sum folder
  while read -r file sum folder; do
    is_right ".cache/data/$1/$file" "$sum" || return 1
  done < <(files_of "$1")
}

# Leaves the package $1 unpacked in $2. apt's lists may be absent or too old, and not ours to
# renew: then it is given lists of its own.
unpack() {
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

fetch() {
  local package
  if ! package=$(package_of "$1"); then
    echo "$0: no data set '$1'; there are fashion-mnist, randhie, diabetes, digits," \
      "breast-cancer and insteval" >&2
    return 2
  fi
  if ! all_right "$1" && ! lay_from "$1" ""; then
    if ! command -v apt-get >/dev/null; then
      echo "$0: $1 comes from the Debian package $package, and there is no apt-get here" >&2
      return 1
    fi
    echo "fetching $1 from the Debian package $package"
    if ! unpack "$package" "$scratch"; then
      echo "$0: cannot download the Debian package $package; is there a network?" >&2
      return 1
    fi
    if ! lay_from "$1" "$scratch"; then
      echo "$0: the files of $package are not the ones whose SHA-256 is written here" >&2
      return 1
    fi
  fi
  case $1 in
    diabetes) join_diabetes ;;
    breast-cancer) name_breast_cancer ;;
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

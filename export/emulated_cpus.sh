#!/usr/bin/env bash
# Fetches what int8 files are run with on emulated CPUs: a Python for 64-bit ARM out of Debian's
# packages, and each onnxruntime that is named, for it and for this machine. Needs Debian on x86-64
# with qemu-user and pip; changes nothing outside of FOLDER (about 0.4 GB).
#
#   export/emulated_cpus.sh FOLDER 1.32.0 1.20.0   # the current and the oldest that is supported
#   fer-export bundle … --emulators FOLDER         # before models are shipped
#   fer-export cpus FOLDER --onnxruntime 1.32.0 --data fer2013.csv
set -euo pipefail
folder=${1:?FOLDER}
: "${2:?version of onnxruntime}"
shift
python=${PYTHON:-python3}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

if [ ! -e "$folder/sysroot/usr/bin/python3" ]; then
  debs=$folder/debs
  mkdir -p "$debs/state/lists/partial" "$debs/cache/archives/partial"
  apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64
    -o Dir::State="$debs/state" -o Dir::State::status=/dev/null -o Dir::Cache="$debs/cache"
    -o Debug::NoLocking=1)
  "${apt[@]}" update
  "${apt[@]}" install -y --download-only --no-install-recommends python3 libstdc++6
  for deb in "$debs"/cache/archives/*.deb; do dpkg -x "$deb" "$folder/sysroot"; done
  rm -r "$debs"
fi

guest=$(basename "$(readlink "$folder/sysroot/usr/bin/python3")")
wheels() { # MACHINE PYTHON_VERSION
  [ -d "$folder/$1-$version" ] || "$python" -m pip install --quiet --only-binary=:all: \
    --python-version "$2" --implementation cp \
    --platform "manylinux_2_28_$1" --platform "manylinux_2_27_$1" --platform "manylinux2014_$1" \
    --target "$folder/$1-$version" "onnxruntime==$version"
}
for version; do
  wheels aarch64 "${guest#python}"
  wheels x86_64 "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
done

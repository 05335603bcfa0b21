#!/bin/sh
# Choose the packages of every image: the locks beside the Dockerfiles. $1: uv; what follows is given to it (--upgrade).
# Packages that are locked already stay as they are while pyproject.toml lets them. Torch's wheels are only read about.
set -eu
cd "$(dirname "$0")/../.."
uv=$1
shift
lock() { # $1: the lock; then what is locked, and options
    out=$1
    shift
    "$uv" pip compile --quiet --no-config --generate-hashes --no-annotate --custom-compile-command "make locks" \
        --python-version 3.11 --python-platform x86_64-manylinux_2_36 --output-file "$out" "$@"
}
python3 -c '
import tomllib
with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["build-system"]["requires"], sep="\n")
' | lock docker/images/requirements-build.txt - "$@"
while read -r service variant extra; do
    lock "docker/$service/requirements-$variant.txt" pyproject.toml --extra "$extra" "$@" </dev/null
done <<END
edge cpu edge
asr cpu asr
asr cuda asr-cuda
diarize cpu diarize
diarize cuda diarize-nemo
summarize cpu summarize
summarize cuda summarize-qwen
END

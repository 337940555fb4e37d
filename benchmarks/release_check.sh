#!/usr/bin/env bash
# Is what would be released enough by itself? A wheel from committed files alone, installed with all that it asks for into an
# empty environment for each of PYTHONS, and used in a folder without the source beside it.
# LAYER=FOLDER takes what the wheel asks for from the packages in that folder instead of an index, where time is short.
set -euo pipefail
cd "$(dirname "$0")/.."
pythons=${PYTHONS:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONPATH=

echo "==> wheel of the committed files"
mkdir "$work/source"
git archive HEAD | tar -x -C "$work/source"
"${BUILDER:-python3}" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work" "$work/source"
wheel=$(echo "$work"/*.whl)
"${BUILDER:-python3}" -m zipfile --list "$wheel" >"$work/members"
if grep -vE '^(File Name|ptycho_core/|ptycho_adapters/|ptycho_core-[^/]*\.dist-info/)' "$work/members"; then
    echo "the wheel holds more than the two packages" >&2
    exit 1
fi

install_into() {  # an empty environment
    "$1" -m venv "$2"
    if [ -n "${LAYER:-}" ]; then
        echo "$LAYER" >"$("$2/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/layer.pth"
        "$2/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$wheel"
    else
        "$2/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$wheel"
    fi
}

use() (  # what a new user does first, in an empty folder
    mkdir "$2" && cd "$2"
    "$1/bin/python" -c "import pathlib, sys, ptycho_adapters; found = pathlib.Path(ptycho_adapters.__file__)
sys.exit(0 if found.is_relative_to('$1') else f'the package comes from {found}')"
    "$1/bin/ptycho" --version
    "$1/bin/ptycho" simulate --output scan.npz --object-size-px 100 --step-px 9 --photons 1e5 --quiet
    "$1/bin/ptycho" inspect scan.npz --json >scan.json
    "$1/bin/ptycho" infer --test-data scan.npz --output-dir result --quiet
    for name in object.h5 phase.png amplitude.png report.html summary.json; do
        test -s "result/$name"
    done
    "$1/bin/python" -m ptycho_adapters.demo --output-dir demo >demo.log 2>&1 || { cat demo.log; exit 1; }
    test -s demo/summary.png
)

for python in $pythons; do
    echo "==> $("$python" --version): an empty environment"
    install_into "$python" "$work/venv"
    echo "==> $("$python" --version): a scan to a picture, and the demonstration"
    use "$work/venv" "$work/used"
    rm -r "$work/venv" "$work/used"
done
echo "==> the wheel is enough: $(basename "$wheel")"

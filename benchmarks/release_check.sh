#!/usr/bin/env bash
# Is what would be released enough by itself? A wheel from committed files alone, installed with all that it asks for into an
# empty environment, and used in a folder without the source beside it. PYTHON makes the environments.
# LAYER=FOLDER takes what the wheel asks for from the packages in that folder instead of an index, where time is short.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "==> wheel of the committed files"
mkdir "$work/source" "$work/empty"
git archive HEAD | tar -x -C "$work/source"
"${BUILDER:-$python}" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work" "$work/source"
wheel=$(echo "$work"/*.whl)
"$python" -m zipfile --list "$wheel" >"$work/members"
if grep -vE '^(File Name|ptycho_core/|ptycho_adapters/|ptycho_core-[^/]*\.dist-info/)' "$work/members"; then
    echo "the wheel holds more than the two packages" >&2
    exit 1
fi

echo "==> an empty environment"
"$python" -m venv "$work/venv"
if [ -n "${LAYER:-}" ]; then
    echo "$LAYER" >"$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/layer.pth"
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$wheel"
else
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$wheel"
fi

echo "==> a scan to a picture"
cd "$work/empty"
export PYTHONPATH=
ptycho=$work/venv/bin/ptycho
"$work/venv/bin/python" -c "import pathlib, sys, ptycho_adapters; found = pathlib.Path(ptycho_adapters.__file__)
sys.exit(0 if found.is_relative_to('$work/venv') else f'the package comes from {found}')"
"$ptycho" --version
"$ptycho" simulate --output scan.npz --object-size-px 100 --step-px 9 --photons 1e5 --quiet
"$ptycho" inspect scan.npz --json >scan.json
"$ptycho" infer --test-data scan.npz --output-dir result --quiet
for name in object.h5 phase.png amplitude.png report.html summary.json; do
    test -s "result/$name"
done
echo "==> the wheel is enough: $(basename "$wheel")"

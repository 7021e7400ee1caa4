#!/usr/bin/env bash
# Builds the wheel, installs it into an empty environment, and uses all three packages from an empty folder.
set -euo pipefail
python="${1:-python}"
root=$(cd "$(dirname "$0")/.." && pwd)
case "$python" in /*) ;; *) python="$PWD/$python" ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m build -q --wheel --outdir "$work/dist" "$root"
"$python" -m venv --system-site-packages --without-pip "$work/venv"
# The environment that builds lends its libraries; the packages under test come from the wheel alone.
site=$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
libraries=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
"$python" -m zipfile -e "$work"/dist/*.whl "$site"
echo "$libraries" > "$site/zz_libraries.pth"
mkdir "$work/empty"
cd "$work/empty"
"$work/venv/bin/python" -I - <<'PYTHON'
import pathlib

import attnlab
import theory
import toy_tasks

for module in (attnlab, theory, toy_tasks):
    where = pathlib.Path(module.__file__).resolve()
    assert "venv" in where.parts and "site-packages" in where.parts, where
task = toy_tasks.BigramBackcopy.tiny_shakespeare(num_triggers=3, length=8)
model = attnlab.Transformer(vocab_size=task.vocab_size, length=8, width=8)
run = attnlab.run(task, model, steps=2, batch_size=2, record={"params": attnlab.every(1)}, path="run")
assert attnlab.open("run").params_at(2, 0)["unembed"].shape == (8, 66)
from attnlab.report.scrubber import viewer_source

assert "canvas" in viewer_source("scrubber.js")
print("wheel: all three packages work from an empty folder")
PYTHON
"$work/venv/bin/python" -I -m attnlab.cli list > listed.txt
grep -q active-dormant listed.txt

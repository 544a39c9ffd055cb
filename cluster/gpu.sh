#!/usr/bin/env bash
# Checks and times the accelerator of this machine, then trains the paper's seeds on it, within ten minutes.
#
#   cluster/gpu.sh OUT [WORKDIR]
#
# OUT gets tests.log, benchmark/ and archive/, the results of what was trained. The seeds are trained in WORKDIR (by
# default runs/gpu) for as long as there is time; the same command resumes them. PYTHON names another interpreter.
# The exit code is 1 if a check failed.
set -u
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
out=$(realpath -m "$1") workdir=$(realpath -m "${2:-runs/gpu}") code=0
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out" || exit 1

# A program that runs out of time has written its results so far.
for_at_most() { timeout --signal=TERM --kill-after=30 "$@"; }

# In one process: each of two would ask for most of the GPU's memory.
for_at_most 170 "$python" -m pytest -q tests/contracts/test_cells.py tests/contracts/test_graph_cells.py \
  tests/contracts/test_unroll.py tests/unit/test_graph_layers.py tests/unit/test_resuming.py \
  >"$out/tests.log" 2>&1 || code=1
tail -n 3 "$out/tests.log"
for_at_most 230 "$python" -m experiments.benchmark --out="$out/benchmark" --suite=recurrent --suite=seeds --suite=scan \
  --suite=grid --suite=graph_recurrent
for_at_most 140 "$python" -m experiments.reproduce --preset=seeds --workdir="$workdir"
"$python" -m experiments.runs "$workdir" --archive="$out/archive"
exit $code

#!/usr/bin/env bash
# Starts several processes on this machine that share their runs; started again, it resumes them.
#
#   cluster/local.sh NUM_PROCESSES WORKDIR EXPERIMENT [--config.FIELD=VALUE ...]
#
# Each process gets its share of the cores. GPUs are not used, since one process uses all of a machine by itself. WORKDIR
# is relative to the project's folder. Ctrl-C saves. The exit code is 1 or 2, an error to fix, if a process ended with
# it; otherwise it is the largest of theirs, and the same command resumes the runs.
set -u
if [ $# -lt 3 ] || ! [[ $1 =~ ^[1-9][0-9]{0,3}$ ]]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
num_processes=$1 workdir=$2 experiment=$3
shift 3
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-.venv/bin/python}
found=$("$python" -c '
import socket
from jaxrnn.training.cores import num_cores
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(num_cores(), s.getsockname()[1])') || exit 1
read -r cores port <<<"$found"
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
export JAX_NUM_CPU_DEVICES=${JAX_NUM_CPU_DEVICES:-$((cores > num_processes ? cores / num_processes : 1))}
if [ -e "$workdir/config.json" ]; then
  set -- --resume "$@"
fi

pids=()
for ((i = 0; i < num_processes; i++)); do
  "$python" -m "experiments.$experiment" --workdir="$workdir" --distributed --coordinator="127.0.0.1:$port" \
    --num_processes="$num_processes" --process_id="$i" "$@" &
  pids+=($!)
done
# A terminal's Ctrl-C reaches only this script, because processes that a script starts in the background ignore it.
trap 'kill -TERM "${pids[@]}" 2>/dev/null' INT TERM
code=0 error=0
for pid in "${pids[@]}"; do
  # A signal interrupts the wait, not the process that is waited for.
  while wait "$pid"; status=$?; kill -0 "$pid" 2>/dev/null; do :; done
  code=$((status > code ? status : code))
  error=$((status == 1 || status == 2 ? status : error))
done
exit $((error ? error : code))

#!/usr/bin/env bash
# Several processes on this machine, for a run that they share; started again, it goes on.
#
#   cluster/local.sh NUM_PROCESSES WORKDIR EXPERIMENT [--config.FIELD=VALUE ...]
#
# Each process gets its share of the cores. The exit code is the largest of theirs; 75 means: start it again.
set -u
if [ $# -lt 3 ]; then
  sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
num_processes=$1 workdir=$2 experiment=$3
shift 3
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-.venv/bin/python}
cores=$(getconf _NPROCESSORS_ONLN)
export JAX_NUM_CPU_DEVICES=${JAX_NUM_CPU_DEVICES:-$((cores > num_processes ? cores / num_processes : 1))}
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])') || exit 1
if [ -e "$workdir/config.json" ]; then
  set -- --resume "$@"
fi

pids=()
for ((i = 0; i < num_processes; i++)); do
  "$python" -m "experiments.$experiment" --workdir="$workdir" --distributed --coordinator="127.0.0.1:$port" \
    --num_processes="$num_processes" --process_id="$i" "$@" &
  pids+=($!)
done
trap 'kill -TERM "${pids[@]}" 2>/dev/null' INT TERM
code=0
for pid in "${pids[@]}"; do
  # A signal interrupts the waiting, and not what is waited for.
  while wait "$pid"; status=$?; kill -0 "$pid" 2>/dev/null; do :; done
  code=$((status > code ? status : code))
done
exit "$code"

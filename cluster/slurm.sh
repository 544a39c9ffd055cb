#!/usr/bin/env bash
# Trains on several nodes under Slurm, with one process per GPU; survives preemption and the time limit.
#
#   sbatch cluster/slurm.sh WORKDIR EXPERIMENT [--config.FIELD=VALUE ...]
#
# Submit from the project's folder, with WORKDIR on a file system that all nodes share. Put sbatch's options first.
#SBATCH --job-name=jaxrnn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -u
if [ $# -lt 2 ]; then
  sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
workdir=$1 experiment=$2
shift 2
if [ -e "$workdir/config.json" ]; then
  set -- --resume "$@"
fi
newest() {
  find "$workdir/checkpoints/running" -maxdepth 1 -name '[0-9]*' -printf '%f\n' 2>/dev/null | sort -n | tail -n 1
}
before=$(newest)
srun "${PYTHON:-.venv/bin/python}" -m "experiments.$experiment" --workdir="$workdir" --distributed "$@"
code=$?
# 75: saved before the end. 1 and 2: an error to fix. Otherwise, a process was killed and the others have lost it; the
# job is tried again only while it makes progress, since the reason may be an error in one of the processes.
if [ "$code" -eq 75 ] || { [ "$code" -gt 2 ] && [ "$(newest)" != "$before" ]; }; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"

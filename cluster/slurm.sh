#!/usr/bin/env bash
# A run on several nodes under Slurm, one process a GPU; it survives preemption and the time limit.
#
#   sbatch cluster/slurm.sh WORKDIR EXPERIMENT [--config.FIELD=VALUE ...]
#
# From the project's folder, with WORKDIR on a file system that all nodes share. Options of sbatch go before the script.
#SBATCH --job-name=jaxrnn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -u
workdir=$1 experiment=$2
shift 2
if [ -e "$workdir/config.json" ]; then
  set -- --resume "$@"
fi
srun "${PYTHON:-.venv/bin/python}" -m "experiments.$experiment" --workdir="$workdir" --distributed "$@"
code=$?
# 75: saved before the end. 134: JAX ended what had lost a process. Both go on where they were.
if [ "$code" -eq 75 ] || [ "$code" -eq 134 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"

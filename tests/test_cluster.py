"""The scripts for several processes, run as they are; a stand-in plays Slurm's part."""

import json
import os
import random
import subprocess
import sys

import pytest
from processes import ROOT

SMALL = ["--config.digits=2", "--config.hidden_size=8", "--config.batch_size=8", "--config.max_steps=20"]

# One node, two tasks, with the variables by which JAX knows Slurm.
SRUN = """#!/usr/bin/env bash
export SLURM_JOB_ID SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2
for i in 0 1; do SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & done
wait -n; first=$?; wait -n; second=$?
exit $((first > second ? first : second))
"""
SCONTROL = """#!/usr/bin/env bash
echo "$@" >> "$REQUEUED"
"""


def run(binaries, *command, **environment):
    environment = {**binaries.environment, "PYTHON": sys.executable, "JAX_NUM_CPU_DEVICES": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


def seeds(path):
    results = json.loads((path / "results.json").read_text())
    assert results["complete"]
    return [row["seed"] for row in results["runs"]]


def test_several_processes_on_this_machine_start_with_one_command(binaries, tmp_path):
    path = tmp_path / "run"
    done = run(binaries, "cluster/local.sh", "2", path, "palindrome", "--config.num_seeds=2", *SMALL)
    assert done.returncode == 0, done.stderr
    assert [line.partition(",")[0] for line in done.stdout.splitlines()] == ["seed=0", "seed=1"]
    assert seeds(path) == [0, 1]


@pytest.mark.soak
def test_the_same_command_goes_on(binaries, tmp_path):
    path = tmp_path / "run"
    for num_seeds in (2, 3):
        done = run(binaries, "cluster/local.sh", "2", path, "palindrome", f"--config.num_seeds={num_seeds}", *SMALL)
        assert done.returncode == 0, done.stderr
    assert seeds(path) == [0, 1, 2]


def test_without_arguments_it_says_how(binaries):
    done = run(binaries, "cluster/local.sh")
    assert done.returncode == 2
    assert "cluster/local.sh NUM_PROCESSES WORKDIR EXPERIMENT" in done.stderr


@pytest.mark.soak
def test_slurm_starts_goes_on_and_is_asked_to_start_again(binaries, tmp_path):
    for name, script in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    path, requeued = tmp_path / "run", tmp_path / "requeued"
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(random.randrange(10**6)),  # JAX takes the port from it.
        "REQUEUED": str(requeued),
    }
    done = run(binaries, "cluster/slurm.sh", path, "palindrome", "--config.num_seeds=2", *SMALL, **environment)
    assert done.returncode == 0, done.stderr
    assert seeds(path) == [0, 1]
    assert not requeued.exists()
    # A preempted job: the script goes on, and asks for another start.
    (tmp_path / "srun").write_text('#!/usr/bin/env bash\necho "$@"\nexit 75\n')
    done = run(binaries, "cluster/slurm.sh", path, "palindrome", **environment)
    assert done.returncode == 75
    assert f"--workdir={path} --distributed --resume" in done.stdout
    assert requeued.read_text() == f"requeue {environment['SLURM_JOB_ID']}\n"

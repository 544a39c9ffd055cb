"""The scripts for several processes, run as they are; a stand-in plays Slurm's part."""

import json
import os
import random
import signal
import subprocess
import sys
import time

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


ONE_EACH = {"JAX_NUM_CPU_DEVICES": "1", "XLA_FLAGS": ""}


def run(binaries, *command, **environment):
    environment = {**binaries.environment, "PYTHON": sys.executable, **ONE_EACH, **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


def stand_in(folder, name, script):
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


def seeds(path):
    results = json.loads((path / "results.json").read_text())
    assert results["complete"]
    return [row["seed"] for row in results["runs"]]


def test_several_processes_on_this_machine_start_with_one_command(binaries, tmp_path):
    path = tmp_path / "run"
    done = run(binaries, "cluster/local.sh", "2", path, "palindrome", "--config.num_seeds=2", *SMALL)
    assert done.returncode == 0, done.stderr
    # Only the first process says what came out.
    assert [line for line in done.stdout.splitlines() if line.startswith("LSTM T=2")] == [done.stdout.splitlines()[0]]
    assert seeds(path) == [0, 1]


# A shell that starts the tests in the background has SIGINT ignored.
AS_IN_A_TERMINAL = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.soak
def test_ctrl_c_saves(binaries, tmp_path):
    path = tmp_path / "run"
    command = ["cluster/local.sh", "2", path, "palindrome", *SMALL[:3], "--config.max_steps=60000"]
    environment = {**binaries.environment, "PYTHON": sys.executable, **ONE_EACH}
    with (tmp_path / "log").open("w") as log:
        # A terminal sends it to all processes of its group.
        process = subprocess.Popen(
            [sys.executable, "-c", AS_IN_A_TERMINAL, *command, "--config.tolerance=0.0"],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        while not (path / "metrics.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 75
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said
    assert f"--resume --workdir={path}" in said


@pytest.mark.soak
def test_the_same_command_goes_on(binaries, tmp_path):
    path = tmp_path / "run"
    for num_seeds in (2, 3):
        done = run(binaries, "cluster/local.sh", "2", path, "palindrome", f"--config.num_seeds={num_seeds}", *SMALL)
        assert done.returncode == 0, done.stderr
    assert seeds(path) == [0, 1, 2]


@pytest.mark.parametrize(
    "command",
    [
        ["local.sh"],
        *(["local.sh", number, "run", "palindrome"] for number in ("0", "-1", "abc", "1e3", "")),
        ["slurm.sh"],
        ["slurm.sh", "run"],
    ],
    ids=str,
)
def test_without_sensible_arguments_they_say_how(binaries, command):
    done = run(binaries, f"cluster/{command[0]}", *command[1:])
    assert done.returncode == 2
    assert f"cluster/{command[0]} " in done.stderr
    assert " WORKDIR EXPERIMENT [--config.FIELD=VALUE ...]" in done.stderr


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 0), 0), ((75, 75), 75), ((1, 76), 1), ((134, 2), 2), ((76, 137), 137), ((75, 76), 76)]
)
def test_an_error_to_be_mended_is_what_several_processes_end_with(binaries, tmp_path, codes, expected):
    python = tmp_path / "python"
    python.write_text(
        f"""#!/usr/bin/env bash
case "$*" in
  -c*) echo 1 ;;
  *process_id=0*) exit {codes[0]} ;;
  *) exit {codes[1]} ;;
esac
"""
    )
    python.chmod(0o755)
    done = run(binaries, "cluster/local.sh", "2", tmp_path / "run", "palindrome", PYTHON=str(python))
    assert done.returncode == expected


@pytest.mark.soak
def test_slurm_starts(binaries, tmp_path):
    stand_in(tmp_path, "srun", SRUN)
    stand_in(tmp_path, "scontrol", SCONTROL)
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


@pytest.mark.parametrize(
    ("code", "gets_further", "again"),
    [
        *((code, True, False) for code in (0, 1, 2)),
        (75, False, True),
        *((code, further, further) for code in (76, 134, 137) for further in (True, False)),
    ],
)
def test_slurm_is_asked_to_start_again_what_can_go_on(binaries, tmp_path, code, gets_further, again):
    path, requeued = tmp_path / "run", tmp_path / "requeued"
    (path / "checkpoints/running/9").mkdir(parents=True)
    (path / "config.json").touch()
    further = f"mkdir {path}/checkpoints/running/10" if gets_further else "true"
    stand_in(tmp_path, "srun", f'#!/usr/bin/env bash\necho "$@"\n{further}\nexit {code}\n')
    stand_in(tmp_path, "scontrol", SCONTROL)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "REQUEUED": str(requeued)}
    done = run(binaries, "cluster/slurm.sh", path, "palindrome", **environment)
    assert done.returncode == code
    assert f"--workdir={path} --distributed --resume" in done.stdout
    assert requeued.exists() == again
    if again:
        assert requeued.read_text() == "requeue 7\n"

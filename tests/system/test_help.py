"""What a binary says of itself and of a setting, and what it need not import for that."""

import subprocess
import sys

from processes import ROOT

HEAVY = ("matplotlib.axes", "scipy.sparse", "scipy.stats", "sklearn", "tensorboardX", "torch", "pandas")
PROGRAM = """
import runpy, sys
sys.argv = ["palindrome", "--help"]
try:
    runpy.run_module("experiments.palindrome", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code
print("imported:", *(name for name in sys.modules))
"""


def test_help_names_what_a_field_takes_and_imports_little():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT, check=True)
    shown, _, modules = " ".join(done.stdout.split()).partition("imported:")
    assert "One of gru, gru_cho" in shown
    assert "One of highest, high, default." in shown
    assert shown.count("python -m experiments.palindrome") == 3
    assert not {*HEAVY} & {*modules.split()}


def test_defaults_are_those_of_a_command_without_a_config(binaries):
    shown = " ".join(binaries.run("formal", "--help").stdout.split())
    assert " max_steps=9999 " in shown
    done = binaries.run("formal", "--print_config", hidden_size=32)
    assert [line.split() for line in done.stdout.splitlines() if "by default" in line] == [
        ["hidden_size", "32", "by", "default", "64"]
    ]


def test_print_config_shows_the_setting_and_runs_nothing(binaries, tmp_path):
    swept = ("--sweep=cell=lstm,gru", "--sweep=learning_rate=1e-3,3e-3")
    done = binaries.run("palindrome", "--print_config", *swept, f"--workdir={tmp_path / 'new'}", hidden_size=32)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert "4 x 3 seeds = 12 runs" in done.stdout
    assert ["hidden_size", "32", "by", "default", "256"] in lines
    assert ["cell", "lstm,", "gru", "swept;", "by", "default", "lstm"] in lines
    assert not (tmp_path / "new").exists()


def test_print_config_refuses_what_a_run_would(binaries):
    done = binaries.run("palindrome", "--print_config", "--sweep=cell=lstm,ltsm")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "ltsm" in done.stderr

"""The tutorial, run as it stands but for its sizes."""

import json
import re
import subprocess
import sys

import jax
import matplotlib.pyplot as plt
from processes import ROOT

SMALL = {"DIGITS": 2, "STEPS": 8, "SEEDS": 3, "HIDDEN": 4}
CELLS = json.loads((ROOT / "docs/tutorial.ipynb").read_text())["cells"]
SOURCES = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def test_it_installs_the_folder_beside_it(tmp_path):
    (tmp_path / "jaxrnn").mkdir()
    (tmp_path / "jaxrnn/requirements.txt").touch()
    recorded = "import subprocess, sys; sys.path.insert(0, ''); subprocess.run = lambda command, **_: print(command)"
    # Without the packages that are installed here.
    command = [sys.executable, "-I", "-S", "-c", f"{recorded}\n{SOURCES[0]}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "'install', '--quiet', './jaxrnn'" in done.stdout


def test_the_tutorial_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    names = {}
    with jax.debug_key_reuse(False):  # A notebook's reader may use a key again.
        for source in SOURCES:
            for name, value in SMALL.items():
                source = re.sub(rf"^{name} = \d+", f"{name} = {value}", source, flags=re.MULTILINE)
            exec(source, names)
    plt.close("all")
    assert names["DIGITS"] == SMALL["DIGITS"]
    assert (tmp_path / names["DIRECTORY"] / "results.json").exists()

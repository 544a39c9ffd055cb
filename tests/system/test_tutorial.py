"""The tutorial, run as it stands but for its sizes."""

import json
import re

import jax
import matplotlib.pyplot as plt
from processes import ROOT

SMALL = {"DIGITS": 2, "STEPS": 8, "SEEDS": 3, "HIDDEN": 4}


def test_the_tutorial_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    cells = [
        cell for cell in json.loads((ROOT / "docs/tutorial.ipynb").read_text())["cells"] if cell["cell_type"] == "code"
    ]
    names = {}
    with jax.debug_key_reuse(False):  # A notebook's reader may use a key again.
        for cell in cells:
            source = "".join(cell["source"])
            for name, value in SMALL.items():
                source = re.sub(rf"^{name} = \d+", f"{name} = {value}", source, flags=re.MULTILINE)
            exec(source, names)
    plt.close("all")
    assert names["DIGITS"] == SMALL["DIGITS"]
    assert (tmp_path / names["DIRECTORY"] / "results.json").exists()

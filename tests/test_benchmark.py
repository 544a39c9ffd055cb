import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs.palindrome import Config
from experiments import benchmark
from experiments.benchmark import Comparison, Measurement, Row, Variant
from experiments.launch import ROOT
from jaxrnn import plots
from jaxrnn.cells import CELLS, LSTMParams, PeepholeParams
from jaxrnn.unroll import unroll

TINY = {"batch_size": 2, "hidden_size": 3, "chunk_steps": 2}


class FakeClock:
    """Time that passes only in the steps of its variants, which note their turns."""

    def __init__(self):
        self.now = 0.0
        self.turns = ""

    def __call__(self):
        return self.now

    def variant(self, name, group, durations, steps_per_call, flops):
        remaining = iter(durations)

        def step():
            self.now += next(remaining)
            self.turns += name[0]

        return Variant(name, group, step, steps_per_call, flops)


def test_only_what_was_timed_in_the_same_turn_is_compared():
    clock = FakeClock()
    comparison = Comparison(
        "a title",
        [
            clock.variant("jaxrnn", "lstm", [50, 4, 8, 12], steps_per_call=2, flops=30),
            clock.variant("Flax", "lstm", [50, 2, 16, 18], steps_per_call=2, flops=30),
            clock.variant("torch", "peephole", [50, 5, 5, 5], steps_per_call=1, flops=20),
            Variant("absent", "lstm", None, 2, 30),
        ],
        clock.variant("a @ a", "product", [50, 2, 1, 4], steps_per_call=1, flops=80),
    )

    title, (ours, flax, alone, absent, product), rate = benchmark.measure(comparison, 3, clock)

    assert title == "a title"
    assert clock.turns == "jFta" * 4
    assert ours.seconds == [2, 4, 6]
    assert flax.seconds == [1, 8, 9]
    assert (ours.ratio, flax.ratio, alone.ratio) == (1, 1.5, None)  # the medians of 1/2, 8/4, 9/6
    # The rates are 40, 80 and 20, so the limit is 3/4, 3/8 and 3/2 of a second; shares 3/4, 3/64 and 1/6 for Flax.
    assert flax.share == pytest.approx(1 / 6)
    assert ours.share == pytest.approx(1 / 4)
    assert alone.share == pytest.approx(1 / 10)
    assert (product.share, rate) == (1, 40)
    assert absent == Row("absent", "lstm")


@pytest.fixture
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.usefixtures("quick_compilation")
def test_the_recurrent_suite_end_to_end(tmp_path):
    pytest.importorskip("torch")
    (comparison,) = benchmark.recurrent(digits=1, product_size=8, **TINY)
    measured = benchmark.measure(comparison, 1)
    benchmark.write(tmp_path, benchmark.settings(), [measured])

    assert [(row.group, row.name) for row in measured.rows] == [
        ("lstm", "jaxrnn"),
        ("lstm", "jaxrnn, plain autodiff"),
        ("lstm", "Flax nn.RNN(OptimizedLSTMCell)"),
        ("lstm", "PyTorch nn.LSTM"),
        ("lstm", "PyTorch, loop over t"),
        ("peephole", "jaxrnn"),
        ("peephole", "PyTorch, loop over t"),
        ("product", "a @ a, 8 x 8"),
    ]
    # T=9, B=2, H=3: three products of 2 T B H U, U being 4H and 3H.
    assert [variant.flops for variant in comparison.variants] == 5 * [3 * 2 * 9 * 2 * 3 * 12] + 2 * [
        3 * 2 * 9 * 2 * 3 * 9
    ]
    assert all(row.seconds and row.seconds[0] > 0 for row in measured.rows)
    assert [row.compile_seconds is None for row in measured.rows] == [False] * 3 + [True] * 2 + [False, True, False]

    saved = json.loads((tmp_path / "benchmark.json").read_text())
    assert saved["precision"] == "float32, products highest"
    assert saved["comparisons"][0]["rate"] == measured.rate
    assert [row["share"] for row in saved["comparisons"][0]["rows"]] == [row.share for row in measured.rows]
    lines = (tmp_path / "benchmark.md").read_text().splitlines()
    assert "T=9, B=2, H=3, D=18" in lines[0]
    assert [line.split(" | ")[1] for line in lines if line.startswith("| ")][2:] == [row.name for row in measured.rows]
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")


def test_without_pytorch_its_row_says_so(monkeypatch):
    monkeypatch.setattr(benchmark, "torch_version", lambda: None)
    variant = benchmark._torch_variant("PyTorch nn.LSTM", Config(), None)
    row = Row(variant.name, variant.group)

    table = benchmark.table(Measurement("a title", [row], 1e9), benchmark.settings())

    assert variant.step is None
    assert table.rows == [["lstm", "PyTorch nn.LSTM", "not installed", "-", "-", "-", "-"]]
    assert "torch not installed" in table.caption


def test_the_table_is_in_milliseconds_and_percent():
    row = Row("Flax", "lstm", seconds=[0.5, 0.25, 0.125], ratio=1.4567, share=0.625, compile_seconds=2.34)

    table = benchmark.table(Measurement("a title", [row], 3.5e11), benchmark.settings())

    assert table.rows == [["lstm", "Flax", "250", "125 to 500", "1.46", "62%", "2.3"]]
    assert "350 GFLOP/s" in table.caption


@pytest.mark.parametrize(
    ("cell", "loop", "fields"),
    [
        ("lstm", benchmark.LSTM_LOOP, {"w_x": ("ifgo", "x"), "w_h": ("ifgo", "h"), "b": ("ifgo", "b")}),
        ("peephole", benchmark.PEEPHOLE_LOOP, {"w_x": ("fioc", "x"), "w_c": ("fio", "h"), "b": ("fioc", "b")}),
    ],
)
def test_the_loops_in_pytorch_are_the_same_cells(cell, loop, fields):
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    shapes = {"x": (5, 3), "h": (3, 3), "b": (3,)}
    weights = {name: generator.normal(size=shapes[name[1]]).astype(np.float32) for name in loop.weights}
    xs_tbd = generator.normal(size=(7, 2, 5)).astype(np.float32)
    params_type = {"lstm": LSTMParams, "peephole": PeepholeParams}[cell]
    params = params_type(
        **{
            field: np.concatenate([weights[gate + role] for gate in gates], -1)
            for field, (gates, role) in fields.items()
        }
    )

    h = loop.last_hidden({name: torch.tensor(w) for name, w in weights.items()}, torch.tensor(xs_tbd))

    carry, _ = unroll(CELLS[cell], params, xs_tbd)
    np.testing.assert_allclose(h.numpy(), carry.h, rtol=1e-5, atol=1e-6)


def test_shares_of_limit_draws_a_bar_for_each_variant_from_the_top():
    figure = plots.shares_of_limit({"T=41": {"jaxrnn": 0.66, "Flax": 0.4}, "T=81": {"jaxrnn": 0.7}})

    assert [[bar.get_width() for bar in axes.patches] for axes in figure.axes] == [[0.66, 0.4], [0.7]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["jaxrnn", "Flax"]
    assert figure.axes[0].yaxis_inverted()


@pytest.mark.parametrize(("flag", "said"), [("--suite=txt", "recurrent"), (f"--out={__file__}", "--out=")])
def test_bad_flags_are_one_line(flag, said):
    command = [sys.executable, "-m", "experiments.benchmark", flag]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""

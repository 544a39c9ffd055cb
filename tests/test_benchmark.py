import errno
import json
import os
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.experimental import rnn

import configs.nodes
import configs.text
from configs.palindrome import Config
from experiments import benchmark, launch, nodes, text
from experiments.benchmark import Comparison, Measurement, Memory, Row, Variant
from experiments.torch_weights import import_weights
from jaxrnn.cells import CELLS, LSTMParams, PeepholeParams
from jaxrnn.nn.generate import Greedy, Sampler
from jaxrnn.recurrence import unroll
from jaxrnn.rundir.directory import RunError
from jaxrnn.study import plots

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
        "step",
        "some products",
    )

    *what, (ours, flax, alone, absent, product), rate, memory_rate = benchmark.measure(comparison, 3, clock)

    assert what == ["a title", "step", "some products"]
    assert clock.turns == "jFta" * 4
    assert ours.seconds == [2, 4, 6]
    assert flax.seconds == [1, 8, 9]
    assert (ours.ratio, flax.ratio, alone.ratio) == (1, 1.5, None)  # the medians of 1/2, 8/4, 9/6
    # The rates are 40, 80 and 20, so the limit is 3/4, 3/8 and 3/2 of a second; shares 3/4, 3/64 and 1/6 for Flax.
    assert flax.share == pytest.approx(1 / 6)
    assert ours.share == pytest.approx(1 / 4)
    assert alone.share == pytest.approx(1 / 10)
    assert (product.share, rate) == (1, 40)
    assert (ours.memory_share, product.memory_share, memory_rate) == (None, None, None)
    assert absent == Row("absent", "lstm")


def test_the_limit_of_memory_is_that_of_what_was_copied_in_the_same_turn():
    clock = FakeClock()
    comparison = Comparison(
        "a title",
        [
            clock.variant("jaxrnn", "lstm", [50, 4, 8, 12], steps_per_call=2, flops=30),
            clock.variant("jaxrnn", "gru", [50, 4, 8, 12], steps_per_call=2, flops=30),
        ],
        clock.variant("a @ a", "product", [50, 2, 1, 4], steps_per_call=1, flops=80),
        "step",
        "some products",
        Memory(clock.variant("copy", "memory", [50, 2, 10, 1], steps_per_call=2, flops=0), 100, {"lstm": 50}),
    )

    *_, (ours, other, copy, product), rate, memory_rate = benchmark.measure(comparison, 3, clock)

    assert clock.turns == "jjca" * 4
    # 100 bytes in 1, 5 and 1/2 seconds, so that 50 take 1/2, 5/2 and 1/4.
    assert ours.memory_share == pytest.approx(1 / 4)  # The median of 1/4, 5/8 and 1/24.
    assert (other.memory_share, product.memory_share) == (None, None)
    assert (copy.share, copy.memory_share, copy.ratio, memory_rate, rate) == (None, 1, None, 100, 40)


def test_the_recurrent_suite_end_to_end(tmp_path):
    pytest.importorskip("torch")
    (comparison,) = benchmark.recurrent(digits=1, product_size=8, memory_size=1000, **TINY)
    measured = benchmark.measure(comparison, 1)
    benchmark.write(tmp_path, benchmark.settings(), [measured])

    assert [(row.group, row.name) for row in measured.rows] == [
        ("lstm", "jaxrnn"),
        ("lstm", "jaxrnn, without gates"),
        ("lstm", "jaxrnn, plain autodiff"),
        ("lstm", "Flax nn.RNN(OptimizedLSTMCell)"),
        ("lstm", "PyTorch nn.LSTM"),
        ("lstm", "PyTorch, loop over t"),
        ("peephole", "jaxrnn"),
        ("peephole", "PyTorch, loop over t"),
        ("memory", "0.004 MB read and written"),
        ("product", "a @ a, 8 x 8"),
    ]
    # T=9, B=2, H=3: three products of 2 T B H U, U being 4H and 3H.
    assert [variant.flops for variant in comparison.variants] == 6 * [3 * 2 * 9 * 2 * 3 * 12] + 2 * [
        3 * 2 * 9 * 2 * 3 * 9
    ]
    assert all(row.seconds and row.seconds[0] > 0 for row in measured.rows)
    assert [row.compile_seconds is None for row in measured.rows] == [False] * 4 + [True] * 2 + [
        False,
        True,
        False,
        False,
    ]
    # A position of a sequence: U=12 numbers six times, H=3 four times, and the two states five times; U=9 for peephole.
    assert comparison.memory.traffic == {
        "lstm": 4 * 9 * (2 * (6 * 12 + 4 * 3 + 5 * 6) + 2 * 3 * 12),
        "peephole": 4 * 9 * (2 * (6 * 9 + 4 * 3 + 5 * 6) + 2 * 3 * 9),
    }
    assert comparison.memory.copied == 8000

    saved = json.loads((tmp_path / "benchmark.json").read_text())
    assert saved["precision"] == "float32, products highest"
    assert saved["comparisons"][0]["unit"] == "step"
    assert saved["comparisons"][0]["rate"] == measured.rate
    assert [row["share"] for row in saved["comparisons"][0]["rows"]] == [row.share for row in measured.rows]
    lines = (tmp_path / "benchmark.md").read_text().splitlines()
    assert "T=9, B=2, H=3, D=18" in lines[0]
    assert [line.split(" | ")[1] for line in lines if line.startswith("| ")][2:] == [row.name for row in measured.rows]
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")


def test_the_suite_of_tables_takes_every_arms_steps(monkeypatch):
    pytest.importorskip("torch")
    taken = []
    monkeypatch.setattr(jax, "block_until_ready", lambda result: taken.append(result[0].step.tolist()) or result)
    steps = {("lstm", 1): 3, ("peephole", 3): 1}
    (comparison,) = benchmark.tables(batch_size=2, hidden_size=3, steps=steps, product_size=8)
    ours, alone, loop = comparison.variants
    ours.step()
    alone.step()
    # Two CPU devices, a lane on each.
    assert taken == [[3, 3], [1, 1], [3], [1]]
    assert (ours.steps_per_call, alone.steps_per_call, loop.steps_per_call) == (8, 4, 4)
    # T=9 and 17, B=2, H=3, U=4H and 3H, with weights 3 and 1.
    assert ours.flops == loop.flops == (3 * 6 * 9 * 2 * 3 * 12 + 6 * 17 * 2 * 3 * 9) // 4
    assert (ours.compile_seconds > 0, loop.compile_seconds) == (True, None)
    assert "lstm of 1 digits 3, peephole of 3 digits 1" in comparison.title
    monkeypatch.undo()
    assert all(row.seconds[0] > 0 for row in benchmark.measure(comparison, 1).rows)


def test_what_the_study_does_to_a_large_batch_has_variants_without_it(monkeypatch):
    trainers = {}

    def noting(name, group, config, trainer, flops, lanes=1):
        trainers[group, name] = trainer
        return Variant(name, group, None, 1, flops)

    monkeypatch.setattr(benchmark, "_trained", noting)
    list(benchmark.recurrent(digits=3, batch_size=128, hidden_size=3, product_size=8, memory_size=8))

    def does(trainer):
        """Into how many parts it divides a batch, and whether few rows walk what all have in common."""
        state = jax.eval_shape(trainer.init, 0, 1e-3)
        return trainer.parts, "[4,12]" in str(jax.make_jaxpr(trainer.chunk)(state, 1))

    assert {name: does(trainer) for (group, name), trainer in trainers.items() if group == "lstm"} == {
        "jaxrnn": (2, True),
        "jaxrnn, without gates": (2, True),
        "jaxrnn, padding not shared": (2, False),
        "jaxrnn, the batch not divided either": (1, False),
        "jaxrnn, plain autodiff": (1, False),
        "Flax nn.RNN(OptimizedLSTMCell)": (1, False),
        "Flax nn.RNN(OptimizedLSTMCell), the batch divided": (2, False),
    }


def test_the_suite_of_seeds_is_by_their_number():
    problems = [({"digits": 1, **TINY}, (1, 3)), ({"digits": 3, **TINY}, (2,))]
    small, large = benchmark.many_seeds(problems, product_size=8, memory_size=1000)
    names = [variant.name for variant in small.variants]
    assert names == ["jaxrnn", "jaxrnn, 1 in a program", "jaxrnn, 4 in a program", "PyTorch nn.LSTM, one seed"]
    # Two CPU devices, a lane on each; three lanes take as long as four.
    assert [variant.steps_per_call for variant in small.variants][:3] == [2 * TINY["chunk_steps"], 2, 8]
    assert "T=9, B=2, H=3, by the seeds in a program; the default is 2" in small.title
    assert "T=17, " in large.title
    measured = benchmark.measure(small, 1)
    assert all(row.seconds and row.seconds[0] > 0 for row in measured.rows if "PyTorch" not in row.name)


@pytest.fixture
def cudnn_by_reference(monkeypatch):
    """JAX's own reference of cuDNN's layer in its place."""

    def lstm(x, h_0, c_0, weights, lengths, input_size, hidden_size, num_layers, dropout, bidirectional, precision):
        assert precision == "highest"
        assert type(x).__name__ != "BatchTracer", "cuDNN has no batching rule"
        sizes = input_size, hidden_size, num_layers
        unpacked = rnn.unpack_lstm_weights(weights, *sizes, bidirectional)
        return rnn.lstm_ref(x, h_0, c_0, *unpacked, lengths, *sizes, dropout, bidirectional)

    monkeypatch.setattr(rnn, "lstm", lstm)


def test_cudnns_layer_is_our_lstm(cudnn_by_reference):
    layer, xs_tbd = benchmark.CudnnLSTM(3), jax.random.normal(jax.random.key(0), (5, 2, 4))
    variables = layer.init(jax.random.key(1), xs_tbd)
    w_ih, w_hh, b_ih, b_hh = (w[0] for w in rnn.unpack_lstm_weights(variables["params"]["weights"], 4, 3, 1, False))
    _, expected = unroll(CELLS["lstm"], LSTMParams(w_ih.T, w_hh.T, b_ih + b_hh), xs_tbd)
    np.testing.assert_allclose(layer.apply(variables, xs_tbd), expected, rtol=1e-5, atol=1e-6)


def test_on_a_gpu_cudnn_takes_part(cudnn_by_reference, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    (comparison,) = benchmark.many_seeds([({"digits": 1, **TINY}, (1, 4))], product_size=8, memory_size=1000)
    assert [variant.name for variant in comparison.variants] == [
        "jaxrnn",
        "jaxrnn, 1 in a program",
        "cuDNN, jax.experimental.rnn, one seed",
        "PyTorch nn.LSTM, one seed",
    ]
    # The default there is all seeds at once.
    assert "the default is 4" in comparison.title
    assert [numbers for _, numbers in benchmark.seeds_together()] == [(1, 8, 32, 128)] * 2
    _, _, cudnn, _ = comparison.variants
    cudnn.step()
    assert (cudnn.steps_per_call, cudnn.flops) == (2, 6 * 9 * 2 * 3 * 12)


SMALL = {"num_characters": 7, "embedding_size": 3, "hidden_size": 4}
SMALL_CONFIG = configs.text.Config(embedding_size=3, hidden_size=4)
# H=4, V=7: [4, 16] three times (two layers' carries, the second's input) and the head.
SMALL_PRODUCTS = 3 * 4 * 16 + 4 * 7


def test_a_call_of_ours_is_as_many_steps_as_it_says(monkeypatch):
    steps = []
    monkeypatch.setattr(jax, "block_until_ready", lambda result: steps.append(int(result[0].step[0])) or result)
    config = Config(digits=1, max_steps=2**31 - 2, tolerance=0.0, **TINY)
    variant = benchmark._trained("jaxrnn", "lstm", config, benchmark.build_study(config).trainer, 1)
    for _ in range(3):
        variant.step()
    assert steps == [2, 4, 6]
    assert variant.steps_per_call == 2


def test_the_text_suite():
    pytest.importorskip("torch")
    (comparison,) = benchmark.text_training(**SMALL, seq_length=5, batch_size=2, chunk_steps=2, product_size=8)
    measured = benchmark.measure(comparison, 1)

    assert [(row.group, row.name) for row in measured.rows] == [
        ("lstm", "jaxrnn"),
        ("lstm", "jaxrnn, without gates"),
        ("lstm", "Flax nn.RNN(OptimizedLSTMCell)"),
        ("lstm", "PyTorch nn.LSTM"),
        ("product", "a @ a, 8 x 8"),
    ]
    # T=5, B=2, three products a step.
    assert [variant.flops for variant in comparison.variants] == 4 * [3 * 2 * 5 * 2 * SMALL_PRODUCTS]
    assert all(row.seconds and row.seconds[0] > 0 for row in measured.rows)
    assert "T=5, B=2, H=4, D=3, V=7, 2 steps a call" in measured.title


def test_flax_has_the_same_layers():
    model = text.build_model(SMALL_CONFIG, 7)
    flax = benchmark.FlaxCharLM(7, 3, 4, num_layers=2)
    tokens_tb = np.zeros((5, 2), np.int32)

    (carries, logits_tbv), params = jax.eval_shape(flax.init_with_output, jax.random.key(0), tokens_tb)

    ours = jax.eval_shape(model.init, jax.random.key(0), tokens_tb)
    assert sum(x.size for x in jax.tree.leaves(params)) == sum(x.size for x in jax.tree.leaves(ours))
    assert (carries, logits_tbv.shape) == ((), (5, 2, 7))


def test_without_gates_there_are_the_same_products_and_none_of_the_rest():
    model, tokens_tb = text.build_model(SMALL_CONFIG, 7), np.zeros((5, 2), np.int32)
    params = model.init(jax.random.key(0), tokens_tb)

    def operations(model):
        def loss(params):
            return (model.apply(params, tokens_tb)[1] ** 2).sum()

        compiled_from = jax.jit(jax.grad(loss)).lower(params).as_text()
        products = [line.split(" : ")[-1] for line in compiled_from.splitlines() if "dot_general" in line]
        return sorted(products), [compiled_from.count(f"stablehlo.{name} ") for name in ("tanh", "exponential")]

    products, curves = operations(model)
    without, none = operations(model.clone(cell=benchmark.GATELESS))
    assert without == products
    assert len(products) == 4 * 3 + 4  # SMALL_PRODUCTS' four, forward and twice backward, and the table's.
    assert min(curves) > 0
    assert none == [0, 0]


def test_the_sampling_suite():
    pytest.importorskip("torch")
    (comparison,) = benchmark.sampling(**SMALL, length=6, batch_sizes=(1, 3), product_size=8)
    measured = benchmark.measure(comparison, 1)

    assert [(row.group, row.name, row.compile_seconds is None) for row in measured.rows] == [
        ("batch 1", "jaxrnn", False),
        ("batch 1", "jaxrnn, without gates", False),
        ("batch 1", "PyTorch, a call a character", True),
        ("batch 3", "jaxrnn", False),
        ("batch 3", "jaxrnn, without gates", False),
        ("batch 3", "PyTorch, a call a character", True),
        ("product", "a @ a, 8 x 8", False),
    ]
    # The first of the 6 characters is given.
    assert [variant.steps_per_call for variant in comparison.variants] == [5, 5, 5, 15, 15, 15]
    assert {variant.flops for variant in comparison.variants} == {2 * SMALL_PRODUCTS}
    assert all(row.seconds and row.seconds[0] > 0 for row in measured.rows)
    assert measured.unit == "character"


def test_the_character_lstm_in_pytorch_is_the_same_model_and_writes_the_same():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config = configs.text.Config(embedding_size=5, hidden_size=8)
    theirs = benchmark.torch_char_lm(torch, config, 7)
    # Logits so far apart that a draw is the most likely character.
    theirs["head"].weight.data *= 1e4
    params = import_weights({name: array.numpy() for name, array in theirs.state_dict().items()})
    model = text.build_model(config, 7)
    starts = np.arange(6, dtype=np.int32)

    keys = jax.random.split(jax.random.key(0), 6)
    tokens_lb = text.continuations(model, params, list(starts[:, None]), keys, Greedy(), 12)

    torch_tokens_lb = benchmark.torch_continuations(torch, theirs, torch.tensor(starts, dtype=torch.int64), 12)
    np.testing.assert_array_equal(torch_tokens_lb.numpy(), tokens_lb)
    assert len(np.unique(tokens_lb)) > 2
    with torch.inference_mode():
        expected, _ = benchmark.torch_logits(theirs, torch.tensor(np.asarray(tokens_lb[:-1]), dtype=torch.int64))
    _, logits = model.apply({"params": params}, tokens_lb[:-1])
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-4, atol=1)


def test_texts_are_compiled_once_for_equal_settings(monkeypatch):
    traced = []
    generate = text.generate

    def counted(*args):
        traced.append(args[-1])
        return generate(*args)

    monkeypatch.setattr(text, "generate", counted)
    keys = jax.random.split(jax.random.key(0), 2)
    shapes = jax.eval_shape(text.build_model(SMALL_CONFIG, 9).init, keys[0], np.zeros((1, 1), np.int32))["params"]
    texts = []
    for length, tau, seed in [(40, 0.7, 0), (40, 0.7, 1), (40, 0.6, 1), (50, 0.6, 1)]:
        draw = np.random.default_rng(seed).normal
        params = jax.tree.map(lambda x, draw=draw: draw(size=x.shape).astype(x.dtype), shapes)
        model = text.build_model(SMALL_CONFIG, 9)
        texts.append(text.continuations(model, params, [np.zeros(1)] * 2, keys, Sampler(tau), length))

    # The weights and tau are no part of the program.
    assert traced == [40, 50]
    assert not np.array_equal(texts[0], texts[1])
    assert not np.array_equal(texts[1], texts[2])


KARATE = configs.nodes.Config()


def test_the_graph_suite_end_to_end():
    pytest.importorskip("torch_geometric")
    (comparison,) = benchmark.graph_training(dataset="karate", chunk_steps=2, product_size=8)
    measured = benchmark.measure(comparison, 1)

    assert [(row.group, row.name) for row in measured.rows] == [
        ("gcn", "jaxrnn"),
        ("gcn", "PyTorch Geometric"),
        ("gat", "jaxrnn"),
        ("gat", "PyTorch Geometric"),
        ("product", "a @ a, 8 x 8"),
    ]
    assert all(row.seconds and row.seconds[0] > 0 for row in measured.rows)
    assert "karate, an epoch, validation included, N=34, D=34 (1 of them not zero), E=156, 2 a call" in measured.title


def test_products_with_zeros_do_not_count():
    task = nodes.load_task(KARATE)
    # 34 features, 156 edges and 34 self-loops; 16 hidden units, 2 classes. Each product is there in training and in
    # validation. Backward, features and the edges' weights get no gradient; a GAT's weights of edges do.
    features, dense, edges = 34 * 16, 34 * 16 * 2, 190 * (16 + 2)
    assert benchmark.graph_flops(KARATE, task) == 2 * (3 * features + 4 * dense + 3 * edges)
    features, dense, edges = 34 * 64, 34 * 64 * 2, 190 * (64 + 2)
    assert benchmark.graph_flops(configs.nodes.GAT, task) == 2 * (3 * features + 4 * dense + 4 * edges)


@pytest.mark.parametrize("config", [configs.nodes.Config(), configs.nodes.GAT], ids=["gcn", "gat"])
def test_the_node_classifiers_in_pytorch_geometric_are_the_same_models(config):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_geometric")
    task = nodes.load_task(KARATE)
    model = nodes.build_model(config)
    adjacency, features = nodes.inputs(config)
    params = model.init(jax.random.key(0), adjacency, features)["params"]
    theirs = benchmark.torch_node_classifier(torch, config, 34, 2).eval()
    for i, layer in enumerate(theirs):
        ours = {name: torch.tensor(np.asarray(w)) for name, w in params[f"layer_{i}"].items()}
        layer.lin.weight.data = ours["w"].flatten(1).T
        if config.model == "gat":
            layer.bias.data = ours["b"].flatten()
            layer.att_src.data, layer.att_dst.data = ours["a_sender"][None], ours["a_receiver"][None]
    x = torch.tensor(task.features.toarray(), dtype=torch.float32)
    ends = torch.tensor(np.stack(task.edges), dtype=torch.int64)

    with torch.no_grad():
        logits = benchmark.torch_node_logits(torch, config, theirs, x, ends)

    expected, _ = model.apply({"params": params}, adjacency, features)
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-4, atol=1e-5)


TORCH = [
    ("lstm", "PyTorch nn.LSTM", lambda name: benchmark._torch_classifier(name, Config(), None)),
    (
        "all arms",
        benchmark.TORCH_LOOP,
        lambda name: benchmark._one_after_another([benchmark._torch_classifier(name, Config(), None)] * 2),
    ),
    ("lstm", "in text", lambda name: benchmark._torch_text(name, configs.text.Config(), np.zeros(99), 7, 1)),
    ("batch 2", "in sampling", lambda name: benchmark._torch_sampling(name, configs.text.Config(), 7, 2, 9, 1)),
    ("gcn", benchmark.PYG, lambda _: benchmark._torch_nodes(configs.nodes.Config(), nodes.load_task(KARATE))),
]


@pytest.mark.parametrize(("group", "name", "build"), TORCH)
def test_without_pytorch_its_row_says_so(monkeypatch, group, name, build):
    monkeypatch.setattr(benchmark, "installed", lambda _: None)
    variant = build(name)
    row = Row(variant.name, variant.group)

    table = benchmark.table(Measurement("a title", "step", "products", [row], 1e9), benchmark.settings())

    assert variant.step is None
    assert table.rows == [[group, name, "not installed", "-", "-", "-", "-", "-"]]
    assert "torch not installed" in table.caption


@pytest.mark.parametrize(
    ("seconds", "cells"),
    [
        ([0.5, 0.25, 0.125], ["250", "125 to 500", "4"]),
        ([6.4e-5, 6.4e-5, 6.4e-5], ["0.064", "0.064 to 0.064", "15620"]),
    ],
)
def test_the_table_is_in_milliseconds_and_percent(seconds, cells):
    row = Row("Flax", "lstm", seconds=seconds, ratio=1.4567, share=0.625, compile_seconds=2.34)

    measured = Measurement("a title", "character", "some products", [row], 3.5e11)
    table = benchmark.table(measured, benchmark.settings())

    assert table.columns[2:5] == ("ms a character", "min to max", "characters a second")
    assert table.rows == [["lstm", "Flax", *cells, "1.46", "62%", "2.3"]]
    assert "some products alone at the last row's 350 GFLOP/s" in table.caption
    assert "memory" not in table.caption

    row, absent = row._replace(memory_share=1.25), Row("torch", "lstm")
    measured = Measurement("a title", "character", "some products", [row, absent], 3.5e11, memory_rate=2.5e10)
    table = benchmark.table(measured, benchmark.settings())

    assert table.columns[6:] == ("share of the limit", "share of memory's limit", "compile, s")
    assert table.rows[0] == ["lstm", "Flax", *cells, "1.46", "62%", "125%", "2.3"]
    assert table.rows[1] == ["lstm", "torch", "not installed", *["-"] * 6]
    assert "at the 25 GB/s of the row before" in table.caption


@pytest.mark.parametrize(
    ("cell", "fields"),
    [
        ("lstm", {"w_x": ("ifgo", "x"), "w_h": ("ifgo", "h"), "b": ("ifgo", "b")}),
        ("peephole", {"w_x": ("fioc", "x"), "w_c": ("fio", "h"), "b": ("fioc", "b")}),
    ],
)
def test_the_loops_in_pytorch_are_the_same_cells(cell, fields):
    torch = pytest.importorskip("torch")
    generator, loop = np.random.default_rng(0), benchmark.LOOPS[cell]
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


def test_a_disk_that_fills_up_is_one_line(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def comparisons():
        clock = FakeClock()
        product = clock.variant("a @ a", "product", [1, 1], steps_per_call=1, flops=1)
        yield Comparison("a", [clock.variant("jaxrnn", "lstm", [1, 1], 1, 1)], product, "step", "all")

    given = SimpleNamespace(suite=["a"], repeats=1, out=str(tmp_path / "out"))
    monkeypatch.setattr(benchmark.flags, "FLAGS", given)
    monkeypatch.setattr(benchmark, "SUITES", {"a": comparisons})
    with monkeypatch.context() as patch, pytest.raises(RunError, match="out: cannot be written: No space left"):
        patch.setattr(benchmark, "write", full)
        benchmark.main([])
    assert list((tmp_path / "out").iterdir()) == []


def test_what_was_measured_is_kept_if_what_follows_fails(monkeypatch, tmp_path, capsys):
    def comparisons():
        clock = FakeClock()
        for title in "ab":
            product = clock.variant("a @ a", "product", [1, 1], steps_per_call=1, flops=1)
            yield Comparison(title, [clock.variant("jaxrnn", "lstm", [1, 1], 1, 1)], product, "step", "all")
        raise MemoryError

    given = SimpleNamespace(suite=["a"], repeats=1, out=str(tmp_path))
    monkeypatch.setattr(benchmark.flags, "FLAGS", given)
    monkeypatch.setattr(benchmark, "SUITES", {"a": comparisons})
    with pytest.raises(launch.OutOfMemoryError, match="out of memory; take smaller sizes"):
        benchmark.main([])
    kept = json.loads((tmp_path / "benchmark.json").read_text())["comparisons"]
    assert [one["title"] for one in kept] == ["a", "b"]
    assert capsys.readouterr().out.count("| lstm | jaxrnn |") == 2


@pytest.mark.parametrize(("flag", "said"), [("--suite=txt", "recurrent"), (f"--out={__file__}", "--out=")])
def test_bad_flags_are_one_line(binaries, flag, said):
    ended = binaries.run("benchmark", flag)

    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""

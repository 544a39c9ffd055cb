"""Turns and ratios by a clock of our own; suites in small; each peer against our model with the same weights."""

import errno
import itertools
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import configs.molecules
import configs.nodes
import configs.text
from configs.formal import Config
from experiments import _cli, nodes, text
from experiments.benchmark import __main__ as binary
from experiments.benchmark import graph_recurrent, grid, molecules, peers, scan, speed, suites, tables
from experiments.benchmark.harness import Comparison, Variant, large_product, measure, training_variant
from experiments.torch_weights import import_weights
from jaxrnn.cells import CELLS, LSTMParams, PeepholeParams, graph_cell, graph_gru_cho
from jaxrnn.data import nodes as node_data
from jaxrnn.graph import molecules as graph
from jaxrnn.nn.generate import Greedy, generate
from jaxrnn.recurrence import unroll
from jaxrnn.rundir.directory import RunError
from jaxrnn.study.format import NONE

TINY = Config(digits=1, batch_size=2, hidden_size=3, chunk_steps=2)
TINY_TEXT = configs.text.Config(embedding_size=3, hidden_size=4, seq_length=5, batch_size=2, chunk_steps=2)
# H=4, V=7: [4, 16] three times (two layers' carries, the second's input) and the head.
TINY_PRODUCTS = 3 * 4 * 16 + 4 * 7
TINY_FINGERPRINT = configs.molecules.Config(
    hidden_size=5, num_layers=2, fingerprint_size=4, batch_size=20, chunk_steps=2
)
KARATE = configs.nodes.Config()


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
        "key",
        "a title",
        [
            clock.variant("jaxrnn", "lstm", [50, 4, 8, 12], steps_per_call=2, flops=30),
            clock.variant("Flax", "lstm", [50, 2, 16, 18], steps_per_call=2, flops=30),
            clock.variant("torch", "peephole", [50, 5, 5, 5], steps_per_call=1, flops=20),
        ],
        "step",
        "some products",
    )

    product = clock.variant("a @ a", "product", [50, 2, 1, 4], steps_per_call=1, flops=80)
    measured = measure(comparison, product, 3, clock)

    ours, flax, alone, product = measured["rows"]
    assert clock.turns == "jFta" * 4
    assert (measured["key"], measured["rate"]) == ("key", 40)
    assert (ours["seconds"], flax["seconds"]) == ([2, 4, 6], [1, 8, 9])
    assert (ours["ratio"], flax["ratio"], alone["ratio"]) == (1, 1.5, None)  # The medians of 1/2, 8/4, 9/6.
    # The rates are 40, 80 and 20, so the limit is 3/4, 3/8 and 3/2 of a second; shares 3/4, 3/64 and 1/6 for Flax.
    assert [row["share"] for row in (ours, flax, alone, product)] == pytest.approx([1 / 4, 1 / 6, 1 / 10, 1])


def test_a_short_call_is_timed_after_one_like_it():
    clock = FakeClock()
    quick = clock.variant("jaxrnn", "lstm", [0.01, 5, 0.25, 5, 0.5], steps_per_call=1, flops=1)
    product = clock.variant("a @ a", "product", [8, 8, 8], steps_per_call=1, flops=1)
    measured = measure(Comparison("key", "a title", [quick], "step", "some products"), product, 2, clock)
    assert measured["rows"][0]["seconds"] == [0.25, 0.5]
    assert clock.turns == "jajjajja"


def is_there(name):
    """Rows of libraries that are not installed are left out."""
    packages = {
        "Temporal": "torch_geometric_temporal",
        "Geometric": "torch_geometric",
        "PyTorch": "torch",
        "memax": "memax",
    }
    needed = next((package for part, package in packages.items() if part in name), None)
    return needed is None or peers.version(needed) is not None


def check_suite(comparison, rows, flops):
    """Measures a suite once: its rows are as expected, all with times."""
    measured = measure(comparison, large_product(8), 1)
    expected = [(group, name, count) for (group, name), count in zip(rows, flops, strict=True) if is_there(name)]
    assert [(variant.group, variant.name, variant.flops) for variant in comparison.variants] == expected
    assert measured["rows"][-1]["name"] == "a @ a, 8 x 8"
    for row in measured["rows"]:
        assert len(row["seconds"]) == 1
        assert ("PyTorch" in row["name"]) == (row["compile_seconds"] is None)
    return measured


def test_the_recurrent_suite_and_what_is_written(tmp_path):
    (comparison,) = suites.recurrent(TINY)
    own = ["jaxrnn", suites.NOT_SHARED, suites.PLAIN, "jaxrnn, plain autodiff"]
    rows = [("lstm", name) for name in (*own, peers.FLAX)] + [("peephole", "jaxrnn")]
    rows += [("lstm", peers.TORCH_LSTM), ("lstm", peers.TORCH_LOOP), ("peephole", peers.TORCH_LOOP)]
    # T=9, B=2, H=3: three products of 2 T B H U, U being 4H and 3H.
    lstm, peephole = 3 * 2 * 9 * 2 * 3 * 12, 3 * 2 * 9 * 2 * 3 * 9
    measured = check_suite(comparison, rows, [*5 * [lstm], peephole, lstm, lstm, peephole])

    used = tables.settings()
    tables.write(tmp_path, used, [measured])
    saved = json.loads((tmp_path / "benchmark.json").read_text())
    assert saved["comparisons"] == [measured]
    assert saved["precision"] == "float32, products highest"
    assert "load" in saved
    table = tables.make_table(measured, used)
    assert "T=9, B=2, H=3" in table.caption
    assert [row[1] for row in table.rows] == [row["name"] for row in measured["rows"]]
    assert (tmp_path / "benchmark.md").read_text().count("\n| ") == len(table.rows) + 2


def test_what_placement_does_to_a_large_batch_has_variants_without_it(monkeypatch):
    plans = {}

    def noting(name, group, training, flops, plan=None, num_runs=1):
        plans[group, name] = (plan.parts, plan.own_cores) if plan else (1, False)
        return Variant(name, group, None, 1, flops)

    for module in (suites, peers):
        monkeypatch.setattr(module, "training_variant", noting)
    monkeypatch.setattr(peers, "version", lambda package: None)
    list(suites.recurrent(Config(digits=3, batch_size=128, hidden_size=3, chunk_steps=2)))

    assert {name: plan for (group, name), plan in plans.items() if group == "lstm"} == {
        "jaxrnn": (2, True),
        suites.NOT_SHARED: (2, False),
        suites.PLAIN: (1, False),
        "jaxrnn, plain autodiff": (1, False),
        peers.FLAX: (1, False),
    }


def test_the_suite_of_seeds_is_by_their_number():
    (comparison,) = suites.seeds({"small": TINY}, (1, 3))
    # Two CPU devices, a run on each; three runs take as long as four.
    names = ["jaxrnn", suites.in_a_program(1), suites.in_a_program(4), f"{peers.TORCH_LSTM}, one seed"]
    check_suite(comparison, [("lstm", name) for name in names], 4 * [3 * 2 * 9 * 2 * 3 * 12])
    assert [variant.steps_per_call for variant in comparison.variants][:3] == [4, 2, 8]


def test_a_call_takes_a_chunk_of_steps(monkeypatch):
    steps = []
    monkeypatch.setattr(jax, "block_until_ready", lambda result: steps.append(int(result[0].step[0])) or result)
    training = suites.formal.build(Config(digits=1, batch_size=2, hidden_size=3, chunk_steps=2, tolerance=0.0))
    variant = training_variant("jaxrnn", "lstm", training, 1)
    for _ in range(3):
        variant.step()
    assert steps == [2, 4, 6]


def test_the_text_suite():
    (comparison,) = suites.text_training(TINY_TEXT, num_characters=7)
    # T=5, B=2, three products a step.
    names = ("jaxrnn", peers.FLAX, suites.LOW, peers.TORCH_LSTM, f"{peers.TORCH_LSTM}, bfloat16")
    check_suite(comparison, [("lstm", name) for name in names], 5 * [3 * 2 * 5 * 2 * TINY_PRODUCTS])


def test_the_suite_of_long_scans():
    (comparison,) = scan.scan([6], batch_size=2, input_size=3, hidden_size=4)
    # T=6, B=2: three products of 2 T B (D + H) U, without H where the carry is not multiplied.
    each = 3 * 2 * 6 * 2 * 4
    flops = {"lstm": 4 * each * 7, "gru": 3 * each * 7, "min_gru": 2 * each * 3}
    names = {
        "gru": ["jaxrnn", "Flax nn.RNN(GRUCell)", "PyTorch nn.GRU"],
        "lstm": ["jaxrnn", peers.FLAX, peers.TORCH_LSTM],
        "min_gru": ["jaxrnn", *(f"jaxrnn, {method}" for method in scan.METHODS), scan.MEMAX],
    }
    rows = sorted((group, name) for group, of_group in names.items() for name in of_group)
    comparison = comparison._replace(variants=sorted(comparison.variants, key=lambda one: (one.group, one.name)))
    check_suite(comparison, rows, [flops[group] for group, _ in rows])


def test_the_grid_of_sizes_and_its_geometric_means():
    (comparison,) = grid.grid([grid.Sizes(6, 2, 3, 4)], names=("rnn", "peephole"))
    # T=6, B=2: products of 2 T B (D + H) U; those of the inputs' gradient are not in a chunk.
    each = 2 * 6 * 2 * 4
    flops = [each * n for n in (3 + 4, 3 * (3 + 4), 2 * 3 + 3 * 4) for _ in range(4)]
    flops += [each * n for n in (4 * 3 + 3 * 4, 3 * (4 * 3 + 3 * 4), 2 * 4 * 3 + 3 * 3 * 4)]
    names = ("jaxrnn", grid.PRODUCTS, "Flax nn.RNN(SimpleCell)", "PyTorch nn.RNN")
    works = ("forward", "gradient", "step in a chunk")
    rows = [(f"rnn, {work}", name) for work in works for name in names]
    check_suite(comparison, rows + [(f"peephole, {work}", "jaxrnn") for work in works], flops)

    def measured(ours, flax, torch):
        ratios = {"jaxrnn": ours, grid.PRODUCTS: 0.5, "Flax": flax, "PyTorch": torch}
        return {"key": "grid_1", "rows": [{"group": "rnn", "name": name, "ratio": r} for name, r in ratios.items()]}

    other = {"key": "text", "rows": []}
    (table,) = grid.geometric_means([measured(1.0, 4.0, 5.0), measured(1.0, 2.0, 1.0), other])
    assert table.rows == [["rnn", "2.00", "1.00", "4.00", "2"]]
    assert grid.geometric_means([other]) == []


def test_the_suite_of_all_cells_has_those_of_others_beside_them():
    (comparison,) = grid.cells(grid.Sizes(6, 2, 4, 4), names=("mgu", "lru", "min_gru", "stack_rnn"))
    # T=6, B=2; of the inputs' products, no gradient of the inputs.
    each = 2 * 6 * 2 * 4
    sizes = {"mgu": (2 * 4, 2 * 4), "lru": (3 * 4, 2 * 4), "min_gru": (2 * 4, 0), "stack_rnn": (4, 4 + 8 + 8 + 3)}
    flops = {name: each * (2 * of_x + 3 * of_h) for name, (of_x, of_h) in sizes.items()}
    others = {"mgu": ["Flax nn.RNN(MGUCell)", "memax MGU"], "lru": ["memax LRU"], "min_gru": [scan.MEMAX]}
    rows = [(name, one) for name in sizes for one in ("jaxrnn", *others.get(name, ()))]
    expected = [(f"{name}, step in a chunk", one) for name, one in rows]
    check_suite(comparison, expected, [flops[name] for name, _ in rows])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_suite_of_graph_recurrent_cells():
    sizes = graph_recurrent.Sizes(5, 2, 3, 4, 1)
    tgcn, grnn = graph_recurrent.graph_recurrent(sizes, sizes._replace(num_taps=2))
    each = 6 * 3 * 5 * 2 * 4 * 4
    names = ["jaxrnn", graph_recurrent.TGCN, graph_recurrent.TGCN_TORCH]
    check_suite(tgcn, [("tgcn", name) for name in names], 3 * [3 * each])
    rows = [("grnn", "jaxrnn"), ("grnn", graph_recurrent.GRNN_TORCH)]
    rows += [(kind, "jaxrnn") for kind in graph_recurrent.GATES]
    check_suite(grnn, rows, [*2 * [2 * each], *3 * [6 * each]])


def test_the_graph_recurrent_layers_in_pytorch_are_the_same_cells():
    torch, rng = pytest.importorskip("torch"), np.random.default_rng(0)
    sizes = graph_recurrent.Sizes(5, 2, 1, 4, 2)
    shift, x, h = (np.float32(rng.normal(size=shape)) for shape in ((5, 5), (5, 2, 1), (5, 2, 4)))
    for make, cell in (
        (graph_recurrent.tgcn_layer, graph_gru_cho(1)),
        (graph_recurrent.grnn_layer, graph_cell(CELLS["rnn"], 2)),
    ):
        layer, weights = make(torch, torch.tensor(shift), sizes)
        theirs = layer(*(torch.tensor(np.moveaxis(a, 1, 0)) for a in (x, h))).detach().numpy()
        if len(weights) == 3:
            w_x, w_h, b = (w.detach().numpy() for w in weights)
            params = cell.params_type(w_x[:, None], w_h.reshape(2, 4, 4), b, shift)
        else:
            w_gates, b_gates, w_n, b_n = (w.detach().numpy() for w in weights)
            w, b = np.concatenate([w_gates, w_n], 1)[None], np.concatenate([b_gates, b_n])
            params = cell.params_type(w[:, :1], w[:, 1:], b, (shift,))
        carry, _, _ = cell.step(params, cell.initial_carry(4, (5, 2))._replace(h=h), cell.project(params, x))
        np.testing.assert_allclose(np.moveaxis(theirs, 0, 1), carry.h, rtol=1e-4, atol=1e-5)


def test_the_sampling_suite():
    (comparison,) = suites.sampling(TINY_TEXT, num_characters=7, length=6, batch_sizes=(1, 3))
    rows = [(group, name) for group in ("batch 1", "batch 3") for name in ("jaxrnn", peers.TORCH_CALLS)]
    check_suite(comparison, rows, 4 * [2 * TINY_PRODUCTS])
    # The first of the 6 characters is given.
    calls = {variant.group: variant.steps_per_call for variant in comparison.variants}
    assert calls == {"batch 1": 5, "batch 3": 15}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch Geometric is older than PyTorch.
def test_the_graph_suite():
    (comparison,) = suites.graphs("karate", chunk_steps=2)
    # 34 features, 156 edges and 34 self-loops; 16 hidden units, 2 classes. Each product is there in training and in
    # validation. Backward, features and the edges' weights get no gradient; a GAT's weights of edges do.
    features, dense, edges = 34 * 16, 34 * 16 * 2, 190 * (16 + 2)
    gcn = 2 * (3 * features + 4 * dense + 3 * edges)
    features, dense, edges = 34 * 64, 34 * 64 * 2, 190 * (64 + 2)
    gat = 2 * (3 * features + 4 * dense + 4 * edges)
    rows = [(group, name) for group in ("gcn", "gat") for name in ("jaxrnn", peers.PYG)]
    check_suite(comparison, rows, [gcn, gcn, gat, gat])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_suite_of_molecules():
    pytest.importorskip("rdkit")
    (comparison,) = molecules.molecules(TINY_FINGERPRINT)
    atoms = molecules.properties.load(TINY_FINGERPRINT).molecules.sizes.mean()
    # Layers of 5 and a fingerprint of 4 (three times), of 62 features of an atom and 6 of bonds.
    first, further, head = 62 * 4 + (2 * 62 + 6) * 5, 2 * 5 * 4 + (2 * 5 + 6) * 5, 4 * 100 + 100
    flops = int(2 * 20 * (atoms * (2 * first + 3 * further) + 3 * head))
    check_suite(comparison, [("fingerprint", name) for name in ("jaxrnn", peers.PYG, molecules.AT_HAND)], 3 * [flops])


# --- Peers ------------------------------------------------------------------------------------------------------------


def test_flax_has_the_same_layers():
    model, flax = text.build_model(TINY_TEXT, "abcdefg"), peers.FlaxCharLM(TINY_TEXT, 7)
    tokens_tb = np.zeros((5, 2), np.int32)
    (carries, logits_tbv), params = jax.eval_shape(flax.init_with_output, jax.random.key(0), tokens_tb)
    ours = jax.eval_shape(model.init, jax.random.key(0), tokens_tb)
    assert sum(x.size for x in jax.tree.leaves(params)) == sum(x.size for x in jax.tree.leaves(ours))
    assert (carries, logits_tbv.shape) == ((), (5, 2, 7))


@pytest.mark.parametrize(
    ("cell", "params_type", "fields"),
    [
        ("lstm", LSTMParams, {"w_x": ("ifgo", "x"), "w_h": ("ifgo", "h"), "b": ("ifgo", "b")}),
        ("peephole", PeepholeParams, {"w_x": ("fioc", "x"), "w_c": ("fio", "h"), "b": ("fioc", "b")}),
    ],
)
def test_the_loops_in_pytorch_are_the_same_cells(cell, params_type, fields):
    torch = pytest.importorskip("torch")
    generator, (names, loop) = np.random.default_rng(0), peers.LOOPS[cell]
    shapes = {"x": (5, 3), "h": (3, 3), "b": (3,)}
    weights = {name: generator.normal(size=shapes[name[1]]).astype(np.float32) for name in names}
    xs_tbd = generator.normal(size=(7, 2, 5)).astype(np.float32)
    params = params_type(
        **{field: np.concatenate([weights[g + role] for g in gates], -1) for field, (gates, role) in fields.items()}
    )
    h = loop({name: torch.tensor(w) for name, w in weights.items()}, torch.tensor(xs_tbd))
    carry, _ = unroll(CELLS[cell], params, xs_tbd)
    np.testing.assert_allclose(h.numpy(), carry.h, rtol=1e-5, atol=1e-6)


def test_the_character_lstm_in_pytorch_is_the_same_model_and_writes_the_same():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config = configs.text.Config(embedding_size=5, hidden_size=8)
    theirs = peers.torch_char_lm(torch, config, 7)
    # Logits so far apart that a draw is the most likely character.
    theirs["head"].weight.data *= 1e4
    params = import_weights({name: array.numpy() for name, array in theirs.state_dict().items()})
    model, starts = text.build_model(config, "abcdefg"), np.arange(6, dtype=np.int32)
    keys, ones = jax.random.split(jax.random.key(0), 6), jnp.ones(6, jnp.int32)
    tokens_lb, logits = generate(
        model.stepper(params), model.initial_carries(6), starts[None], ones, keys, Greedy(), 12
    )

    torch_tokens_lb = peers.torch_continuations(torch, theirs, torch.tensor(starts, dtype=torch.int64), 12)
    np.testing.assert_array_equal(torch_tokens_lb.numpy(), tokens_lb)
    assert len(np.unique(tokens_lb)) > 2
    with torch.inference_mode():
        expected, _ = peers.torch_logits(theirs, torch.tensor(np.asarray(tokens_lb[:-1]), dtype=torch.int64))
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-4, atol=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("config", [configs.nodes.Config(), configs.nodes.GAT], ids=["gcn", "gat"])
def test_the_node_classifiers_in_pytorch_geometric_are_the_same_models(config):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_geometric")
    task = node_data.load("karate")
    model = nodes.build_model(config, task.num_classes)
    adjacency, features = nodes.inputs(KARATE)
    params = model.init(jax.random.key(0), adjacency, features)["params"]
    theirs = peers.torch_node_classifier(torch, config, 34, 2).eval()
    for i, layer in enumerate(theirs):
        ours = {name: torch.tensor(np.asarray(w)) for name, w in params[f"layer_{i}"].items()}
        layer.lin.weight.data = ours["w"].flatten(1).T
        if config.model == "gat":
            layer.bias.data = ours["b"].flatten()
            layer.att_src.data, layer.att_dst.data = ours["a_sender"][None], ours["a_receiver"][None]
    x = torch.tensor(task.features.toarray(), dtype=torch.float32)
    ends = torch.tensor(np.stack(task.edges), dtype=torch.int64)
    with torch.no_grad():
        logits = peers.torch_node_logits(torch, config, theirs, x, ends)
    expected, _ = model.apply({"params": params}, adjacency, features)
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_fingerprint_in_pytorch_geometric_is_the_same_network():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_geometric")
    pytest.importorskip("rdkit")
    loader = pytest.importorskip("torch_geometric.loader")
    config, properties = TINY_FINGERPRINT, molecules.properties
    found = properties.load(config)
    packed, scale = properties.pack(config, found.molecules), {"mean": 0.0, "deviation": 1.0}
    model = properties.build_model(config, scale)
    batch = graph.make_batch(packed, graph.plan_sizes(packed, 20, is_safe=True), jnp.arange(20))
    params = jax.jit(model.init)(jax.random.key(0), batch)["params"]
    expected, _ = jax.jit(lambda params: model.apply({"params": params}, batch, train=True, mutable=["running"]))(
        params
    )
    theirs = molecules.torch_fingerprint(torch, properties.usual(config), 62)
    for name, layer in theirs.items():
        ours = (params["head"] if name in ("hidden_0", "output") else params)[name]
        layer.weight.data = torch.tensor(np.asarray(ours["kernel"]).T)
        if "bias" in ours:
            layer.bias.data = torch.tensor(np.asarray(ours["bias"]))
    graphs = molecules.torch_graphs(torch, found)[:20]
    with torch.no_grad():
        predicted = molecules.torch_predictions(torch, theirs, next(iter(loader.DataLoader(graphs, 20))))
    np.testing.assert_allclose(predicted.numpy(), expected, rtol=1e-4, atol=1e-4)


# --- Tables and the binary --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "cells"),
    [
        ([0.5, 0.25, 0.125], ["250", "125 to 500"]),
        ([6.4e-5, 6.4e-5, 6.4e-5], ["0.064", "0.064 to 0.064"]),
    ],
)
def test_the_table_is_in_milliseconds_and_percent(seconds, cells):
    row = {"name": "Flax", "group": "lstm", "seconds": seconds, "ratio": 1.4567, "share": 0.625, "compile_seconds": 2.3}
    measured = {"title": "a title", "unit": "character", "counted": "some products", "rows": [row], "rate": 3.5e11}
    table = tables.make_table(measured, tables.settings())
    assert table.columns[2:4] == ("ms a character", "min to max")
    assert table.rows == [["lstm", "Flax", *cells, "1.46", "62%", "2.3"]]
    assert "350 GFLOP/s" in table.caption


def comparisons():
    for key in "ab":
        yield Comparison(key, key, [FakeClock().variant("jaxrnn", "lstm", itertools.repeat(1), 1, 1)], "step", "all")
    raise MemoryError


@pytest.fixture
def small_suite(monkeypatch):
    monkeypatch.setattr(binary, "SUITES", {"a": comparisons})
    monkeypatch.setattr(binary, "large_product", lambda: large_product(8))


@pytest.mark.usefixtures("small_suite")
def test_what_was_measured_stays_if_what_follows_fails(tmp_path, capsys):
    with pytest.raises(MemoryError):
        binary.main(["a"], 1, tmp_path)
    saved = json.loads((tmp_path / "benchmark.json").read_text())["comparisons"]
    assert [one["key"] for one in saved] == ["a", "b"]
    assert capsys.readouterr().out.count("| lstm | jaxrnn |") == 2


@pytest.mark.usefixtures("small_suite")
def test_a_disk_that_fills_up_is_one_line(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(binary, "write", full)
    with pytest.raises(RunError, match="cannot be written: No space left"):
        binary.main(["a"], 1, tmp_path / "out")


@pytest.mark.parametrize(("flag", "word"), [("--suite=txt", "recurrent"), (f"--out={__file__}", "--out=")])
def test_bad_flags_are_one_line(binaries, flag, word):
    ended = binaries.run("benchmark", flag)
    assert ended.returncode in (1, 2)
    assert word in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""


def test_every_work_of_the_speed_table_is_in_the_archive():
    table = speed.speed_table(_cli.ROOT / "experiments" / "results")
    assert len(table.rows) == sum(len(work.peers) for work in speed.WORKS)
    assert all(row[-1] != NONE for row in table.rows)

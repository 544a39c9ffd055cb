"""The suites, each of which yields comparisons of our programs with those of peers and counts their products."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

import configs.nodes
import configs.text
from configs.formal import Config
from experiments import formal, nodes, text
from experiments.benchmark import peers
from experiments.benchmark.graph_recurrent import graph_recurrent
from experiments.benchmark.grid import cells, grid
from experiments.benchmark.harness import ENDLESS, OURS, PRECISION, Comparison, Variant, compile_timed, training_variant
from experiments.benchmark.molecules import molecules
from experiments.benchmark.scan import scan
from jaxrnn.cells import CELLS, ProductCell
from jaxrnn.data import nodes as node_data
from jaxrnn.data.formal import TASKS
from jaxrnn.data.graphs import NodeTask
from jaxrnn.data.text import Corpus
from jaxrnn.nn.generate import Sampler, generate
from jaxrnn.nn.text import CharLM
from jaxrnn.training.placement import ONE_RUN, make_plan

NOT_SHARED, PLAIN = "jaxrnn, padding not shared", "jaxrnn, the batch not divided either"
"""Variants without what placement does to a batch on a CPU."""
LOW = "jaxrnn, bfloat16"
"""Only the products are in bfloat16; the limit is still that of float32."""
_RECURRENT = Config(digits=20, chunk_steps=4)
_RECURRENT_GATES = {"lstm": 4, "peephole": 3}
_SEEDS = {
    "seeds_small": Config(digits=10, batch_size=32, hidden_size=32, chunk_steps=50),
    "seeds_large": Config(digits=10, chunk_steps=3),
}
"""A problem that overhead dominates, and one that products dominate."""
_TEXT = configs.text.Config(chunk_steps=20)
_RECURRENT_PRODUCTS = "the recurrent products, padding included,"
_CHARACTER_PRODUCTS = "all products except those of the first layer's inputs, which are a table here,"


# --- Palindromes ------------------------------------------------------------------------------------------------------


def recurrent(config: Config = _RECURRENT) -> Iterator[Comparison]:
    """The palindrome study's training step (Soons 2020, Tables 1 and 2) with the LSTM and the peephole LSTM."""
    lstm, peephole = (_endless(dataclasses.replace(config, cell=cell)) for cell in ("lstm", "peephole"))
    model, training, flops = formal.build_model(lstm), formal.build(lstm), recurrent_flops(lstm)
    plan = make_plan(training, 1)
    autodiff = model.clone(cell=dataclasses.replace(cast(ProductCell, CELLS["lstm"]), stacked_gradient=False))
    variants = [
        training_variant(OURS, "lstm", training, flops, plan),
        training_variant(NOT_SHARED, "lstm", training, flops, plan._replace(own_cores=False)),
        training_variant(PLAIN, "lstm", training, flops),
        training_variant("jaxrnn, plain autodiff", "lstm", formal.build(lstm, autodiff), flops),
        peers.flax_classifier(lstm, flops),
        _palindromes(OURS, peephole, 1),
    ]
    if peers.version("torch"):
        variants += [peers.torch_classifier(name, lstm, flops) for name in (peers.TORCH_LSTM, peers.TORCH_LOOP)]
        variants.append(peers.torch_classifier(peers.TORCH_LOOP, peephole, recurrent_flops(peephole)))
    title = f"Palindrome training step, {_sizes(config)}, D={model.embedding_size}"
    yield Comparison("recurrent", title, variants, "step", _RECURRENT_PRODUCTS)


def seeds(problems: Mapping[str, Config] = _SEEDS, numbers: Sequence[int] = ()) -> Iterator[Comparison]:
    """The palindrome step of a small and of a large problem, by the number of seeds in a program."""
    numbers = numbers or ((1, 2, 4, 8, 16) if jax.default_backend() == "cpu" else (1, 8, 32, 128))
    for key, sizes in problems.items():
        config, flops = _endless(sizes), recurrent_flops(sizes)
        default = ONE_RUN.padded_size(make_plan(formal.build(config), max(numbers)).runs_per_program)
        others = dict.fromkeys(map(ONE_RUN.padded_size, numbers))
        variants = [_palindromes(OURS, config, default)]
        variants += [_palindromes(in_a_program(number), config, number) for number in others]
        if peers.version("torch"):
            variants.append(peers.torch_classifier(f"{peers.TORCH_LSTM}, one seed", config, flops))
        title = f"A seed's palindrome training step, {_sizes(config)}, by the seeds in a program (jaxrnn: {default})"
        yield Comparison(key, title, variants, "seed's step", _RECURRENT_PRODUCTS)


def in_a_program(number: int) -> str:
    """The name of a variant with a number of seeds other than the default."""
    return f"jaxrnn, {number} in a program"


def recurrent_flops(config: Config) -> int:
    """``3 * 2 T B H U`` for a training step: the recurrent product ``[B, H] [H, U]``, forward and twice backward."""
    columns = _RECURRENT_GATES[config.cell] * config.hidden_size
    return 6 * TASKS[config.task].input_length(config.digits) * config.batch_size * config.hidden_size * columns


def _endless(config: Config) -> Config:
    return dataclasses.replace(config, precision=PRECISION, tolerance=0.0, max_steps=ENDLESS)


def _sizes(config: Config) -> str:
    length = TASKS[config.task].input_length(config.digits)
    return f"T={length}, B={config.batch_size}, H={config.hidden_size}, {config.chunk_steps} steps a call"


def _palindromes(name: str, config: Config, num_seeds: int) -> Variant:
    """The palindrome study's chunk with this number of seeds in a program, placed as in the study."""
    training = formal.build(config)
    plan = make_plan(training, num_seeds, num_seeds)
    return training_variant(name, config.cell, training, recurrent_flops(config), plan, num_seeds)


# --- Characters -------------------------------------------------------------------------------------------------------


def text_training(config: configs.text.Config = _TEXT, num_characters: int = 87) -> Iterator[Comparison]:
    """The character LSTM's training step (Soons 2020, Table 3), on windows of a random text as long as a short book.

    Each call maps the chunk's 120 MB anew. On a CPU, these are some 0.1 s of page faults, which few steps cannot hide.
    """
    config = dataclasses.replace(config, precision=PRECISION, max_steps=ENDLESS)
    tokens = np.random.default_rng(0).integers(num_characters, size=500_000, dtype=np.uint8)
    corpus = Corpus("".join(map(chr, range(num_characters))), tokens, sha256="")
    flops = 6 * config.seq_length * config.batch_size * products_per_character(config, num_characters)
    flax, low = peers.FlaxCharLM(config, num_characters), dataclasses.replace(config, compute_dtype="bfloat16")
    variants = [
        training_variant(OURS, config.cell, text.build.build(config, corpus=corpus), flops),
        training_variant(peers.FLAX, config.cell, text.build.build(config, flax, corpus), flops),
        training_variant(LOW, config.cell, text.build.build(low, corpus=corpus), flops),
    ]
    if peers.version("torch"):
        variants += [peers.torch_text(one, tokens, num_characters, flops) for one in (config, low)]
    title = f"Character LSTM training step, T={config.seq_length}, B={config.batch_size}, "
    title += f"{_text_sizes(config, num_characters)}, {config.chunk_steps} steps a call"
    yield Comparison("text", title, variants, "step", _CHARACTER_PRODUCTS)


def sampling(
    config: configs.text.Config = _TEXT,
    num_characters: int = 87,
    length: int = 120,
    batch_sizes: Sequence[int] = (1, 64),
) -> Iterator[Comparison]:
    """The generation of texts by the character LSTM at tau = 1, each from its first character.

    A single text reads every weight for every character, so its limit is memory, not arithmetic.
    """
    model = text.build_model(config, "".join(map(chr, range(num_characters))))
    flops = 2 * products_per_character(config, num_characters)
    variants: list[Variant] = []
    for batch_size in batch_sizes:
        variants.append(_sampling(model, batch_size, length, flops))
        if peers.version("torch"):
            variants.append(peers.torch_sampling(config, num_characters, batch_size, length, flops))
    title = f"Generation by the character LSTM, {_text_sizes(config, num_characters)}, {length} characters a text"
    yield Comparison("sampling", title, variants, "character", _CHARACTER_PRODUCTS)


def _text_sizes(config: configs.text.Config, num_characters: int) -> str:
    return f"{config.num_layers} layers, H={config.hidden_size}, D={config.embedding_size}, V={num_characters}"


def products_per_character(config: configs.text.Config, num_characters: int) -> int:
    """Multiply-adds of the LSTM's matrix products for one character, forward, except for the first layer's input.

    That input is one of V characters, so its product can be read from a table.
    """
    return 4 * config.hidden_size**2 * (2 * config.num_layers - 1) + config.hidden_size * num_characters


def _sampling(model: CharLM, batch_size: int, length: int, flops: int) -> Variant:
    params = model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    starts, keys = jnp.zeros((1, batch_size), jnp.int32), jax.random.split(jax.random.key(1), batch_size)

    def write(params: Any, keys: Any) -> Any:
        carries, lengths = model.initial_carries(batch_size), jnp.ones(batch_size, jnp.int32)
        return generate(model.stepper(params), carries, starts, lengths, keys, Sampler(), length)[0]

    program, compile_seconds = compile_timed(jax.jit(write), params, keys)

    def step() -> None:
        jax.block_until_ready(program(params, keys))

    return Variant(OURS, f"batch {batch_size}", step, batch_size * (length - 1), flops, compile_seconds)


# --- Graphs -----------------------------------------------------------------------------------------------------------


def graphs(dataset: str = "cora", chunk_steps: int = 20) -> Iterator[Comparison]:
    """The node classification study's epoch: a training step, and loss and accuracy of the validation nodes.

    Cora is found or fetched as in the study.
    """
    task = node_data.load(dataset)
    num_nodes, num_features = task.features.shape
    variants: list[Variant] = []
    for paper in (configs.nodes.Config(), configs.nodes.GAT):
        # With so much patience no run ends.
        config = dataclasses.replace(
            paper, dataset=dataset, chunk_steps=chunk_steps, patience=10_000, max_steps=ENDLESS, precision=PRECISION
        )
        flops = graph_flops(config, task)
        variants.append(training_variant(OURS, config.model, nodes.build(config), flops))
        if peers.version("torch_geometric"):
            variants.append(peers.torch_nodes(config, task, flops))
    title = f"Node classification, {dataset}, an epoch, validation included, N={num_nodes}, D={num_features} "
    title += f"({task.features.nnz / num_nodes:.0f} not zero), E={len(task.edges.senders)}, {chunk_steps} a call"
    counted = "all products except those with zeros"
    yield Comparison("graphs", title, variants, "epoch", counted)


def graph_flops(config: configs.nodes.Config, task: NodeTask) -> int:
    """FLOPs of an epoch's products of nonzero entries: a step forward and backward, and validation forward."""
    num_nodes, num_edges = len(task.labels), len(task.edges.senders) + len(task.labels)
    hidden = config.hidden_size * (config.num_heads if config.model == "gat" else 1)
    outputs = task.num_classes * (config.num_output_heads if config.model == "gat" else 1)
    features, dense = task.features.nnz * hidden, num_nodes * hidden * outputs
    along_edges = num_edges * (hidden + outputs)
    # Twice backward, but the features need no gradient, and neither do a GCN's edges.
    backward = 2 * dense + features + (2 if config.model == "gat" else 1) * along_edges
    return 2 * (2 * (features + dense + along_edges) + backward)


SUITES: dict[str, Callable[[], Iterator[Comparison]]] = {
    "recurrent": recurrent,
    "text": text_training,
    "sampling": sampling,
    "seeds": seeds,
    "graphs": graphs,
    "molecules": molecules,
    "scan": scan,
    "grid": grid,
    "cells": cells,
    "graph_recurrent": graph_recurrent,
}

"""PyTorch as the oracle, at first hand where it is installed, and through numbers stored from it everywhere else.

``PYTHONPATH=.:tests python tests/unit/test_parity.py`` writes the stored numbers anew.
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest

from jaxrnn.cells import CELLS, INITIALIZERS
from jaxrnn.nn.losses import cross_entropy
from jaxrnn.nn.sequence import SequenceClassifier
from jaxrnn.recurrence import unroll

STORED = Path(__file__).with_name("torch_numbers.json")
LAYERS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
NUM_GATES = {"rnn": 1, "lstm": 4, "gru": 3}


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def sines(phase, *shape):
    """Numbers in place of random ones, the same in every library."""
    return np.sin(phase + 1.7 * np.arange(np.prod(shape))).reshape(shape)


# --- One layer --------------------------------------------------------------------------------------------------------


def layer_inputs(name, num_steps, batch_size, input_size, hidden_size):
    """Weights under PyTorch's names, inputs and initial carry, from a formula."""
    rows = NUM_GATES[name] * hidden_size
    arrays = {
        "weight_ih_l0": sines(1, rows, input_size),
        "weight_hh_l0": sines(2, rows, hidden_size) / hidden_size**0.5,
        "bias_ih_l0": sines(3, rows),
        "bias_hh_l0": sines(4, rows),
        "xs": sines(5, num_steps, batch_size, input_size),
        "h": sines(6, batch_size, hidden_size),
    }
    return arrays | ({"c": sines(7, batch_size, hidden_size)} if name == "lstm" else {})


def cotangent(output, shape):
    """What is pulled back through an output of the layer."""
    return sines({"ys": 8, "last h": 9, "last c": 10}[output], *shape)


def layer_in_torch(torch, name, arrays, dtype):
    """Outputs, last carry and their pull-back to everything in `arrays`."""
    tensors = {key: torch.tensor(array, dtype=dtype, requires_grad=True) for key, array in arrays.items()}
    layer = getattr(torch.nn, LAYERS[name])(arrays["xs"].shape[-1], arrays["h"].shape[-1], dtype=dtype)
    weights = {key: tensor for key, tensor in tensors.items() if key.endswith("_l0")}
    h, *c = (tensors[field][None] for field in "hc" if field in tensors)
    ys, last = torch.func.functional_call(layer, weights, (tensors["xs"], (h, *c) if c else h))
    outputs = {
        "ys": ys,
        **{f"last {field}": array[0] for field, array in zip("hc", last if c else [last], strict=False)},
    }
    pulled = [torch.tensor(cotangent(name, array.shape), dtype=dtype) for name, array in outputs.items()]
    gradient = torch.autograd.grad(list(outputs.values()), list(tensors.values()), pulled)
    results = outputs | {f"gradient of {key}": array for key, array in zip(tensors, gradient, strict=True)}
    return {key: tensor.detach().numpy() for key, tensor in results.items()}


def params_from_torch(name, arrays):
    """Gates stand in the same order; two biases are added up, but for the GRU's candidate."""
    w_x, w_h = arrays["weight_ih_l0"].T, arrays["weight_hh_l0"].T
    b_x, b_h = arrays["bias_ih_l0"], arrays["bias_hh_l0"]
    if name != "gru":
        return CELLS[name].params_type(w_x, w_h, b_x + b_h)
    candidate = 2 * len(w_h)
    return CELLS["gru"].params_type(w_x, w_h, b_x.at[:candidate].add(b_h[:candidate]), b_h[candidate:])


@functools.partial(jax.jit, static_argnums=0)
def layer_in_jax(name, arrays):
    cell = CELLS[name]

    def outputs_of(arrays):
        start = cell.initial_carry(arrays["h"].shape[-1])
        carry = start._replace(**{field: arrays[field] for field in start._fields})
        last, ys = unroll(cell, params_from_torch(name, arrays), arrays["xs"], carry=carry)
        return {"ys": ys, **{f"last {field}": array for field, array in last._asdict().items()}}

    outputs, pull_back = jax.vjp(outputs_of, arrays)
    pulled = {key: jnp.asarray(cotangent(key, array.shape), array.dtype) for key, array in outputs.items()}
    return outputs | {f"gradient of {key}": array for key, array in pull_back(pulled)[0].items()}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_pytorchs_in_values_and_gradients(torch, name):
    arrays = layer_inputs(name, num_steps=9, batch_size=4, input_size=7, hidden_size=16)
    expected = layer_in_torch(torch, name, arrays, torch.float32)
    oracles.assert_close(layer_in_jax(name, jax.tree.map(np.float32, arrays)), expected, 1e-5)


# --- The paper's classifier and its training -------------------------------------------------------------------------


def classifier_weights(vocabulary_size, input_size, hidden_size, num_classes):
    """The LSTM of Soons (2020) under its own names (Question 1.2b), from a formula."""
    shapes = {"embedding": (vocabulary_size, input_size), "W_ph": (hidden_size, num_classes), "b_p": (num_classes,)}
    for gate in "gifo":
        shapes |= {
            f"W_{gate}x": (input_size, hidden_size),
            f"W_{gate}h": (hidden_size,) * 2,
            f"b_{gate}": (hidden_size,),
        }
    return {key: sines(k, *shape) for k, (key, shape) in enumerate(shapes.items())}


def classifier_batch(step, weights, num_steps, batch_size):
    """Tokens and labels that look random."""
    vocabulary_size, num_classes = len(weights["embedding"]), len(weights["b_p"])
    tokens, labels = sines(step, num_steps, batch_size), sines(step + 0.5, batch_size)
    return np.int32((tokens + 1) / 2 * vocabulary_size), np.int32((labels + 1) / 2 * num_classes)


def loss_in_torch(torch, w, tokens, labels):
    h = c = torch.zeros(len(labels), len(w["b_g"]), dtype=w["b_g"].dtype)
    for x in w["embedding"][torch.tensor(tokens)]:
        g = torch.tanh(x @ w["W_gx"] + h @ w["W_gh"] + w["b_g"])
        i, f, o = (torch.sigmoid(x @ w[f"W_{k}x"] + h @ w[f"W_{k}h"] + w[f"b_{k}"]) for k in "ifo")
        c = g * i + c * f
        h = torch.tanh(c) * o
    y = torch.softmax(h @ w["W_ph"] + w["b_p"], dim=1)
    return -torch.log(y[range(len(labels)), labels]).mean()


def loss_in_jax(w, tokens, labels):
    lstm = {
        "w_x": jnp.concatenate([w[f"W_{gate}x"] for gate in "ifgo"], axis=1),
        "w_h": jnp.concatenate([w[f"W_{gate}h"] for gate in "ifgo"], axis=1),
        "b": jnp.concatenate([w[f"b_{gate}"] for gate in "ifgo"]),
    }
    head = {"kernel": w["W_ph"], "bias": w["b_p"]}
    (vocabulary_size, embedding_size), (hidden_size, num_classes) = w["embedding"].shape, w["W_ph"].shape
    model = SequenceClassifier(
        CELLS["lstm"], vocabulary_size, num_classes, embedding_size, hidden_size, INITIALIZERS["kaiming"]
    )
    logits = model.apply({"params": {"embedding": w["embedding"], "forward": lstm, "head": head}}, tokens)
    return cross_entropy(logits, labels)


def test_the_papers_classifier_has_the_loss_and_gradient_of_its_equations(torch):
    weights = classifier_weights(3, 10, 16, 2)
    tokens, labels = classifier_batch(0, weights, num_steps=12, batch_size=8)
    tensors = {key: torch.tensor(array, dtype=torch.float32, requires_grad=True) for key, array in weights.items()}
    expected = loss_in_torch(torch, tensors, tokens, labels)
    expected.backward()
    loss, gradient = jax.jit(jax.value_and_grad(loss_in_jax))(jax.tree.map(np.float32, weights), tokens, labels)
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    oracles.assert_close(gradient, {key: tensor.grad.numpy() for key, tensor in tensors.items()}, 1e-5)


LEARNING_RATE, CLIP_NORM, NUM_UPDATES = 0.05, 0.3, 8


def training_in_torch(torch, weights):
    """Losses, gradient norms before clipping and the weights at the end, float64."""
    tensors = {key: torch.tensor(array, requires_grad=True) for key, array in weights.items()}
    optimizer = torch.optim.Adam(tensors.values(), lr=LEARNING_RATE)
    losses, norms = [], []
    for step in range(NUM_UPDATES):
        optimizer.zero_grad()
        loss = loss_in_torch(torch, tensors, *classifier_batch(step, weights, num_steps=4, batch_size=3))
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(tensors.values(), CLIP_NORM).item())
        losses.append(loss.item())
        optimizer.step()
    final = {key: tensor.detach().numpy() for key, tensor in tensors.items()}
    return {"losses": np.array(losses), "norms": np.array(norms), **final}


def training_in_jax(weights):
    optimizer = optax.chain(optax.clip_by_global_norm(CLIP_NORM), optax.adam(LEARNING_RATE))  # As the studies have it.
    gradient_of = jax.jit(jax.value_and_grad(loss_in_jax))
    w, state = weights, optimizer.init(weights)
    losses, norms = [], []
    for step in range(NUM_UPDATES):
        loss, gradient = gradient_of(w, *classifier_batch(step, weights, num_steps=4, batch_size=3))
        updates, state = optimizer.update(gradient, state, w)
        w = optax.apply_updates(w, updates)
        losses.append(loss)
        norms.append(np.sqrt(sum((leaf**2).sum() for leaf in gradient.values())))
    return {"losses": np.array(losses), "norms": np.array(norms), **w}


# --- Stored numbers ---------------------------------------------------------------------------------------------------

STORED_LAYER = {"num_steps": 3, "batch_size": 2, "input_size": 2, "hidden_size": 2}
STORED_CLASSIFIER = (4, 3, 2, 3)
TOLERANCE = 1e-6
"""PyTorch divides by the gradient norm plus 1e-6 when it clips, Optax by the norm."""


def all_in_torch(torch):
    """By case and name."""
    layers = {name: layer_in_torch(torch, name, layer_inputs(name, **STORED_LAYER), torch.float64) for name in LAYERS}
    return layers | {"training": training_in_torch(torch, classifier_weights(*STORED_CLASSIFIER))}


def stored(case):
    return {key: np.array(numbers) for key, numbers in json.loads(STORED.read_text())[case].items()}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_the_stored_numbers(name, x64):
    oracles.assert_close(layer_in_jax(name, layer_inputs(name, **STORED_LAYER)), stored(name), TOLERANCE)


def test_training_gives_the_stored_numbers(x64):
    expected = stored("training")
    assert expected["norms"].min() < CLIP_NORM < expected["norms"].max()
    oracles.assert_close(training_in_jax(classifier_weights(*STORED_CLASSIFIER)), expected, TOLERANCE)


@pytest.mark.parametrize("case", [*LAYERS, "training"])
def test_the_stored_numbers_are_pytorchs(torch, case):
    oracles.assert_close(all_in_torch(torch)[case], stored(case), TOLERANCE)


if __name__ == "__main__":
    import torch as pytorch

    # One array a line.
    cases = []
    for case, arrays in all_in_torch(pytorch).items():
        rounded = {key: np.vectorize(lambda number: float(f"{number:.10g}"))(array) for key, array in arrays.items()}
        lines = [f'  "{key}": {json.dumps(array.tolist())}' for key, array in rounded.items()]
        cases.append(f'"{case}": {{\n' + ",\n".join(lines) + "\n}")
    STORED.write_text("{\n" + ",\n".join(cases) + "\n}\n")

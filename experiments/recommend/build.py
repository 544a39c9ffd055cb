"""The training of a recommender, and how its ratings and rankings are measured."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from configs.recommend import Config
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.data import ratings, triplets
from jaxrnn.data.files import DataError
from jaxrnn.data.ratings import Pairs, Ratings
from jaxrnn.nn.ranking import at_top, padded
from jaxrnn.nn.recommenders import GCMC, Factors, LightGCN, bipartite, relations
from jaxrnn.training.definition import ConfigError, Training
from jaxrnn.training.stop import StopRule, average_weights, never_stop, stop_past_lowest

MODELS = ("mf", "lightgcn", "gcmc")
TOP = 20
"""Length of the lists whose recall and NDCG are measured."""
_MOST_LEVELS = 50
_SPLIT_SEED, _VALIDATION_SEED = 0, 1
_BLOCKS = 100
"""Groups of users whose errors are summed separately, to be resampled in comparisons."""
_USERS, _PAIRS = 64, 8192
"""Users and pairs that are measured at once."""


class Problem(NamedTuple):
    """A data set as a config divides it; no pair is in two parts.

    Attributes:
        train: what models are trained on, without the validation part.
        levels: the different ratings of the training part, sorted.
    """

    data: Ratings
    train: Pairs
    validation: Pairs
    test: Pairs
    levels: np.ndarray

    @property
    def known(self) -> Pairs:
        """The training part with the validation part, whose items are not recommended in the test."""
        return Pairs(*(np.concatenate(both) for both in zip(self.train, self.validation, strict=True)))


def pose(config: Any) -> Problem:
    """The problem of a config: a `Config`, or what `jaxrnn.load` returns.

    Raises:
        DataError: as in `jaxrnn.data.ratings.load`.
        ConfigError: a part has no pair.
    """
    data = ratings.load(config.dataset)
    train, test = data.train, data.test
    if test is None:
        is_last = config.split == "last"
        train, test = (
            ratings.split_last(train) if is_last else ratings.split_random(train, config.test_fraction, _SPLIT_SEED)
        )
        if not (len(train.users) and len(test.users)):
            field = "split" if is_last else "test_fraction"
            raise ConfigError(field, getattr(config, field), f"leaves a part empty (of {len(data.train.users)} pairs)")
    levels = np.unique(train.ratings)
    train, validation = ratings.split_random(train, config.validation, _VALIDATION_SEED)
    if config.validation and not (len(train.users) and len(validation.users)):
        reason = f"leaves a part empty (of {len(data.train.users)} pairs); 0 takes the weights at the end"
        raise ConfigError("validation", config.validation, reason)
    return Problem(data, train, validation, test, levels)


def check(config: Config) -> None:
    """Refuses a model that does not do the task, and data that do not have what is asked for."""
    for model, task in (("lightgcn", "ranking"), ("gcmc", "rating")):
        if config.model == model and config.task != task:
            raise ConfigError("model", model, f"is for --config.task={task}; mf is for both")
    if config.trust and config.model == "mf":
        raise ConfigError("trust", config.trust, "mf has no graph; lightgcn and gcmc have")
    if config.batch_size == 0 and config.task == "ranking":
        raise ConfigError("batch_size", 0, "is for --config.task=rating; a ranking is trained on draws")
    problem = pose(config)
    if config.task == "rating" and not problem.data.is_rated:
        raise ConfigError("task", "rating", f"{config.dataset} has no ratings; --config.task=ranking needs none")
    if config.trust and not problem.data.links.size:
        raise ConfigError("trust", config.trust, f"{config.dataset} has no links between users")
    if config.model == "gcmc" and len(problem.levels) > _MOST_LEVELS:
        reason = f"is for at most {_MOST_LEVELS} different ratings, there are {len(problem.levels)}; mf takes any"
        raise ConfigError("model", "gcmc", reason)
    if config.task == "ranking" and not len(triplets.owned(problem.train, *_sizes(problem)).users):
        raise DataError(f"{config.dataset}: every user has all items, so there is nothing to recommend")


def describe_data(config: Config) -> dict[str, Any]:
    """What ``config.json`` keeps of the data."""
    return _describe(pose(config), config.task)


def _describe(problem: Problem, task: str) -> dict[str, Any]:
    num_users, num_items = _sizes(problem)
    return {
        "sha256": problem.data.sha256,
        **{"users": num_users, "items": num_items, "links": problem.data.links.shape[1] // 2},
        **{"train": len(problem.known.users), "test": len(problem.test.users)},
        "levels": problem.levels.tolist() if task == "rating" and len(problem.levels) <= _MOST_LEVELS else [],
    }


def _sizes(problem: Problem) -> tuple[int, int]:
    return len(problem.data.users), len(problem.data.items)


# --- Models -----------------------------------------------------------------------------------------------------------


def build_model(config: Any, data: Any) -> nn.Module:
    """The model of a config, a `Config` or what `jaxrnn.load` returns, for data as `describe_data` describes it."""
    num_nodes, levels = data["users"] + data["items"], len(data["levels"])
    if config.model == "gcmc":
        kinds = levels + (config.trust > 0)
        return GCMC(num_nodes, kinds, levels, config.message_size, config.hidden_size, config.dropout)
    if config.task == "rating":
        return Factors(num_nodes, config.hidden_size)
    return LightGCN(num_nodes, config.hidden_size, config.num_layers if config.model == "lightgcn" else 0)


def arrays(config: Any, problem: Problem) -> dict[str, Any]:
    """What all runs share on the device."""
    (num_users, num_items), train = _sizes(problem), problem.train
    items, links, num_nodes = train.items + num_users, problem.data.links, num_users + num_items
    found: dict[str, Any] = {"train": train, "levels": problem.levels, "mean": train.ratings.mean()}
    found["item_nodes"] = np.arange(num_users, num_nodes, dtype=np.int32)
    if config.model == "gcmc":
        kinds = len(problem.levels) + (config.trust > 0)
        levels = np.searchsorted(problem.levels, train.ratings)
        links = links if config.trust > 0 else links[:, :0]
        found["shift"] = relations(train.users, items, levels, kinds, num_nodes, links)
    elif config.task == "ranking":
        found["owned"] = triplets.owned(train, num_users, num_items)
        if config.model == "lightgcn":
            found["shift"] = bipartite(train.users, items, num_nodes, links, config.trust)
    for name, known in (("validation", train), ("test", problem.known)):
        part: Pairs = getattr(problem, name)
        chosen = np.unique(part.users)
        found[name] = part
        found[f"{name}_users"] = chosen.astype(np.int32)
        if config.task == "ranking":
            found[f"{name}_items"] = padded(part.users, part.items, chosen, num_items)
            found[f"{name}_known"] = padded(known.users, known.items, chosen, num_items)
    return found


def predict(config: Any, model: Any, params: PyTree, data: PyTree, pairs: Pairs, key: Any = None) -> Array:
    """Ratings ``[B]`` of pairs, or logits ``[B, R]`` for gcmc, which applies dropout if there is a key."""
    items = jnp.asarray(data["item_nodes"])[pairs.items]
    if config.model == "mf":
        return model.apply({"params": params}, data["mean"], pairs.users, items)
    rngs = {} if key is None else {"rngs": {"dropout": key}}
    return model.apply({"params": params}, data["shift"], pairs.users, items, deterministic=key is None, **rngs)


def expected(config: Any, found: Array, data: PyTree) -> Array:
    """Ratings ``[B]`` from what `predict` returns."""
    return jax.nn.softmax(found) @ data["levels"] if config.model == "gcmc" else found


def scores(config: Any, model: Any, params: PyTree, data: PyTree, users: Array) -> Array:
    """Scores ``[B, I]`` that order the items for these users: predicted ratings, or products in the ranking task."""
    if config.task == "ranking":
        return products(model, params, data)(users)
    grid: Any = jnp.meshgrid(users, jnp.arange(len(data["item_nodes"])), indexing="ij")
    pairs = Pairs(users=grid[0].reshape(-1), items=grid[1].reshape(-1), ratings=grid[0])  # The ratings are not read.
    return expected(config, predict(config, model, params, data, pairs), data).reshape(grid[0].shape)


def products(model: Any, params: PyTree, data: PyTree) -> Callable[[Array], Array]:
    """The function from users ``[B]`` to the products ``[B, I]`` of their and all items' embeddings in LightGCN."""
    _, final = model.apply({"params": params}, data.get("shift"))
    items = final[jnp.asarray(data["item_nodes"])]
    return lambda users: final[users] @ items.T


# --- Measures ---------------------------------------------------------------------------------------------------------


def rank_users(make_scores: Callable[[Array], Array], data: PyTree, part: str) -> tuple[Array, Array]:
    """Recall and NDCG among the first `TOP` items of each user of a part, ``[U]``.

    ``make_scores(users)`` returns scores ``[B, I]``; items that a user is known to have are left out.
    """

    def one(users: Array, known: Array, relevant: Array) -> tuple[Array, Array]:
        scores_bi = make_scores(users)
        hidden = scores_bi.at[jnp.arange(len(users))[:, None], known].set(-jnp.inf, mode="drop")
        return jax.vmap(lambda scores_i, relevant_m: at_top(scores_i, relevant_m, TOP))(hidden, relevant)

    return _in_blocks(one, (data[f"{part}_users"], data[f"{part}_known"], data[f"{part}_items"]), _USERS)


def _in_blocks(function: Any, arguments: tuple[Any, ...], size: int) -> Any:
    """Applies a function to arrays of the same length, block by block."""
    length = len(arguments[0])
    size = min(size, length)
    rows = np.minimum(np.arange(-(-length // size) * size), length - 1).reshape(-1, size)
    found = jax.lax.map(lambda chosen: function(*(jnp.asarray(one)[chosen] for one in arguments)), rows)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:length], found)


def summary(users: Any, values: dict[str, Any], users_of_part: Any) -> dict[str, Any]:
    """Means over pairs or users, and sums and counts by groups of users, which comparisons resample.

    Args:
        users: user of each value, ``[n]``.
        values: by name, ``[n]``; ``squares`` become a root mean square, ``rmse``.
        users_of_part: the different users, sorted.
    """
    groups = min(_BLOCKS, len(users_of_part))
    group = jnp.searchsorted(jnp.asarray(users_of_part), users) % groups
    found: dict[str, Any] = {"test_counts_by_block": jnp.bincount(group, length=groups)}
    for name, of_name in values.items():
        mean = of_name.mean()
        found["test_rmse" if name == "squares" else f"test_{name}"] = jnp.sqrt(mean) if name == "squares" else mean
        found[f"test_{name}_by_block"] = jnp.bincount(group, of_name, length=groups)
    return found


# --- The training -----------------------------------------------------------------------------------------------------


def stop_rule(config: Config) -> StopRule:
    """With a validation part, the weights with the lowest error count; else a mean of weights, or the last ones."""
    if config.validation:
        return stop_past_lowest("validation_error", config.patience, config.eval_every)
    return average_weights(config.averaging) if config.averaging else never_stop()


def build(config: Config) -> Training:
    """The training of a config: a step is a batch of draws, or of ratings."""
    problem = pose(config)
    data, model = arrays(config, problem), build_model(config, _describe(problem, config.task))
    num_items, num_train = len(problem.data.items), len(problem.train.users)
    is_ranking = config.task == "ranking"

    def sample(key: Key, step: Array, data: PyTree) -> Any:
        del step
        if is_ranking:
            return triplets.draw_triplets(key, data["owned"], config.batch_size, num_items)
        if config.batch_size == 0:
            return None
        chosen = jax.random.randint(key, (config.batch_size,), 0, num_train)
        return jax.tree.map(lambda x: jnp.asarray(x)[chosen], data["train"])

    def decay(params: PyTree, *nodes: Any) -> Array:
        """Weight decay: half the squares of the parameters of a sample's nodes, as a mean over the samples."""
        rows = jax.tree.map(lambda x: [jnp.asarray(x)[of] for of in nodes], params)
        return config.weight_decay / 2 * optax.tree.norm(rows, squared=True) / len(nodes[0])

    def rank_loss(params: PyTree, batch: triplets.Triplets, data: PyTree) -> Array:
        start, final = model.apply({"params": params}, data.get("shift"))
        nodes = jnp.asarray(data["item_nodes"])
        of = batch.users, nodes[batch.items], nodes[batch.others]
        user, item, other = (final[one] for one in of)
        value = jax.nn.softplus((user * (other - item)).sum(-1)).mean()
        return value + decay({"start": start}, *of)

    def rate_loss(params: PyTree, batch: Pairs, key: Key, data: PyTree) -> Array:
        found = predict(config, model, params, data, batch, key)
        if config.model == "gcmc":
            right = jnp.searchsorted(jnp.asarray(data["levels"]), batch.ratings)
            return optax.softmax_cross_entropy_with_integer_labels(found, right).mean()
        items = jnp.asarray(data["item_nodes"])[batch.items]
        return jnp.square(found - batch.ratings).mean() + decay(params, batch.users, items)

    def loss(params: PyTree, memory: PyTree, batch: Any, key: Key, data: PyTree) -> tuple[Array, Any]:
        if is_ranking:
            return rank_loss(params, batch, data), ({}, memory)
        pairs = jax.tree.map(jnp.asarray, data["train"]) if batch is None else batch
        return rate_loss(params, pairs, key, data), ({}, memory)

    def measure(params: PyTree, data: PyTree, part: str) -> dict[str, Array]:
        """By name, a value for each user or pair of a part."""
        if is_ranking:
            recall, ndcg = rank_users(products(model, params, data), data, part)
            return {"recall": recall, "ndcg": ndcg}
        pairs = data[part]
        if config.model == "gcmc":  # Blocks would each pass over its whole graph.
            found = predict(config, model, params, data, pairs)
        else:
            found = _in_blocks(lambda *of: predict(config, model, params, data, Pairs(*of)), tuple(pairs), _PAIRS)
        return {"squares": jnp.square(expected(config, found, data) - pairs.ratings)}

    def validate(params: PyTree, memory: PyTree, data: PyTree) -> dict[str, Array]:
        del memory
        if not config.validation:
            return {}
        found = measure(params, data, "validation")
        error = 1 - found["ndcg"].mean() if is_ranking else jnp.sqrt(found["squares"].mean())
        return {"validation_error": error}

    def test(params: PyTree, memory: PyTree, seed: Array, data: PyTree) -> dict[str, Array]:
        del seed
        users = data["test_users"] if is_ranking else data["test"].users
        return summary(users, measure(params, data, "test"), data["test_users"]) | validate(params, memory, data)

    def init(key: Key) -> PyTree:
        if is_ranking:
            return model.init(key, data.get("shift"))["params"]
        given = data["shift"] if config.model == "gcmc" else data["mean"]
        nodes = jnp.zeros(1, int)
        return model.init(key, given, nodes, nodes)["params"]

    return Training(
        init=init,
        sample=sample,
        loss=loss,
        optimizer=lambda hyper: optax.adam(hyper["learning_rate"]),
        test=test,
        hyper={"learning_rate": config.learning_rate},
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        chunk_steps=config.chunk_steps,
        stop=stop_rule(config),
        stop_every=1 if config.averaging and not config.validation else None,
        validate=validate,
        data=data,
    )

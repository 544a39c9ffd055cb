"""The training of a policy beside other ways to find molecules, each with the same number of molecules scored."""

import functools
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.generate import Config
from jaxrnn.arrays import Array, Key, PyTree
from jaxrnn.data import molecule_scores, zinc
from jaxrnn.data.molecules import import_rdkit
from jaxrnn.data.scorers import score_all
from jaxrnn.graph import building
from jaxrnn.graph.building import Building
from jaxrnn.nn.losses import mean
from jaxrnn.nn.molecule_policy import Episodes, MoleculePolicy, build
from jaxrnn.nn.ppo import Taken, advantages, ppo_loss
from jaxrnn.training.cores import num_cores
from jaxrnn.training.definition import Callback, ConfigError, Training

LAST = 1000
"""The number of last molecules whose mean counts."""
BEST = 3
"""The number of different best molecules that are remembered, as in the published table."""
MOLECULES = "molecules.jsonl"
"""The file of the molecules that were among the best when they were scored."""
POLICY, RANDOM, CLIMB, ZINC = "policy", "random", "climb", "zinc"
PATIENCE = 20
"""A climber starts again after more moves in a row without improvement than this."""
UNITS = {"qed": 1.0, "plogp": 3.0}
"""Units by which rewards are divided, so that values are of the order of 1."""


class Climbers(NamedTuple):
    """B hill climbers, each of which keeps a random move where the reward does not fall.

    Attributes:
        molecules: fields ``[B, ...]``.
        rewards: float32 ``[B]``, of the molecules.
        refused: int32 ``[B]``, moves since the reward rose.
        proposals: the molecules that are scored next.
    """

    molecules: Building
    rewards: Array
    refused: Array
    proposals: Building


class Memory(NamedTuple):
    """What a batch of molecules leaves to its updates and to the next batch, for W ways to find molecules.

    Arrays are JAX's, and NumPy's on the host.

    Attributes:
        episodes: the policy's episodes.
        random: the molecules of untaught moves.
        climbers: the hill climbers.
        scored: int32, how many molecules each way has had scored.
        rewards: float32 ``[W, LAST]``, of the last molecules, those of the batch at the end.
        digests: int32 ``[W, LAST, 2]``, of their SMILES.
        is_new: bool ``[W, LAST]``, which of them ZINC does not have; all where there is no file.
        best: float32 ``[W, BEST]``, the highest rewards of different molecules, in falling order.
        best_digests: int32 ``[W, BEST, 2]``, of their SMILES.
    """

    episodes: Episodes
    random: Building
    climbers: Climbers
    scored: Any
    rewards: Any
    digests: Any
    is_new: Any
    best: Any
    best_digests: Any


def ways() -> tuple[str, ...]:
    """The ways to find molecules; ZINC is one of them where its file exists."""
    return (POLICY, RANDOM, CLIMB, *([ZINC] if zinc.load() else []))


def describe(config: Config) -> dict[str, Any]:
    """What ``config.json`` keeps of the data: ZINC's digest, and for plogp the reward of a chain of carbon."""
    import_rdkit()  # Before anything else asks for it.
    found = zinc.load()
    chain = {"chain": molecule_scores.score("C" * config.max_atoms, "plogp")} if config.reward == "plogp" else {}
    return {"zinc": found.sha256 if found else None, **chain}


def check(config: Config) -> None:
    """Refuses numbers of molecules that are not whole batches."""
    if config.calls % config.batch_size:
        raise ConfigError("calls", config.calls, f"should be a multiple of batch_size={config.batch_size}")


def build_model(config: Any, data: Mapping[str, Any]) -> MoleculePolicy:
    """The policy of a config."""
    del data
    return MoleculePolicy(config.hidden_size, config.num_layers)


def build_training(config: Config) -> Training:
    """The training, in which the host scores each batch before its updates."""
    model, names, size = build_model(config, {}), ways(), config.batch_size
    begin = jax.tree.map(lambda x: jnp.stack([x] * size), building.methane(config.max_atoms))
    untaught = jax.vmap(building.untaught)

    def start_memory(seed: Array, data: PyTree) -> Memory:
        del seed, data
        most = building.most_moves(config.max_atoms)
        zeros, rewards = jnp.zeros((size, most)), jnp.full((len(names), LAST), -jnp.inf)
        digests, best = jnp.zeros((len(names), LAST, 2), jnp.int32), jnp.full((len(names), BEST), -jnp.inf)
        nobody = jnp.full(size, -jnp.inf)
        return Memory(
            Episodes(begin, zeros.astype(jnp.int32), zeros, zeros, jnp.ones(size, jnp.int32)),
            begin,
            Climbers(begin, nobody, jnp.full(size, PATIENCE, jnp.int32), begin),
            jnp.zeros((), jnp.int32),
            rewards,
            digests,
            rewards > 0,
            best,
            digests[:, :BEST],
        )

    def request(params: PyTree, memory: Memory, key: Key, data: PyTree) -> Memory:
        del data
        policy_key, random_key, climb_key = jax.random.split(key, 3)
        return memory._replace(
            episodes=build(lambda m: model.apply({"params": params}, m), begin, jax.random.split(policy_key, size)),
            random=build(lambda m: (untaught(m), jnp.zeros(size)), begin, jax.random.split(random_key, size)).molecules,
            climbers=climb(memory.climbers, memory.rewards[names.index(CLIMB), -size:], begin, climb_key),
        )

    def loss(params: PyTree, memory: Memory, key: Key, _: Key, data: PyTree) -> tuple[Array, Any]:
        episodes = memory.episodes
        rewards = memory.rewards[0, -size:] / UNITS[config.reward]
        gains = advantages(rewards, episodes.values, episodes.lengths, config.trace)
        is_move = jnp.arange(gains.shape[1]) < episodes.lengths[:, None]
        middle = mean(gains, is_move)
        normal = (gains - middle) / (jnp.sqrt(mean((gains - middle) ** 2, is_move)) + 1e-6)
        places = jnp.flatnonzero(is_move.ravel(), size=is_move.size)
        chosen = places[jax.random.randint(key, (config.moves_per_step,), 0, is_move.sum())]
        episode, t = chosen // is_move.shape[1], chosen % is_move.shape[1]
        molecules = jax.vmap(building.before)(jax.tree.map(lambda x: x[episode], episodes.molecules), t)
        chances, values = model.apply({"params": params}, molecules)
        taken = Taken(episodes.chances[episode, t], normal[episode, t], (gains + episodes.values)[episode, t])
        value, parts = ppo_loss(
            chances, episodes.moves[episode, t], values, taken, clip=config.clip, entropy=config.entropy
        )
        sizes = (episodes.molecules.atoms >= 0).sum(1)
        return value, ({**of_ways(memory), **parts, "atoms": sizes.mean()}, memory)

    def of_ways(memory: Memory) -> dict[str, Array]:
        """For each way, the mean reward of the last molecules and the best so far."""
        is_there = jnp.isfinite(memory.rewards)
        means = jax.vmap(mean)(memory.rewards, is_there)
        found: dict[str, Array] = {}
        for i, name in enumerate(names):
            found |= {f"{name}_mean": means[i], f"{name}_best": memory.best[i, 0]}
        return found

    def test(params: PyTree, memory: Memory, seed: Array, data: PyTree) -> dict[str, Array]:
        found = {"scored": memory.scored, **of_ways(memory)}
        for i, name in enumerate(names):
            is_there = jnp.isfinite(memory.rewards[i])
            found |= {f"{name}_top": memory.best[i], f"{name}_unique": unique_share(memory.digests[i], is_there)}
            if ZINC in names:
                found[f"{name}_new"] = mean(memory.is_new[i].astype(jnp.float32), is_there)
        return found

    example = jax.tree.map(lambda x: np.asarray(x[:1]), begin)
    return Training(
        init=lambda key: model.init(key, example)["params"],
        sample=lambda key, step, data: key,
        request=request,
        host=functools.partial(answer, config.reward, names, size),
        loss=loss,
        optimizer=lambda hyper: optax.chain(optax.clip_by_global_norm(0.5), optax.adam(hyper["learning_rate"])),
        test=test,
        hyper={"learning_rate": config.learning_rate},
        max_steps=config.calls // size * config.steps_per_batch - 1,
        eval_every=config.eval_batches * config.steps_per_batch,
        chunk_steps=config.steps_per_batch,
        start_memory=start_memory,
        callback=Callback(files=(MOLECULES,)),
    )


def climb(climbers: Climbers, rewards_b: Array, begin: Building, key: Key) -> Climbers:
    """Keeps the proposals with rewards at least as high, and proposes each molecule after one more move.

    A climber that has not risen for long starts again, and its first molecule counts whatever its reward is.
    """
    rises, keeps = rewards_b > climbers.rewards, rewards_b >= climbers.rewards
    refused = jnp.where(rises, 0, climbers.refused + 1)
    is_over = refused > PATIENCE

    def pick(is_first: Array, first: Building, second: Building) -> Building:
        return jax.vmap(lambda one, a, b: jax.tree.map(lambda x, y: jnp.where(one, x, y), a, b))(
            is_first, first, second
        )

    molecules = pick(is_over, begin, pick(keeps, climbers.proposals, climbers.molecules))
    kept = jnp.where(is_over, -jnp.inf, jnp.where(keeps, rewards_b, climbers.rewards))
    chances = jax.vmap(building.untaught)(molecules).at[:, 0].min(-50)  # Only where no other move is left.
    moves = jax.vmap(building.draw)(jax.random.split(key, len(chances)), chances)
    return Climbers(molecules, kept, jnp.where(is_over, 0, refused), jax.vmap(building.apply)(molecules, moves))


def unique_share(digests: Array, is_there: Array) -> Array:
    """The share of different digests among those that are there."""
    digests = jnp.where(is_there[:, None], digests, 0)
    first, second = digests[jnp.lexsort((digests[:, 1], digests[:, 0], is_there))].T
    is_other = jnp.append(True, (first[1:] != first[:-1]) | (second[1:] != second[:-1]))
    return mean(is_other.astype(jnp.float32), jnp.sort(is_there))


# --- The host ---------------------------------------------------------------------------------------------------------


def answer(
    reward: str, names: Sequence[str], size: int, request: Memory, seed: int, step: int
) -> tuple[Memory, dict[str, list[dict[str, Any]]]]:
    """Lets RDKit score a batch of each way; the rows are of molecules that are among the best so far."""
    del step
    built = {POLICY: request.episodes.molecules, RANDOM: request.random, CLIMB: request.climbers.proposals}
    texts = {
        name: [molecule_scores.smiles_of(*pair) for pair in zip(found.atoms, found.bonds, strict=True)]
        for name, found in built.items()
    }
    known: frozenset[str] = frozenset()
    scored = int(request.scored)
    if ZINC in names and (there := zinc.load()):
        order, known = _order(len(there.smiles), seed), there.known
        texts[ZINC] = [there.smiles[order[(scored + i) % len(order)]] for i in range(size)]
    best, best_digests, rows = request.best.copy(), request.best_digests.copy(), []
    rewards, digests, is_new = [], [], []
    all_found = iter(score_all([text for name in names for text in texts[name]], reward, num_cores()))
    for w, name in enumerate(names):
        found = list(itertools.islice(all_found, size))
        marks = [_digest(text) for text in texts[name]]
        for i, (text, value, mark) in enumerate(zip(texts[name], found, marks, strict=True)):
            if value > best[w, -1] and not (best_digests[w] == mark).all(1).any():
                place = int((best[w] >= value).sum())
                best[w, place:] = [value, *best[w, place:-1]]
                best_digests[w, place:] = [mark, *best_digests[w, place:-1]]
                rows.append({"way": name, "scored": scored + i + 1, "smiles": text, "reward": value})
        rewards.append(found)
        digests.append(marks)
        is_new.append([name != ZINC and text not in known for text in texts[name]])
    memory = request._replace(
        scored=np.int32(scored + size),
        rewards=_shifted(request.rewards, np.array(rewards, np.float32)),
        digests=_shifted(request.digests, np.array(digests, np.int32)),
        is_new=_shifted(request.is_new, np.array(is_new)),
        best=best,
        best_digests=best_digests,
    )
    return memory, {MOLECULES: rows}


def _shifted(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    return np.concatenate([old, new], 1)[:, new.shape[1] :][:, -LAST:]


def _digest(text: str) -> np.ndarray:
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=8).digest(), "<i4")


@functools.lru_cache(maxsize=16)
def _order(count: int, seed: int) -> np.ndarray:
    """The order in which a run looks at ZINC's molecules."""
    return np.random.default_rng(seed).permutation(count)

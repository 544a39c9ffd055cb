"""Time-varying signals on graphs: a noisy diffusion on a block graph, and an epidemic on a contact network.

Both take two steps: random numbers are drawn by a key, and the signals follow from them and from the graph. So a batch
can be drawn before the graph is known. Signals are time-major with the nodes before the batch, ``[T, N, B]``.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.arrays import Array, Key
from jaxrnn.data.files import DataError, read_if_there, read_known
from jaxrnn.data.graphs import stochastic_block_model

NOISE = 0.1
"""Standard deviation of the spatial and of the temporal noise of a diffusion (the code of Ruiz et al. 2020)."""
AHEAD = 5
"""How many steps ahead a diffusion is predicted."""
NUM_BLOCKS, WITHIN, BETWEEN = 5, 0.8, 0.2
INFECTION, RECOVERY_DAYS, DAYS_AHEAD, SEED_SHARE = 0.05, 8, 4, 0.05
"""Of an epidemic: the probability of an infection per contact and day, the days until recovery, how many days ahead
it is predicted, and the share of the nodes that are infected on the first day."""
NETWORKS = ("generated", "contacts")
_CONTACTS = "contacts/edge_list.txt"


def unit_shift(adjacency: Array) -> Array:
    """``A / lambda_max`` of a symmetric matrix ``[N, N]``."""
    return adjacency / jnp.abs(jnp.linalg.eigvalsh(adjacency)).max()


def block_graph(key: Key, num_nodes: int) -> Array:
    """The shift ``[N, N]`` of a graph of `NUM_BLOCKS` blocks; nodes of the same block are linked more often."""
    blocks = jnp.arange(num_nodes) * NUM_BLOCKS // num_nodes
    probability = jnp.where(blocks[:, None] == blocks, WITHIN, BETWEEN)
    upper = jnp.triu(jax.random.uniform(key, (num_nodes, num_nodes)) < probability, 1)
    return unit_shift((upper | upper.T).astype(jnp.float32))


# --- The diffusion ----------------------------------------------------------------------------------------------------


class DiffusionNoise(NamedTuple):
    """The first signal ``[N, B]``, the noise of each step ``[T, N, B]``, and the noise all steps share ``[N, B]``."""

    first: Array
    steps: Array
    shared: Array


def draw_diffusion(key: Key, length: int, num_nodes: int, batch_size: int, correlation: float) -> DiffusionNoise:
    """The noise of sequences of `length` inputs; `correlation` is the deviation r_t of the noise all steps share."""
    first, steps, shared = jax.random.split(key, 3)
    return DiffusionNoise(
        jax.random.uniform(first, (num_nodes, batch_size)),
        2**0.5 * NOISE * jax.random.normal(steps, (length + AHEAD - 1, num_nodes, batch_size)),
        correlation * jax.random.normal(shared, (num_nodes, batch_size)),
    )


def diffuse(shift: Array, noise: DiffusionNoise) -> tuple[Array, Array]:
    """``x_{t+1} = S x_t + noise``: inputs ``x_0 .. x_{T-1}`` and targets ``x_{AHEAD} ..``, both ``[T, N, B]``."""

    def step(x: Array, w: Array) -> tuple[Array, Array]:
        x = shift @ x + w + noise.shared
        return x, x

    _, later = jax.lax.scan(step, noise.first, noise.steps)
    states = jnp.concatenate([noise.first[None], later])
    return states[:-AHEAD], states[AHEAD:]


def best_diffusion(shift: Array, xs: Array, correlation: float) -> Array:
    """The best predictions ``[T, N, B]``: the mean of the target given all inputs until then.

    They are ``S^5 x_t + (I + S + .. + S^4) m_t``, where ``m_t`` is the posterior mean of the noise that all steps
    share, which is Gaussian like the increments ``x_s - S x_{s-1}``, ``s <= t``. They are linear in ``S^k x_s``,
    ``k <= 5``, so no least-squares fit on these does better.
    """
    increments = xs[1:] - jnp.einsum("ij,tjb->tib", shift, xs[:-1])
    sums = jnp.concatenate([jnp.zeros_like(xs[:1]), jnp.cumsum(increments, axis=0)])
    counts = jnp.arange(len(xs))[:, None, None]
    shared = sums * correlation**2 / (correlation**2 * counts + 2 * NOISE**2)
    powers = _powers(shift, AHEAD)
    return jnp.einsum("ij,tjb->tib", powers[-1], xs) + jnp.einsum("ij,tjb->tib", powers[:-1].sum(axis=0), shared)


def mean_diffusion(shift: Array, length: int) -> Array:
    """The means of the targets ``[T, N, 1]``, whatever the inputs."""
    first = jnp.full((len(shift), 1), 0.5)
    return jnp.stack([power @ first for power in _powers(shift, length + AHEAD - 1)[AHEAD:]])


def _powers(shift: Array, highest: int) -> Array:
    """The powers of the shift from 0 to `highest`, ``[highest + 1, N, N]``."""

    def step(power: Array, _: None) -> tuple[Array, Array]:
        return shift @ power, power

    return jax.lax.scan(step, jnp.eye(len(shift)), length=highest + 1)[1]


# --- The epidemic -----------------------------------------------------------------------------------------------------


def contact_network(name: str) -> np.ndarray:
    """The adjacency matrix ``[N, N]``, float32, of a contact network.

    Args:
        name: ``generated`` (134 nodes and about as many edges as ``contacts``, drawn in blocks), ``contacts`` (a high
            school's, fetched once), or the path of a file with an edge, two node numbers, in each line.

    Raises:
        DataError: the file cannot be obtained, or is not a list of edges.
    """
    if name == "generated":
        task = stochastic_block_model(0, num_nodes=134, num_blocks=9, expected_degree=6.1, within_fraction=0.8)
        adjacency = np.zeros((134, 134), np.float32)
        adjacency[task.edges.receivers, task.edges.senders] = 1
        return adjacency
    if name == "contacts":
        path, raw = read_known(_CONTACTS)
    else:
        path, given = Path(name), read_if_there(Path(name))
        if given is None:
            raise DataError(f"there is no file {path}; a network is {', '.join(NETWORKS)} or a file of edges")
        raw = given
    try:
        ends = np.array([line.split()[:2] for line in raw.decode().splitlines() if line.strip()]).astype(int)
        nodes, ends = np.unique(ends.reshape(-1, 2), return_inverse=True)
    except ValueError:
        nodes = np.zeros(0)
    if not len(nodes):
        raise DataError(f"{path} should have two node numbers in each line")
    adjacency = np.zeros((len(nodes), len(nodes)), np.float32)
    first, second = ends.reshape(-1, 2).T
    adjacency[first, second] = adjacency[second, first] = 1
    np.fill_diagonal(adjacency, 0)
    return adjacency


def draw_epidemic(key: Key, length: int, num_nodes: int, batch_size: int) -> Array:
    """Uniform numbers ``[T + DAYS_AHEAD, N, B]``: they decide who is infected first, and on each day after."""
    return jax.random.uniform(key, (length + DAYS_AHEAD, num_nodes, batch_size))


def _next_day(adjacency: Array, day: Array, uniform: Array) -> Array:
    """Each node's day of infection one day later, 0 while it has not been infected; ``[N, B]``."""
    pressure = adjacency @ is_infected(day).astype(jnp.float32)
    infected = (day == 0) & (uniform < 1 - (1 - INFECTION) ** pressure)
    return jnp.where(infected, 1, jnp.where(day > 0, day + 1, 0))


def is_infected(day: Array) -> Array:
    """Whether a node is still infected on a day of its infection."""
    return (day > 0) & (day <= RECOVERY_DAYS)


def spread(adjacency: Array, uniforms: Array) -> tuple[Array, Array]:
    """Each node's day of infection ``[T + DAYS_AHEAD, N, B]``, and whether it is infected, as 0 or 1."""
    first = (uniforms[0] < SEED_SHARE).astype(jnp.int32)

    def step(day: Array, uniform: Array) -> tuple[Array, Array]:
        day = _next_day(adjacency, day, uniform)
        return day, day

    _, later = jax.lax.scan(step, first, uniforms[1:])
    days = jnp.concatenate([first[None], later])
    return days, is_infected(days).astype(jnp.float32)


def best_epidemic(key: Key, adjacency: Array, day: Array, simulations: int = 150) -> Array:
    """The share of `simulations` from a true state ``[N, B]`` in which a node is infected `DAYS_AHEAD` days later."""

    def simulate(key: Key) -> Array:
        uniforms = jax.random.uniform(key, (DAYS_AHEAD, *day.shape))
        last, _ = jax.lax.scan(lambda day, u: (_next_day(adjacency, day, u), None), day, uniforms)
        return is_infected(last).astype(jnp.float32)

    def add(total: Array, key: Key) -> tuple[Array, None]:
        return total + simulate(key), None

    total, _ = jax.lax.scan(add, jnp.zeros(day.shape), jax.random.split(key, simulations))
    return total / simulations

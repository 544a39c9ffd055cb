"""What the trained models of a run directory recommend to a user."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs.recommend import Config
from experiments.recommend.build import arrays, build_model, pose, scores
from jaxrnn.rundir.directory import RunError
from jaxrnn.rundir.fields import make_config, saved_fields
from jaxrnn.rundir.restore import load_setting
from jaxrnn.rundir.session import read_record


def recommend(workdir: Path, runs: str | None, users: Sequence[str], top: int) -> list[dict[str, Any]]:
    """By user, the first `top` items that the user did not have in the training part, and their mean scores over runs.

    Scores are predicted ratings; in the ranking task, only their order has a meaning.

    Args:
        workdir: a directory of runs of experiments.recommend.
        runs: a part of the names of the runs to take; by default all.
        users: names, as the data have them.
        top: number of items.

    Raises:
        RunError: as in `load_setting`, the data have changed, or there is no such user.
        CheckpointError, DataError: as in `load_setting` and `jaxrnn.data.ratings.load`.
    """
    read_record(workdir, "recommend")
    found, params = load_setting(workdir, runs or "")
    config = make_config(Config, saved_fields(Config, vars(found.config)))
    problem = pose(config)
    if problem.data.sha256 != found.data["sha256"]:
        raise RunError(f"{workdir}: the data set {config.dataset} is not what it was when the runs were trained")
    places = {name: i for i, name in enumerate(problem.data.users)}
    if unknown := [user for user in users if user not in places]:
        some = ", ".join(problem.data.users[:3])
        raise RunError(f"--user={unknown[0]}: {config.dataset} has no such user; it has {len(places)}, such as {some}")
    model, data = build_model(config, found.data), arrays(config, problem)
    chosen = jnp.array([places[user] for user in users])
    with jax.default_matmul_precision(config.precision):
        apply = jax.jit(lambda params: scores(config, model, params, data, chosen))
        means = np.mean([np.asarray(apply(one), np.float64) for one in params.values()], axis=0)
    rows, known = [], problem.known
    for user, of_user in zip(users, means, strict=True):
        of_user[known.items[known.users == places[user]]] = -np.inf
        best = np.argsort(-of_user, kind="stable")[:top]
        best = best[of_user[best] > -np.inf]
        rows.append(
            {
                "user": user,
                "items": [problem.data.items[item] for item in best],
                "scores": [float(f"{of_user[item]:.5g}") for item in best],
                "runs": len(params),
            }
        )
    return rows

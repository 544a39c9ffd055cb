"""Where a run comes from: host, versions, commit and device, as ``config.json`` records them."""

import datetime
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from jaxrnn import __version__
from jaxrnn.rundir.directory import FORMAT, RunError
from jaxrnn.training import settings
from jaxrnn.training.seeds import PRNG

_CODE = ("jaxrnn", "experiments", "configs")
_ROOT = Path(__file__).parents[2]
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def make_record(
    study: str | None,
    config: Mapping[str, Any],
    sweep: Mapping[str, Any],
    data: Mapping[str, Any],
    saved: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What ``config.json`` says about runs; starts JAX.

    Args:
        study: its name, if there is one.
        config: all of its fields as plain values, with the precision among them.
        sweep: the values of each swept field.
        data: what the runs are trained on.
        saved: the record of runs that go on; its command and start stay, and where they ran before is in "earlier".

    Raises:
        RunError: they were started under other settings of JAX that change numbers.
    """
    unusual = settings.unusual()
    before = saved.get("settings", {}) if saved else unusual
    if changed := [name for name in {**before, **unusual} if before.get(name) != unusual.get(name)]:
        old, new = (f"{one[changed[0]]!r}" if changed[0] in one else "JAX's own value" for one in (before, unusual))
        raise RunError(f"the runs were started with {old} for the setting {changed[0]}, which is {new} now")
    here = {"host": platform.node(), "versions": versions(), "commit": commit(), "device": device()}
    record = {
        **{"format": FORMAT, "study": study, "config": dict(config), "sweep": dict(sweep), "data": dict(data)},
        "command": sys.orig_argv,
        "start": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **here,
        "prng": PRNG,
        "precision": config["precision"],
        **({"settings": unusual} if unusual else {}),
    }
    if saved:
        then, earlier = {name: saved.get(name) for name in here}, saved.get("earlier", [])
        if then not in (here, *earlier):
            earlier = [*earlier, then]
        record |= {"command": saved["command"], "start": saved["start"], **({"earlier": earlier} if earlier else {})}
    return record


def versions() -> dict[str, str]:
    """The versions of Python, of this library and of those that numbers may depend on."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found, "jaxrnn": __version__}


def device() -> dict[str, Any]:
    """Platform and kind of the devices, and how many there are."""
    first = jax.devices()[0]
    return {"platform": first.platform, "kind": first.device_kind, "count": jax.device_count()}


def commit(root: Path = _ROOT) -> str | None:
    """The commit of this checkout, ``1a2b3c4d5e6f``, or ``1a2b3c4d5e6f.dirty`` if it was changed; None without one."""
    if not (root / ".git").exists():
        return None
    describe = ["describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=.dirty"]
    # A new study that is not committed yet counts as a change.
    new_files = ["ls-files", "--others", "--exclude-standard", "--", *_CODE]
    try:
        name, new = (
            subprocess.run(
                ["git", "--no-optional-locks", *ask], cwd=root, capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for ask in (describe, new_files)
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{name.removesuffix('.dirty')}.dirty" if new else name

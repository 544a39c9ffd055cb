"""Baselines that need no training, read from a study's directories as arms."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxrnn.rundir.read import Run
from jaxrnn.study.arms import Arm, ArmScheme

BASELINES = "baselines.json"
"""A file in a directory of complete runs: a list of ``{"fields": .., "found": {name: row}}``.

``fields`` say which problem it is, and a row is like that of a run in ``results.json``.
"""


def baseline_arms(
    scheme: ArmScheme, arms: Sequence[Arm], problem_of: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
) -> list[Arm]:
    """The baselines for the problems of these arms, from the directories of the complete ones.

    ``problem_of(setting, data)`` returns the fields that identify a problem. The baseline's setting has those of them
    that are fields of the config, and the baseline's name as `model`.
    """
    found: dict[str, Arm] = {}
    usual = dataclasses.asdict(scheme.config())
    for arm in arms:
        for path in arm.paths if arm.is_complete else ():
            for known in read_list(path / BASELINES):
                if known["fields"] != problem_of(arm.setting, arm.data):
                    continue
                own = {name: value for name, value in arm.setting.items() if name in ("dataset", *known["fields"])}
                problem = scheme.setting({**usual, **own})
                for name, row in known["found"].items():
                    setting = {**problem, "model": name}
                    run = Run(name, 0, {}, path, row, data=arm.data)
                    key = json.dumps([arm.source, arm.data, setting])
                    found.setdefault(
                        key, Arm(scheme.name(setting), setting, arm.source, [run], arm.data, is_trained=False)
                    )
    return list(found.values())


def read_list(path: Path) -> list[Any]:
    """The list in a file; empty if the file is missing or damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []

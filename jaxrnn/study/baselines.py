"""Baselines that need no training: what a study's directories have of them, as arms."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxrnn.rundir.read import Run
from jaxrnn.study.arms import Arm, ArmScheme

BASELINES = "baselines.json"
"""In a directory of complete runs: a list of ``{"fields": .., "found": {name: row}}``.

``fields`` say what problem it is, and a row has what ``results.json`` has of a run.
"""


def baseline_arms(
    scheme: ArmScheme, arms: Sequence[Arm], problem_of: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
) -> list[Arm]:
    """The baselines of the problems of these arms, from the directories of those that are complete.

    ``problem_of(setting, data)`` gives the fields by which a problem is known; those of the setting name the arm, whose
    `model` is the baseline's name.
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
    """The list that a file has; nothing where it is not there or damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []

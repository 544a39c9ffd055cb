"""The sections of the page: what studies find in run directories, and what the reader's own runs say of each other."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from jaxrnn.rundir.read import Directory, Run, describe
from jaxrnn.study.arms import Arm, Found, Source, find_arms
from jaxrnn.study.claims import Judgement, judge
from jaxrnn.study.compare import compare_arms
from jaxrnn.study.figures import comparison_curves, survival_figure
from jaxrnn.study.format import NONE, code
from jaxrnn.study.page import Block, Figure, Section, Table
from jaxrnn.study.quantities import TimeToEvent
from jaxrnn.study.study import Evidence, Measured, Study

SUMMARY, YOURS = "What was found", "Your runs"


def make_sections(
    studies: Iterable[Study], directories: Sequence[tuple[Directory, Source]], reference: str = ""
) -> list[Section]:
    """The page's sections, the summary first.

    Args:
        studies: all there are.
        directories: each with its source.
        reference: a part of the title of the arm that others are compared with; the first arm by default.
    """
    numbers = {directory.path: i for i, (directory, _) in enumerate(directories, start=1)}

    def cite(paths: Sequence[Path]) -> str:
        return ", ".join(f"[{numbers[path]}](#source-{numbers[path]})" for path in paths)

    yours: list[Block] = []
    brief: list[Block] = []
    sections = []
    for study in sorted(studies, key=lambda study: (-len(study.claims), study.title)):
        mine = [(directory, source) for directory, source in directories if directory.study == study.name]
        if not mine:
            continue
        evidence = _read_evidence(study, mine, cite)
        is_of_paper = not study.arms.paper or any(map(study.arms.is_paper, evidence.found.arms))
        judged = judge(study.claims, evidence.found) if is_of_paper else []
        content = _declared(study, evidence, judged) if is_of_paper else []
        own = _own_runs(study, evidence, reference)
        if own:
            yours.append(Section(f"{YOURS}: {study.title}", own))
        if is_of_paper and (headline := [*study.headline(evidence), *_verdicts(study, judged)]):
            brief.append(Section(f"In brief: {study.title}", headline))
        remarks = [f"- {remark}" for remark in evidence.found.remarks]
        content += [Section("Remarks", ["\n".join(remarks)], True, f"{study.name} remarks")] if remarks else []
        if content:
            sections.append(Section(study.title, content))
    figures = [figure for section in sections for figure in _figures(section)]
    if not yours and figures:
        brief.insert(1, figures[0])
    summary = [*yours, *brief] or ["No run has been found."]
    return [Section(SUMMARY, [*_own_remarks(directories), *summary]), *sections, _sources(directories)]


def _own_remarks(directories: Iterable[tuple[Directory, Source]]) -> list[str]:
    """A list of the reader's own directories that are damaged or unfinished: what they lack is missing below."""
    items = [
        f"- {code(directory.path)}: {'; '.join(directory.remarks)}"
        for directory, source in directories
        if source == "own" and directory.remarks
    ]
    return ["\n".join(items)] if items else []


def _read_evidence(
    study: Study, directories: Sequence[tuple[Directory, Source]], cite: Callable[[Sequence[Path]], str]
) -> Evidence:
    def check(run: Run) -> None:
        for quantity in study.quantities:
            quantity.value(run)

    every = [directory for directory, _ in directories]
    if study.row is None:
        return Evidence(find_arms(study.arms, directories, check), every, cite)
    measured: list[Measured] = []
    remarks = []
    for directory in every:
        try:
            config = study.arms.read(directory.config)
            rows = [study.row.model_validate(run.result) for run in directory.runs if run.result is not None]
        except ValueError as error:
            remarks.append(f"{code(directory.path)}: {describe(error)}: left out")
            continue
        if directory.complete and all(run.curve for run in directory.runs):
            suffix = f"_{len(measured) + 1}" if measured else ""
            measured.append(Measured(directory, config, rows, cite([directory.path]), suffix))
    return Evidence(Found(study.arms, [], remarks), every, cite, measured)


def _figures(section: Section) -> list[Figure]:
    inner = [figure for block in section.blocks if isinstance(block, Section) for figure in _figures(block)]
    return [*(block for block in section.blocks if isinstance(block, Figure)), *inner]


# --- What a study declares --------------------------------------------------------------------------------------------


def _declared(study: Study, evidence: Evidence, judged: Sequence[Judgement]) -> list[Block]:
    """The note, the claims and the declared sections."""
    blocks: list[Block] = [study.note] if study.note else []
    if judged:
        claims = [_claim(study, one, evidence) for one in judged]
        blocks.append(Section("Claims", [_RULE, *claims], name=f"{study.name} claims"))
    for title, shows in study.sections.items():
        content = [block for show in shows for block in show(evidence)]
        if content:
            blocks.append(Section(title, content, is_folded=True, name=f"{study.name} {title}"))
    return blocks


_RULE = """\
A claim holds if all its parts do, and does not hold if one does not. A part holds where the whole 95 % interval, or the
difference that a test finds, is on the claim's side, does not hold where it is on the other side, and is undecided in
between. The thresholds were fixed before the runs. Of an undecided part, the table says how many seeds an arm would
decide it, were what was seen the truth."""


def _verdicts(study: Study, judged: Sequence[Judgement]) -> list[str]:
    """A list of the claims, each with a link to its evidence."""
    items = [f"- [({one.claim.key})](#{_claim_id(study, one)}) {one.claim.text}: **{one.verdict}**" for one in judged]
    return ["\n".join(items)] if items else []


def _claim_id(study: Study, one: Judgement) -> str:
    return f"{study.name}-claim-{one.claim.key}".replace("_", "-")


def _claim(study: Study, one: Judgement, evidence: Evidence) -> Section:
    rows = [
        [
            f"({part.name or one.claim.key})",
            finding.verdict,
            finding.evidence,
            str(finding.seeds or "more than can be said") if finding.side == 0 and finding.arms else NONE,
            part.rule or NONE,
            evidence.cite(sorted({path for arm in finding.arms for path in arm.paths})),
        ]
        for part, finding in zip(one.claim.parts, one.findings, strict=True)
    ]
    columns = ("part", "verdict", "evidence", "seeds that would decide it", "holds if", "source")
    table = Table(f"Evidence on claim ({one.claim.key})", columns, rows)
    title = f"({one.claim.key}) {one.claim.text}: {one.verdict}"
    return Section(title, [table], is_folded=True, name=_claim_id(study, one))


# --- The reader's own runs --------------------------------------------------------------------------------------------


def _own_runs(study: Study, evidence: Evidence, reference: str) -> list[Block]:
    """The reader's own arms: those that solve the same problem beside each other."""
    problems: dict[str, list[Arm]] = {}
    for arm in evidence.found.arms:
        if arm.source == "own":
            problem = ", ".join(f"{name}={arm.setting[name]}" for name in study.arms.problem)
            problems.setdefault(problem, []).append(arm)
    return [block for item in problems.items() for block in _one_problem(study, evidence, *item, reference)]


def _one_problem(study: Study, evidence: Evidence, problem: str, group: Sequence[Arm], reference: str) -> list[Block]:
    """The arms with what sets them apart, their differences, their curves."""
    arms, shared = _short_titles(study, group)
    complete = {title: arm for title, arm in arms.items() if arm.is_complete}
    about = ", ".join(part for part in (problem, shared) if part)
    blocks: list[Block] = [_arms_table(study, evidence, about, arms)]
    primary = next(iter(study.quantities), None)
    if primary and len(complete) > 1:
        if not any(reference in title for title in complete):
            blocks.append(f"The name of no arm here has {code(reference)} in it; the first arm is the reference.")
        blocks.append(compare_arms(primary, complete, reference))
    name = re.sub(r"\W+", "_", f"{study.name}_{problem}")
    blocks += comparison_curves(f"curves_{name}", arms, study.metrics)
    if isinstance(primary, TimeToEvent) and complete:
        blocks += survival_figure(f"survival_{name}", primary, {problem: list(complete.items())})
    return blocks


def _short_titles(study: Study, arms: Sequence[Arm]) -> tuple[dict[str, Arm], str]:
    """The arms by titles without what they share, and what they share that is not at its default."""
    named, settings = study.arms.named, [arm.setting for arm in arms]
    varies = {name for name in settings[0] if any(setting[name] != settings[0][name] for setting in settings)}
    titles: dict[str, Arm] = {}
    for arm in arms:
        others = [f"{name}={arm.setting[name]}" for name in study.arms.differences(arm.setting) if name in varies]
        title = ", ".join([study.arms.label(arm.setting), *others]) + ("" if arm.is_complete else " (in training)")
        titles[title if title not in titles else f"{title} ({code(arm.paths[0].name)})"] = arm
    shared = [name for name in study.arms.differences(settings[0]) if name not in {*varies, *named}]
    return titles, ", ".join(f"{name}={settings[0][name]}" for name in shared)


def _arms_table(study: Study, evidence: Evidence, about: str, arms: Mapping[str, Arm]) -> Table:
    settings = [arm.setting for arm in arms.values()]
    apart = [name for name in settings[0] if any(setting[name] != settings[0][name] for setting in settings)]
    quantities = [_cells(study, arm) for arm in arms.values()]
    heads = list(dict.fromkeys(head for cells in quantities for head in cells))
    rows = [
        [
            title,
            *(str(arm.setting[name]) for name in apart),
            arm.count,
            *(cells.get(head, NONE) for head in heads),
            evidence.cite(arm.paths),
        ]
        for (title, arm), cells in zip(arms.items(), quantities, strict=True)
    ]
    caption = ", ".join(part for part in ("Your arms", about) if part)
    return Table(f"{caption}; brackets are 95 % intervals over seeds", ["arm", *apart, "seeds", *heads, "source"], rows)


def _cells(study: Study, arm: Arm) -> dict[str, str]:
    """What the quantities say of a complete arm: those runs that end first are no fair sample of all."""
    if not arm.is_complete:
        return {}
    return {head: cell for quantity in study.quantities for head, cell in quantity.cells(arm).items()}


# --- Sources ----------------------------------------------------------------------------------------------------------


def _sources(directories: Sequence[tuple[Directory, Source]]) -> Section:
    """Every directory that was read: how it was made, and what is damaged or missing."""
    rows = [
        [
            f'<a id="source-{number}"></a>{number}',
            code(directory.path),
            source,
            directory.study or NONE,
            str(sum(run.result is not None for run in directory.runs)),
            "; ".join(directory.origins) or NONE,
            "; ".join(directory.remarks) or "complete",
        ]
        for number, (directory, source) in enumerate(directories, start=1)
    ]
    columns = ("number", "directory", "from", "study", "runs that have ended", "made with", "state")
    return Section("Sources", [Table("The run directories that the numbers come from", columns, rows)], is_folded=True)

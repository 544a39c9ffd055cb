"""The sections of the page: what studies find in run directories, and how the reader's own runs compare."""

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from jaxrnn.rundir.read import Directory
from jaxrnn.study.arms import Arm, Source, varying_fields, with_values
from jaxrnn.study.claims import Judgement, judge
from jaxrnn.study.compare import compare_arms, is_named
from jaxrnn.study.figures import comparison_curves, survival_figure
from jaxrnn.study.format import NONE, code
from jaxrnn.study.page import Block, Figure, Section, Table, leaves
from jaxrnn.study.quantities import TimeToEvent
from jaxrnn.study.study import Evidence, Study, read_evidence


def make_sections(
    studies: Sequence[Study], directories: Sequence[tuple[Directory, Source]], reference: str = ""
) -> list[Section]:
    """The page's sections, the summary first.

    `reference` is as in `compare_arms`.
    """
    numbers = {directory.path: i for i, (directory, _) in enumerate(directories, start=1)}

    def cite(paths: Sequence[Path]) -> str:
        return ", ".join(f"[{numbers[path]}](#source-{numbers[path]})" for path in paths)

    yours: list[Block] = []
    brief: list[Block] = []
    sections, remarks = [], _own_remarks(directories, {study.name for study in studies})
    for study in sorted(studies, key=lambda study: (-len(study.claims), study.title)):
        mine = [(directory, source) for directory, source in directories if directory.study == study.name]
        if not mine:
            continue
        evidence = read_evidence(study, mine, cite)
        own = _own_runs(study, evidence, reference)
        if not study.arms.paper or any(map(study.arms.is_paper, evidence.found.arms)):
            judged = judge(study.claims, evidence.found)
            if not study.arms.paper and not any(finding.arms for one in judged for finding in one.findings):
                judged = []  # None of the arms that were found has to do with the claims.
            content = _declared(study, evidence, judged)
            if study.note and not own:
                content.insert(0, study.note)
            if headline := [*study.headline(evidence), *_verdicts(study, judged)]:
                brief.append(Section(f"In brief: {study.title}", headline))
        else:
            shown = [block for show in study.pictures for block in show(evidence)]
            content = [block for block in shown if not isinstance(block, Table)]
            own += [block for block in shown if isinstance(block, Table)]
        if own:
            yours.append(Section(f"Your runs: {study.title}", [*own, *_how_to_read(study, evidence)]))
        remarks += [remark for source, remark in evidence.found.remarks if source == "own"]
        archived = [remark for source, remark in evidence.found.remarks if source == "archive"]
        content += [Section("Remarks", _list(archived), True, f"{study.name} remarks")] if archived else []
        if content:
            sections.append(Section(study.title, content))
    if not yours:
        brief[1:1] = [block for block in leaves(sections) if isinstance(block, Figure)][:1]
    summary = [*yours, *brief] or ["No run has been found."]
    return [Section("What was found", [*_list(remarks), *summary]), *sections, _sources(directories)]


def _list(items: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {item}" for item in items)] if items else []


def _own_remarks(directories: Iterable[tuple[Directory, Source]], studies: Collection[str]) -> list[str]:
    """Remarks on those of the reader's own directories that are damaged, unfinished or of no known study."""
    remarks = []
    for directory, source in directories:
        unknown = f"is of {code(directory.study)}, which is none of the studies here: left out"
        found = [*directory.remarks, *([unknown] if directory.study and directory.study not in studies else [])]
        if source == "own" and found:
            remarks.append(f"{code(directory.path)}: {'; '.join(found)}")
    return remarks


# --- What a study declares --------------------------------------------------------------------------------------------


def _declared(study: Study, evidence: Evidence, judged: Sequence[Judgement]) -> list[Block]:
    """The claims and the declared sections."""
    blocks: list[Block] = []
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
difference that a test finds, is on the claim's side, does not hold where it is on the other side, and is undecided
otherwise. The thresholds were fixed before the runs. For an undecided part, the table says how many seeds per arm would
decide it if the observed values were the truth."""


def _verdicts(study: Study, judged: Sequence[Judgement]) -> list[str]:
    """A list of the claims, each with a link to its evidence."""
    return _list([f"[({j.claim.key})](#{_claim_id(study, j)}) {j.claim.text}: **{j.verdict}**" for j in judged])


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
    """The reader's own arms; those that solve the same problem are shown together."""
    own = [arm for arm in evidence.found.arms if arm.source == "own"]
    problems: dict[str, list[Arm]] = {}
    for arm in own:
        problems.setdefault(with_values("", arm.setting, study.arms.problem), []).append(arm)
    blocks = _off_paper(study, own)
    for problem, arms in problems.items():
        blocks += _one_problem(study, evidence, problem, arms, reference)
    return blocks


def _how_to_read(study: Study, evidence: Evidence) -> list[str]:
    """The study's note, and how the numbers of the reader's own arms are made."""
    own = [arm for arm in evidence.found.arms if arm.source == "own" and arm.is_complete]
    said = dict.fromkeys(quantity.about_intervals for quantity in study.known_quantities(own))
    differences = [study.quantities[0].about_differences] if study.quantities and len(own) > 1 else []
    return [" ".join(filter(None, [study.note, *said, *differences]))]


def _off_paper(study: Study, arms: Sequence[Arm]) -> list[Block]:
    """Says why the study's own tables and verdicts are not about these arms, if they are not."""
    if not (study.arms.paper and arms) or any(map(study.arms.is_paper, arms)):
        return []
    arm, off = min(((arm, study.arms.off_paper(arm.setting)) for arm in arms), key=lambda one: len(one[1]))
    nearest = f"The nearest, {arm.title}, would be one with {with_values('', off, off)}"
    return [f"None of your arms has a setting of the study's own results. {nearest}."]


def _one_problem(study: Study, evidence: Evidence, problem: str, group: Sequence[Arm], reference: str) -> list[Block]:
    """A table of the arms with what sets them apart, their differences and their curves."""
    settings = [arm.setting for arm in group if arm.is_trained]
    varies = varying_fields(group, study.arms.named)
    arms: dict[str, Arm] = {}
    for arm in group:
        others = [name for name in study.arms.differences(arm.setting) if name in varies]
        title = with_values(study.arms.label(arm.setting), arm.setting, others)
        title += "" if arm.is_complete else " (in training)"
        arms[title if title not in arms else f"{title} ({code(arm.paths[0].name)})"] = arm
    arms = dict(zip(_without_shared_end(list(arms)), arms.values(), strict=True))
    shared = [n for n in study.arms.differences(settings[0]) if n not in {*varies, *study.arms.named}]
    about = with_values("Your arms", settings[0], dict.fromkeys([*study.arms.problem, *shared]))
    # While others are in training, the runs that end first are not a fair sample.
    complete = {title: arm for title, arm in arms.items() if arm.is_complete}
    known = study.known_quantities(list(complete.values()))
    rows = []
    for title, arm in arms.items():
        has = [name for name in varies if arm.is_trained or name in study.arms.named]
        cells = {**{name: str(arm.setting[name]) for name in has}, "seeds": arm.count}
        for quantity in known if arm.is_complete else ():
            cells |= quantity.cells(arm)
        rows.append((title, arm, cells))
    blocks: list[Block] = [evidence.table(f"{about}; brackets are 95 % intervals over seeds", rows)]
    primary = next(iter(study.quantities), None)
    if primary and len(complete) > 1:
        if not any(is_named(reference, title) for title in complete):
            blocks.append(f"No arm here has {code(reference)} in its name; the first arm is the reference.")
        blocks.append(compare_arms(primary, complete, reference))
    name = re.sub(r"\W+", "_", f"{study.name}_{problem}")
    blocks += comparison_curves(f"curves_{name}", arms, study.metrics)
    if isinstance(primary, TimeToEvent) and complete:
        blocks += survival_figure(f"survival_{name}", primary, {problem: list(complete.items())})
    return blocks


def _without_shared_end(titles: list[str]) -> list[str]:
    """Titles without the last words that all of several have in common, such as their problem."""
    words, shared = [title.split(" ") for title in titles], 0
    while len(titles) > 1 and min(map(len, words)) > shared + 1 and len({one[-1 - shared] for one in words}) == 1:
        shared += 1
    return [" ".join(one[: len(one) - shared]).rstrip(",") for one in words]


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

"""The binary that writes: a model that knows eight characters in a circle, so that its texts are known beforehand."""

import io
import json
import re
import runpy
import shutil
from collections import Counter

import pytest
import scipy.stats
from absl import flags
from absl.testing import flagsaver
from processes import ROOT

from configs.text import Config
from experiments import _cli, sample, text
from jaxrnn.rundir import session
from jaxrnn.rundir.checkpoint import CheckpointError
from jaxrnn.rundir.directory import RunError
from jaxrnn.training.definition import ConfigError

CIRCLE = "abcdefgh"
LAST = 150
DRAWN = "--tau=0.1", "--length=40", "--json"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two seeds that are trained to the end, and kept after two steps, too."""
    folder = tmp_path_factory.mktemp("circle")
    (folder / "circle.txt").write_text(CIRCLE * 50)
    sizes = {"num_layers": 1, "hidden_size": 16, "embedding_size": 8, "seq_length": 16, "batch_size": 8}
    steps = {"max_steps": LAST, "eval_every": 50, "chunk_steps": 50, "sample_steps": (2,), "learning_rate": 0.02}
    config = Config(corpus=str(folder / "circle.txt"), num_seeds=2, **sizes, **steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text.build, "TAUS", ())  # Its greedy texts are enough here.
        session.start(text.STUDY, config, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def binary_flags():
    """The binary's own flags, in this process."""
    before = set(flags.FLAGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_cli, "run", lambda action: None)
        runpy.run_path(sample.__file__, run_name="__main__")
    yield
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


@pytest.fixture
def write(binary_flags, run, capsys):
    """What the binary prints, run in this process."""

    def call(*arguments, run_seed=0, workdir=run):
        which = [] if run_seed is None else [f"--run_seed={run_seed}"]
        with flagsaver.flagsaver():
            flags.FLAGS(["sample", f"--workdir={workdir}", *which, *map(str, arguments)])
            sample.sample()
        return capsys.readouterr().out

    return call


@pytest.fixture
def write_rows(write):
    return lambda *arguments, **where: [json.loads(line) for line in write("--json", *arguments, **where).splitlines()]


@pytest.fixture(scope="module")
def start(run, binaries):
    """Runs the binary as a process of its own."""
    return lambda *arguments, workdir=run: binaries.run("sample", f"--workdir={workdir}", *arguments)


def circle(beginning, length):
    """The text of that length that goes on as the circle does."""
    at = CIRCLE.index(beginning[-1]) + 1
    return (beginning + CIRCLE[at:] + CIRCLE * length)[:length]


def sampled(run, seed, step):
    """The greedy texts that training itself wrote."""
    rows = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    wanted = {"seed": seed, "step": step, "tau": None, "length": 120}
    return [row["text"] for row in rows if row.items() >= wanted.items()]


# --- Texts ------------------------------------------------------------------------------------------------------------


def test_a_periodic_text_is_learnt_and_measured_on_what_it_was_learnt_from(run):
    for row in json.loads((run / "results.json").read_text())["runs"]:
        assert row["train_accuracy"] > 0.95
        assert row["train_bits_per_character"] < 0.5
        assert not [name for name in row if name.startswith(("validation", "test"))]
    assert not (run / "validation.jsonl").exists()
    texts = sampled(run, 0, LAST) + sampled(run, 1, LAST)
    assert texts == [circle(t[0], 120) for t in texts]


def test_greedy_texts_continue_each_prompt(write_rows):
    prompts = ["cde", "h", "abcdefghab"]
    rows = write_rows("--greedy", "--length=40", *(f"--prompt={prompt}" for prompt in prompts))
    assert rows == [{"prompt": p, "text": circle(p, 40), "tau": None, "seed": 0} for p in prompts]
    assert list(rows[0]) == ["prompt", "text", "tau", "seed"]


def test_a_process_prints_the_same_lines(start, write):
    arguments = [*DRAWN, "--run_seed=1", "--prompt=ab", "--prompt=fghabcd", "--num=2", "--seed=3"]
    done = start(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == write(*arguments, run_seed=None)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["prompt"] for row in rows] == ["ab", "ab", "fghabcd", "fghabcd"]
    assert all(len(row["text"]) == 40 and row["text"].startswith(row["prompt"]) for row in rows)
    assert len({row["text"][10:] for row in rows}) == 4
    assert {(row["tau"], row["seed"]) for row in rows} == {(0.1, 3)}


def test_a_process_prints_plain_texts_with_a_line_between_them(start):
    done = start("--run_seed=0", "--greedy", "--num=2", "--start=c", "--length=30", "--stop=bcd")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "cdefgha\n---\ncdefgha\n"


def test_the_first_texts_do_not_depend_on_how_many_there_are(write):
    three = write(*DRAWN, "--num=3", "--prompt=ab").splitlines()
    assert write(*DRAWN, "--num=1", "--prompt=ab").splitlines() == three[:1]
    assert len(set(three)) == 3
    others = write(*DRAWN, "--num=3", "--prompt=ab", "--seed=1").splitlines()
    assert not {json.loads(line)["text"] for line in others} & {json.loads(line)["text"] for line in three}


def test_run_seed_and_step_pick_the_weights(run, write_rows):
    def again(texts, seed, *arguments):
        prompts = [f"--prompt={t[0]}" for t in texts]
        return [row["text"] for row in write_rows("--greedy", "--length=120", *prompts, *arguments, run_seed=seed)]

    for seed in (0, 1):
        early, late = sampled(run, seed, 2), sampled(run, seed, LAST)
        assert again(early, seed, "--step=2") == early
        assert again(early, 1 - seed, "--step=2") != early
        assert again(late, seed) == again(late, seed, f"--step={LAST}") == late
        assert again(late, seed, "--step=2") != late


def test_without_a_prompt_the_first_character_is_uniform(write_rows):
    rows = write_rows("--length=1", "--num=800")
    assert all((row["text"], row["tau"]) == (row["prompt"], 1.0) for row in rows)
    counts = Counter(row["text"] for row in rows)
    assert set(counts) == set(CIRCLE)
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_unknown_characters_are_dropped_on_demand(write_rows):
    (row,) = write_rows("--greedy", "--prompt=aXbÄc", "--length=40", "--skip_unknown")
    assert (row["prompt"], row["text"]) == ("abc", circle("abc", 40))


def test_a_prompt_is_the_text_of_a_file(write_rows, tmp_path, monkeypatch):
    (tmp_path / "my prompt.txt").write_bytes(b"\xef\xbb\xbfbcd\r\n")
    (row,) = write_rows("--greedy", f"--prompt_file={tmp_path / 'my prompt.txt'}", "--length=40")
    assert (row["prompt"], row["text"]) == ("bcd", circle("bcd", 40))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"gh")))
    (row,) = write_rows("--greedy", "--prompt_file=-", "--length=40")
    assert (row["prompt"], row["text"]) == ("gh", circle("gh", 40))


def test_choices_of_the_next_character(write_rows):
    def texts(*arguments):
        rows = write_rows("--prompt=ab", "--num=3", "--length=40", *arguments)
        return [row["text"] for row in rows], rows[0]["tau"]

    assert texts("--temperature=4") == texts("--tau=0.25") != texts("--tau=0.1")
    certain = [circle("ab", 40)] * 3
    assert texts("--tau=0.1")[0] != certain
    for flag in ("--top_k=1", "--top_p=1e-6"):
        assert texts("--tau=0.1", flag) == (certain, 0.1)


# --- Bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--prompt=aZbÄa\n"], r"--prompt='aZbÄa\n': not in the vocabulary: '\n', 'Z', 'Ä'; --skip_unknown drops them"),
        (["--prompt=ab", "--prompt=aZ"], "--prompt='aZ': not in the vocabulary: 'Z'"),
        (["--start=Z"], "--start='Z': not in the vocabulary: 'Z'"),
        (["--prompt="], "--prompt='': nothing to continue"),
        (["--prompt=XYZ", "--skip_unknown"], "--prompt='XYZ': nothing to continue"),
        (["--start="], "--start=: should be one character"),
        (["--start=ab"], "--start=ab: should be one character"),
        (["--start=a", "--prompt=b"], "flags prompt=['b'], start=a, prompt_file=None: At most one of"),
        (["--prompt=a", "--prompt_file=-"], "flags prompt=['a'], start=None, prompt_file=-: At most one of"),
        (["--prompt_file=none.txt"], "--prompt_file=none.txt: there is no such file"),
        (["--prompt=abcd", "--length=3"], "--length=3: counts the prompt too, which has 4 characters"),
        (["--smiles=C"], "--smiles: is for runs of molecules, and "),
        (["--length=0"], "flag --length=0: 0 is not a positive integer"),
        *(([f"--seed={seed}"], f"flag --seed={seed}: ") for seed in (2**31, 2**64)),
        (["--num=0"], "flag --num=0: 0 is not a positive integer"),
        *(([f"--tau={tau}"], f"flag --tau={float(tau)}: should be a positive number") for tau in ("0", "nan", "inf")),
        (["--temperature=-2"], "flag --temperature=-2.0: should be a positive"),
        (["--tau=2", "--temperature=0.5"], "flags greedy=None, tau=2.0, temperature=0.5: At most one of"),
        (["--greedy", "--tau=2"], "flags greedy=True, tau=2.0, temperature=None: At most one of"),
        (["--greedy", "--top_k=2"], "flags greedy=True, top_k=2: At most one of"),
        (["--top_k=0"], "flag --top_k=0: 0 is not a positive integer"),
        *(([f"--top_p={p}"], f"flag --top_p={float(p)}: should be above 0 and at most 1") for p in ("0", "1.1", "nan")),
        ([], "--workdir=DIR is needed"),
    ],
    ids=str,
)
def test_flags_that_cannot_be_used(write, run, arguments, complaint):
    with pytest.raises((_cli.UsageError, flags.Error)) as error:
        write(*arguments, workdir=run if arguments else "")
    assert str(error.value).startswith(complaint)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("study", "arguments", "flag"),
    [
        ("recommend", ["--user=1", "--prompt=a"], "prompt"),
        ("recommend", ["--user=1", "--num=2"], "num"),
        ("generate", ["--temperature=2"], "temperature"),
        ("molecules", ["--smiles=C", "--top_k=2"], "top_k"),
    ],
)
def test_flags_that_a_study_does_not_read_are_refused(run, write, tmp_path, study, arguments, flag):
    record = json.loads((run / "config.json").read_text()) | {"study": study}
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(_cli.UsageError, match=f"--{flag}.*{study}"):
        write(*arguments, run_seed=None, workdir=tmp_path)


def test_the_notebook_in_the_docs_restores_a_model(run):
    (snippet,) = re.findall(r"```python\n(from pathlib.*?)```", (ROOT / "docs/howto/texts.md").read_text(), re.DOTALL)
    names = {}
    exec(snippet.replace('"runs/grimm"), run=None', f'"{run}"), run="seed=1"').replace("Once upon", "abc"), names)
    assert names["run"] == "seed=1"
    assert names["logits"].shape == (3, 1, len(names["characters"]))


def test_runs_and_steps_that_are_not_there_list_those_that_are(run, write):
    which = ["seed=0 at step 2", f"seed=1 at step {LAST}"]
    for arguments, run_seed, complaint in [
        ([], None, f"{run}: which run? Give "),
        ([], 7, f"{run}: no such run has been saved; there are: "),
        (["--step=3"], 0, f"{run}: no such run has been saved; there are: "),
    ]:
        with pytest.raises(RunError) as error:
            write(*arguments, run_seed=run_seed)
        assert str(error.value).startswith(complaint)
        assert "\n" not in str(error.value)
        assert all(one in str(error.value) for one in which)


def test_directories_without_a_model(run, write, tmp_path):
    config = json.loads((run / "config.json").read_text())
    for name, content in [("empty", None), ("started", config), ("other", {**config, "study": "palindrome"})]:
        (tmp_path / name).mkdir()
        if content:
            (tmp_path / name / "config.json").write_text(json.dumps(content))
    for name, complaint in [
        ("nowhere", "no such directory"),
        ("empty", "holds no run"),
        ("started", "no checkpoint has been saved there"),
        ("other", "holds runs of the study 'palindrome', not of 'text'"),
    ]:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(RunError) as error:
            write("--greedy", workdir=tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: {complaint}")
        assert "\n" not in str(error.value)
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"config": {"cell": "xx"}}, "cell=xx: should be one of gru, "),
        ({"config": {"hidden_size": "16"}}, "hidden_size=16: input should be a valid integer"),
        ({"config": {"hidden_size": 17}}, "{}: head/kernel is float32[16, 8], not float32[17, 8]"),
        ({"data": {"characters": 8}}, "{}/config.json: does not say what the characters are"),
    ],
)
def test_a_record_that_does_not_fit_the_weights(run, write, tmp_path, changes, complaint):
    path = shutil.copytree(run, tmp_path / "run")
    record = json.loads((path / "config.json").read_text())
    for part, values in changes.items():
        record[part] |= values
    (path / "config.json").write_text(json.dumps(record))
    with pytest.raises((RunError, CheckpointError, ConfigError)) as error:
        write("--greedy", workdir=path)
    assert complaint.format(path) in str(error.value)

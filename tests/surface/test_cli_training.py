"""Training from the command line: what is refused before it begins, and what stops it."""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from command_line import SMALL, material, refused, vocablo
from vocablo.training.watchers import Log


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory):
    with material(tmp_path_factory.mktemp("cli")):
        yield


def pretrain(family: str, *arguments: str, out: str) -> SimpleNamespace:
    return vocablo("pretrain", family, "--out", out, *arguments)


TEXT = ["--text", "text.txt"]


@pytest.mark.parametrize(
    ("family", "given", "words"),
    [
        ("gtp", TEXT, ["gtp", "did you mean 'gpt'"]),
        ("gpt", [*TEXT, "--size", "tny"], ["tny", "did you mean 'tiny'"]),
        ("gpt", [*TEXT, "--recipe", "demo-transfomer"], ["did you mean 'demo-transformer'"]),
        ("gpt", [*TEXT, "--recipe", "gone.toml"], ["gone.toml"]),
        ("gpt", [*TEXT, "--recipe", "lstm"], ["'lstm'", "'gpt'"]),
        ("gpt", [*TEXT, "train.lrr=1"], ["train.lrr", "did you mean 'lr'"]),
        ("gpt", [*TEXT, "trian.lr=1"], ["trian", "did you mean 'train'"]),
        ("gpt", [*TEXT, "model.stack.layer=1"], ["stack.layer", "did you mean 'layers'"]),
        ("gpt", [*TEXT, "train.lr=abc"], ["train.lr", "number", "'abc'"]),
        ("gpt", [*TEXT, "train=3"], ["train is a section", "train.key=value"]),
        ("gpt", [*TEXT, "train.lr=-1"], ["train.lr", "greater than 0"]),
        ("gpt", [*TEXT, "train.lr=inf"], ["train.lr", "finite"]),
        ("gpt", [*TEXT, "model.stack.layers=abc"], ["stack.layers", "integer", "'abc'"]),
        ("gpt", [*TEXT, "model.attention.heads=7"], ["multiple", "attention.heads 7"]),
        ("gpt", [*TEXT, "context=-5"], ["context", "2"]),
        ("gpt", [*TEXT, "train.batch=0"], ["train.batch", "1"]),
        ("gpt", [*TEXT, "--steps", "-5"], ["train.steps", "1", "-5"]),
        ("gpt", [*TEXT, "--minutes", "-1"], ["train.minutes", "greater than 0"]),
        ("gpt", [*TEXT, "--minutes", "inf"], ["train.minutes", "finite"]),
        ("gpt", [*TEXT, "--minutes", "1", "--steps", "10"], ["only one", "steps, minutes"]),
        ("gpt", [*TEXT, "--minutes", "1", "train.steps=10"], ["only one", "steps, minutes"]),
        ("gpt", [*TEXT, "--steps", "1", "train.epochs=1"], ["only one", "steps, epochs"]),
        ("ngram", [*TEXT, "--minutes", "1"], ["no steps", "minutes"]),
        ("gpt", [*TEXT, "--documents", "lines"], ["documents", "'line'"]),
        ("gpt", [*TEXT, "--seeds", "1", "1"], ["1 1 repeat"]),
        ("gpt", [*TEXT, "tokenizer.kind=bep"], ["bep", "did you mean 'bpe'"]),
        ("gpt", [*TEXT, "--tokenizer", "hollow"], ["tokenizer.json", "hollow"]),
        ("gpt", [*TEXT, "--validation-text", "gone"], ["no file or folder gone"]),
        ("gpt", [*TEXT, "--resume"], ["no run to resume", "without --resume"]),
        ("gpt", [], ["--text"]),
        ("gpt", ["text.txt"], ["'text.txt'", "--text"]),
        ("gpt", ["--text", "txet.txt"], ["txet.txt", "did you mean 'text.txt'"]),
        ("gpt", ["--text", "*.md"], ["No file matches *.md"]),
        ("gpt", ["--text", "empty.txt"], ["no text in empty.txt"]),
        ("gpt", ["--text", "blank.txt"], ["no text in blank.txt"]),
        ("gpt", ["--text", "nothing"], ["folder nothing has no files"]),
        ("gpt", ["--text", "image.txt"], ["image.txt", "PNG image"]),
        ("gpt", ["--text", "noise.txt"], ["noise.txt", "may not be text", "--encoding"]),
        ("gpt", ["--text", "latin1.txt"], ["latin1.txt", "latin-1", "--encoding latin-1"]),
        ("gpt", [*TEXT, "--encoding", "lattin"], ["vocablo: There is no encoding 'lattin'", "latin-1"]),
        ("gpt", ["--text", "rows.csv"], ["id, texto", "--column"]),
        ("gpt", ["--text", "rows.csv", "--column", "text"], ["'text'", "did you mean 'texto'"]),
        ("gpt", ["--text", "rows.jsonl", "--column", "text"], ["'text'", "did you mean 'texto'"]),
        ("gpt", [*TEXT, "--column", "texto"], ["no columns", "texto"]),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else value,
)
def test_training_that_can_not_begin(family, given, words):
    refused(pretrain(family, *given, out="never"), *words)
    assert not (Path("never") / "run" / "state.json").exists()


def test_where_to_is_asked_for():
    refused(vocablo("pretrain", "gpt", *TEXT), "--out")
    refused(vocablo("pretrain", "gpt", "--resume"), "--out")


@pytest.mark.parametrize(
    ("out", "words"),
    [("gpt", "finished run"), ("ngram", "finished run"), ("full", "poem.txt"), ("text.txt", "is a file")],
)
def test_an_occupied_folder_is_refused_before_work(out, words):
    refused(pretrain("gpt", *TEXT, out=out), out, words, "choose")
    refused(pretrain("ngram", *TEXT, out=out), out, words, "choose")


@pytest.mark.parametrize(("family", "words"), [("gpt", "one window of 256"), ("lstm", "parallel streams")])
def test_a_text_that_is_shorter_than_a_window(family, words, tmp_path):
    done = pretrain(family, "--text", "short.txt", out=str(tmp_path / "m"))
    refused(done, words, "give more text", "smaller", early=False)
    assert "train:" not in done.err


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_a_vocabulary_that_is_larger_than_the_text_allows(kind, tmp_path):
    given = [*TEXT, f"tokenizer.kind={kind}", "tokenizer.vocab=90000"]
    done = pretrain("gpt", *given, out=str(tmp_path / "m"))
    refused(done, "90000", "choose at most", "more text", early=False)
    assert "train:" not in done.err


@pytest.mark.parametrize("encoding", ["auto", "latin-1"])
def test_a_latin_1_text_is_read_when_that_is_said(encoding, tmp_path):
    done = pretrain(
        "ngram", "--text", "latin1.txt", "--encoding", encoding, "--documents", "line", out=str(tmp_path / "m")
    )
    assert done.code == 0
    assert ("note: latin1.txt: read as latin-1" in done.err) == (encoding == "auto")
    assert json.loads(vocablo("score", "año", "-m", str(tmp_path / "m"), "--json").out)["unknown"] in (0, 1)
    expected, found = (
        vocablo("score", "La música", "-m", name, "--json").out for name in ("ngram", str(tmp_path / "m"))
    )
    assert json.loads(expected)["tokens"] == json.loads(found)["tokens"]


def tiny(out: Path, *arguments: str) -> SimpleNamespace:
    return pretrain("gpt", *TEXT, *SMALL.split(), "tokenizer.kind=char", *arguments, out=str(out))


def test_a_loss_that_is_not_finite(tmp_path):
    done = tiny(tmp_path / "m", "--steps", "20", "train.lr=1e30")
    refused(done, "Step 2", "loss is nan", "smaller lr", "1e+30", early=False)


@contextlib.contextmanager
def ctrl_c_after(step: int):
    """A Ctrl-C arrives when this step of a run was made."""
    called = Log.__call__

    def interrupted(self, made):
        called(self, made)
        if made.step == step:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Log, "__call__", interrupted)
        yield


def test_ctrl_c_saves_and_resume_goes_on(tmp_path):
    with ctrl_c_after(4):
        done = tiny(tmp_path / "m", "--steps", "9")
    refused(done, "SIGINT", "step 4 of 9", "saved", "--resume", code=130, early=False)
    refused(vocablo("next", "el", "-m", str(tmp_path / "m")), "isn't finished", "--resume")
    refused(tiny(tmp_path / "m", "--steps", "9"), "already holds a run", "--resume")
    refused(tiny(tmp_path / "m", "--steps", "8", "--resume"), "steps was 9 and is 8", early=False)
    done = pretrain("gpt", "--resume", out=str(tmp_path / "m"))
    assert done.code == 0, done.err
    straight = tiny(tmp_path / "straight", "--steps", "9")
    assert straight.code == 0
    resumed, whole = (tmp_path / name / "model.safetensors" for name in ("m", "straight"))
    assert resumed.read_bytes() == whole.read_bytes()


def test_of_several_seeds_resume_goes_on_with_one_and_begins_the_next(tmp_path):
    given = ["--steps", "4", "--seeds", "3", "5", "--json"]
    with ctrl_c_after(2):
        refused(tiny(tmp_path / "m", *given), "seed-3", "--resume", code=130)
    refused(tiny(tmp_path / "m", *given), "seed-3", "--resume")
    done = tiny(tmp_path / "m", *given, "--resume")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert [one["seed"] for one in told["seeds"]] == [3, 5]
    assert told["perplexity_deviation"] > 0
    straight = json.loads(tiny(tmp_path / "straight", *given).out)
    assert told["perplexity"] == straight["perplexity"]


def test_ctrl_c_of_the_whole_program(tmp_path):
    """From outside, with the signal that a terminal sends."""
    arguments = ["pretrain", "gpt", *TEXT, "--out", str(tmp_path / "m"), *SMALL.split(), "--steps", "100000"]
    arguments += ["tokenizer.kind=char", "train.evaluate_every=100000", "train.save_every=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vocablo", *arguments],
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    metrics = tmp_path / "m" / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    refused(SimpleNamespace(code=process.returncode, out="", err=err), "saved", "--resume", code=130, early=False)


def test_ctrl_c_anywhere_else_is_one_line(monkeypatch):
    monkeypatch.setattr("vocablo.api.recipes", lambda: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore the signal
    try:
        refused(vocablo("recipe", "list"), "interrupted", code=130)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_disk_without_room_is_noticed_before_training(tmp_path, monkeypatch):
    from vocablo.training import train

    def full(path, size, what):
        original(path, 1 << 60, what)

    original = train.require_space
    monkeypatch.setattr(train, "require_space", full)
    done = tiny(tmp_path / "m", "--steps", "3")
    refused(done, "needs about", "free some space", early=False)
    assert "train:" not in done.err


def test_a_disk_that_gets_full_while_writing(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    refused(vocablo("corpus", "--sentences", "3", "--out", str(tmp_path / "c.txt")), "No space left", "free some space")
    assert list(tmp_path.iterdir()) == []


def test_a_file_over_the_limit_of_the_system(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        corpus = vocablo("corpus", "--sentences", "300", "--out", str(tmp_path / "c.txt"))
        trained = pretrain("ngram", *TEXT, out=str(tmp_path / "m"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    refused(corpus, "c.txt", "limit")
    refused(trained, str(tmp_path / "m"), "limit", early=False)
    assert not (tmp_path / "c.txt").exists()
    assert not (tmp_path / "m" / "config.json").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 200 KiB, where the tests may mount one."""
    where = tmp_path / "disk"
    where.mkdir()
    if not shutil.which("mount") or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(where)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


@pytest.mark.parametrize("family", ["gpt", "ngram"])
def test_a_small_disk(small_disk, family):
    done = pretrain(family, *TEXT, *(SMALL.split() if family == "gpt" else ()), out=str(small_disk / "m"))
    refused(done, str(small_disk), "free some space", early=False)
    assert not (small_disk / "m" / "config.json").exists()

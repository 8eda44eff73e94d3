"""The command line as a user meets it: answers as JSON, and one clear line for a question that can't be answered."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from command_line import material, refused, vocablo
from vocablo import api
from vocablo.cli.arguments import spread
from vocablo.cli.main import app
from vocablo.text.kinds import DEFAULT_VOCAB, WORDPIECE_VOCABS


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory):
    with material(tmp_path_factory.mktemp("cli")):
        yield


def test_help_is_quick_and_loads_no_torch():
    code = (
        "import sys; sys.argv = ['vocablo', *sys.argv[1:]]\nfrom vocablo.cli.main import main\n"
        "try: main()\nfinally: print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'numpy', 'tokenizers'}))"
    )
    for arguments in (["--help"], ["pretrain", "--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"
        assert done.stderr == ""


def commands(command, path=()):
    """A command and all below it, with their names."""
    yield command, path
    for name, one in getattr(command, "commands", {}).items():
        yield from commands(one, (*path, name))


def test_help_shows_every_text_whole(monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    plain = lambda text: " ".join(text.replace("`", "").replace("│", " ").split())  # noqa: E731
    for command, path in commands(typer.main.get_command(app)):
        shown = plain(vocablo(*path, "--help").out)
        texts = [command.help, *(getattr(parameter, "help", None) for parameter in command.params)]
        assert [text for text in texts if text and plain(text) not in shown] == []


def test_the_help_says_how_large_a_vocabulary_is():
    shown = vocablo("tokenizer", "train", "--help").out
    sizes = [DEFAULT_VOCAB, *(size for _, size in WORDPIECE_VOCABS)]
    texts = [*map(str, sizes), *(f"{least // 10**6}M" for least, _ in WORDPIECE_VOCABS)]
    assert [text for text in texts if text not in shown] == []


def test_without_a_command_the_help_is_shown():
    done = vocablo()
    assert "pretrain" in done.out
    assert (done.code, done.err) == (2, "")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("next x --among gato perro -k 3", "next x --among gato --among perro -k 3"),
        ("pretrain gpt --text a b train.lr=1 --out o", "pretrain gpt --text a --text b train.lr=1 --out o"),
        ("generate -- --text a b", "generate -- --text a b"),
        ("generate x --stop . ! --seed 1", "generate x --stop . --stop ! --seed 1"),
    ],
)
def test_options_with_many_values(given, read):
    assert spread(given.split()) == read.split()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("foo", ["foo", "--help"]),
        ("pretrain", ["family", "pretrain --help"]),
        ("pretrain gpt --stepz 3", ["--stepz", "--steps"]),
        ("pretrain gpt --steps abc", ["--steps", "integer"]),
        ("corpus --sentences -4", ["--sentences", "1"]),
        ("corpus --sentences 3 --out hollow", ["hollow", "directory"]),
        ("corpus --reviews 3 --pairs 3", ["--reviews and --pairs"]),
        ("evaluate senses -m nowhere --language es", ["--language doesn't go with senses"]),
        ("recipe show gtp", ["gtp", "'gpt'"]),
        ("tokenizer show hollow", ["hollow", "tokenizer.json"]),
        ("tokenizer train --text text.txt --out tk --kind bep", ["bep", "'bpe'"]),
        ("tokenizer train --text text.txt --out tk --vocab -3", ["vocab", "greater"]),
        ("tokenizer train --text text.txt --out tk --vocab 90000", ["90000", "at most"]),
        ("tokenizer train --text text.txt --out tk --kind word --vocab 90000", ["90000", "at most"]),
    ],
)
def test_wrong_arguments(given, words):
    refused(vocablo(*given.split()), *words)
    assert not Path("tk").exists()


SCORED = ["el gato duerme .", "la gata come"]


@pytest.mark.parametrize(
    ("given", "ask"),
    [
        (["next", "el", "-k", "3"], lambda m: m.next("el", k=3)),
        (["next", "el", "--among", "gato", "perro"], lambda m: m.next("el", among=["gato", "perro"])),
        (["next", "el", "--tokens"], lambda m: m.next_tokens("el")),
        (["score", SCORED[0], "--end"], lambda m: m.score(SCORED[0], end=True)[0]),
        (["perplexity", "--text", "full", "--stride", "8"], lambda m: m.perplexity("full", stride=8)),
    ],
    ids=["next", "among", "tokens", "score", "perplexity"],
)
@pytest.mark.parametrize("name", ["gpt", "ngram"])
def test_json_has_the_attributes_of_the_result(given, ask, name):
    done = vocablo(*given, "--model", name, "--json")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    result = ask(api.load(name))
    public = {attribute for attribute in dir(result) if not attribute.startswith("_")}
    assert told.keys() == public
    for attribute in ("prompt", "left_out", "log_prob", "perplexity", "bits_per_byte", "tokens"):
        if hasattr(result, attribute) and isinstance(getattr(result, attribute), (str, float, int)):
            assert told[attribute] == pytest.approx(getattr(result, attribute))


def test_json_of_several_results_is_one_object_too():
    texts = json.loads(vocablo("score", *SCORED, "-m", "ngram", "--json").out)["results"]
    assert [one["text"] for one in texts] == SCORED
    made = json.loads(vocablo("generate", "el", "-n", "2", "-m", "ngram", "--json", "--max-tokens", "4").out)["results"]
    written = api.load("ngram").generate("el", samples=2, max_tokens=4)
    assert [(one["text"], one["finished_by"]) for one in made] == [(one.text, one.finished_by) for one in written]


@pytest.mark.parametrize("given", ["info gpt", "info ngram", "tokenizer show gpt hola", "recipe list"])
def test_other_commands_have_json_and_text(given):
    shown, told = vocablo(*given.split()), vocablo(*given.split(), "--json")
    assert (shown.code, told.code, shown.err + told.err) == (0, 0, "")
    assert shown.out.strip()
    for key in json.loads(told.out):
        assert key.isidentifier()


def test_a_warning_is_one_note_and_shows_no_code(tmp_path):
    shutil.copytree("gpt", tmp_path / "odd", ignore=shutil.ignore_patterns("run"))
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config | {"sparse_magic": True}))
    done = vocablo("next", "el", "-m", str(tmp_path / "odd"))
    assert done.code == 0
    (line,) = done.err.splitlines()
    assert line.startswith("note: ")
    assert "sparse_magic" in line


def test_the_streamed_text_is_the_generated_one():
    shown = vocablo("generate", "el gato", "-m", "ngram", "--seed", "3").out
    assert shown == f"el gato{api.load('ngram').generate('el gato', seed=3)[0].text}\n"


def test_texts_are_scored_from_standard_input():
    done = vocablo("score", "-", "-m", "ngram", "--json", stdin="\n".join(SCORED) + "\n")
    assert [one["text"] for one in json.loads(done.out)["results"]] == SCORED


def test_the_table_is_drawn_into_a_file(tmp_path):
    done = vocablo("next", "el", "-m", "ngram", "--html", str(tmp_path / "table.html"))
    assert done.code == 0
    assert "<svg" in (tmp_path / "table.html").read_text()


def test_attention_is_printed_and_drawn(tmp_path):
    text = "el gato duerme"
    shown = vocablo(
        "attend", text, "-m", "gpt", "--html", str(tmp_path / "all.html"), "--svg", str(tmp_path / "one.svg")
    )
    assert shown.code == 0, shown.err
    assert "layer 1 of 1, mean of 2 heads" in shown.out
    assert "<end>" in shown.out
    assert "data:image/png" in (tmp_path / "all.html").read_text()
    assert (tmp_path / "one.svg").read_text().startswith("<svg")
    told = json.loads(vocablo("attend", text, "-m", "gpt", "--head", "2", "--json").out)
    result = api.load("gpt").attend(text, heads=[2])
    assert told.keys() == {"tokens", "layers", "heads", "weights", "depth", "width", "looked"}
    assert told["looked"] is None  # of one text
    assert told["tokens"] == list(result.tokens)
    assert told["heads"] == [2]
    assert told["weights"] == result.weights.tolist()


def test_the_model_may_be_named_by_the_environment(monkeypatch):
    monkeypatch.setenv("VOCABLO_MODEL", "ngram")
    assert vocablo("next", "el").code == 0


LONG = "el gato duerme en la mesa " * 20


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["next", "el"], ["--model", "VOCABLO_MODEL", "vocablo demo"]),
        (["next", "el", "-m", "gone"], ["gone", "path"]),
        (["next", "el", "-m", "hollow"], ["hollow", "config.json"]),
        (["next", "el", "-m", "text.txt"], ["text.txt is a file"]),
        (["next", "el", "-m", "gpt", "-k", "0"], ["k is at least 1", "0"]),
        (["next", "el", "-m", "gpt", "-k", "-1", "--tokens"], ["k is at least 1"]),
        (["next", LONG, "-m", "gpt"], ["reads 16", "shorten"]),
        (["next", "el", "-m", "gpt", "--among", " "], ["candidate"]),
        (["next", "el", "-m", "gpt", "--dtype", "fp17"], ["fp17", "'fp32'"]),
        (["attend", LONG, "-m", "gpt"], ["reads at most 16"]),
        (["attend", "el", "-m", "gpt", "--layer", "2"], ["no layer 2", "layers 1 to 1"]),
        (["attend", "el", "-m", "ngram"], ["model with attention", "next, score"]),
        (["score", LONG, "-m", "gpt"], ["model reads 16", "--stride 8"]),
        (["score", "el", "-m", "gpt", "--stride", "-1"], ["stride", "16", "-1"]),
        (["score", "", "-m", "gpt"], ["nothing to score", "--end"]),
        (["score", "-", "-m", "gpt"], ["nothing to score"]),
        (["generate", LONG, "-m", "gpt"], ["reads 16", "--window"]),
        (["generate", "el", "-m", "gpt", "--max-tokens", "0"], ["max_tokens", "1", "got 0"]),
        (["generate", "el", "-m", "gpt", "-n", "-2"], ["samples", "got -2"]),
        (["generate", "el", "-m", "gpt", "--temperature", "-1"], ["temperature", "got -1"]),
        (["generate", "el", "-m", "gpt", "--top-p", "1.5"], ["top_p", "1"]),
        (["generate", "el", "-m", "gpt", "--top-k", "0"], ["top_k", "1"]),
        (["generate", "el", "-m", "gpt", "--stop", ""], ["stop string"]),
        (["generate", "el", "-m", "gpt", "--beam", "4", "--temperature", "0.5"], ["beam 4", "temperature"]),
        (["generate", "el", "-m", "gpt", "--beam", "4000"], ["beam 4000", "vocabulary"]),
        (["perplexity", "--text", "gone", "-m", "gpt"], ["no file or folder gone"]),
        (["perplexity", "--text", "empty.txt", "-m", "gpt"], ["no text in empty.txt"]),
        (["perplexity", "--text", "latin1.txt", "-m", "gpt"], ["latin-1", "--encoding latin-1"]),
        (["perplexity", "--text", "text.txt", "-m", "gpt"], ["reads 16", "--stride"]),
        (["perplexity", "--text", "text.txt", "-m", "gpt", "--carry"], ["carry", "lstm"]),
        (["perplexity", "--text", "rows.csv", "-m", "gpt"], ["id, texto", "--column"]),
        (["perplexity", "--text", "text.txt", "-m", "gpt", "--documents", "lines"], ["lines", "'line'"]),
    ],
    ids=lambda value: " ".join(value)[:50] if value[0] in ("next", "attend", "score", "generate", "perplexity") else "",
)
def test_questions_that_can_not_be_answered(given, words):
    refused(vocablo(*given), *words)


def test_an_empty_prompt_is_the_beginning_of_a_text():
    assert vocablo("next", "", "-m", "ngram").code == 0
    assert vocablo("generate", "", "-m", "ngram").out.strip()


def _cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


DAMAGES = {
    "weights cut": (lambda f: _cut(f / "model.safetensors", 2000), ["model.safetensors", "damaged", "again"]),
    "weights gone": (lambda f: (f / "model.safetensors").unlink(), ["model.safetensors"]),
    "weights empty": (lambda f: _cut(f / "model.safetensors", 0), ["model.safetensors", "damaged"]),
    "config cut": (lambda f: _cut(f / "config.json", 30), ["config.json", "damaged", "again"]),
    "config of something": (lambda f: (f / "config.json").write_text('{"a": 1}'), ["config.json", "model_type"]),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), ["config.json", "JSON object"]),
    "tokenizer cut": (lambda f: _cut(f / "tokenizer.json", 400), ["tokenizer.json", "again"]),
    "pickle": (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), ["pytorch_model.bin", "pickle"]),
    "foreign": (
        lambda f: (f / "config.json").write_text('{"model_type": "llama"}'),
        ["'llama'", "isn't known here", "gpt2"],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_model(damage, tmp_path):
    change, words = DAMAGES[damage]
    shutil.copytree("gpt", tmp_path / "model", ignore=shutil.ignore_patterns("run"))
    change(tmp_path / "model")
    refused(vocablo("next", "el", "-m", str(tmp_path / "model")), *words)
    refused(vocablo("info", str(tmp_path / "model")), *words)


def test_weights_of_another_size(tmp_path):
    shutil.copytree("gpt", tmp_path / "model", ignore=shutil.ignore_patterns("run"))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"n_embd": 32}))
    refused(vocablo("next", "el", "-m", str(tmp_path / "model")), "don't fit", "config.json")


def test_a_model_without_a_tokenizer(tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(Path("gpt") / name, tmp_path)
    refused(vocablo("next", "el", "-m", str(tmp_path)), "tokenizer.json")


def test_a_perplexity_says_how_the_first_token_was_treated_and_why_bytes_are_left_out(tmp_path):
    """A text with what the words lack, and one whose two spaces they lose."""
    asked = lambda *more: vocablo("perplexity", "-m", "ngram", "--text", str(tmp_path / "t.txt"), *more)  # noqa: E731
    (tmp_path / "t.txt").write_text("verde que te quiero verde")
    assert asked().out.startswith("  perplexity per token")
    assert "the vocabulary is closed" in asked().out
    assert "first token: boundary" in asked().out
    (tmp_path / "t.txt").write_text("el  gato")
    assert "loses white space or case" in asked().out
    assert json.loads(asked("--json").out)["policy"] == "boundary"


def test_a_candidate_that_the_vocabulary_lacks_is_told_from_an_improbable_one():
    asked = ["next", "el", "-m", "ngram", "--among", "gato", "ornitorrinco"]
    shown = {line.split()[0]: line for line in vocablo(*asked).out.splitlines()}
    assert "not in the vocabulary" in shown["ornitorrinco"]
    assert "not in the vocabulary" not in shown["gato"]
    told = json.loads(vocablo(*asked, "--json").out)["words"]
    assert {one["word"]: one["known"] for one in told} == {"gato": True, "ornitorrinco": False}

"""ARPA files: the format's definition computed from dictionaries, sums by hand, KenLM's own files and scores, and errors."""

import gzip
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from vocablo import api, checkpoint, load
from vocablo.arpa.reading import entries, read
from vocablo.arpa.writing import write
from vocablo.base.errors import CheckpointError, ConfigError
from vocablo.cli.main import app
from vocablo.contract import Tokens
from vocablo.data.store import Store
from vocablo.models import ngram, rnn
from vocablo.text.tokenizer import Tokenizer

SHARED = Path(__file__).parents[3] / "shared" / "data" / "checkpoints" / "kenlm_arpa"
SMALL = """A comment that isn't part of the model.

\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-1.5 <unk>
-99 <s> -0.4
-0.9\t</s>
-0.6 gata -0.2
-0.7 come -0.3

\\2-grams:
-0.1 <s> gata -0.05
-0.15 gata come
-0.25 come </s>

\\3-grams:
-0.01 <s> gata come

\\end\\
"""


def log10s(model, text: str) -> list[float]:
    return [one / math.log(10) for one in model.score(text, end=True)[0].log_probs]


@pytest.fixture
def small(tmp_path) -> Path:
    (tmp_path / "small.arpa").write_text(SMALL, encoding="utf-8")
    return tmp_path / "small.arpa"


def test_sums_by_hand(small):
    model = load(small)
    assert model.tokenizer.vocabulary == ["<end>", "<unk>", "gata", "come"]
    told = {
        # <s> gata; <s> gata come; come </s>, for "gata come" has no weight
        "gata come": [-0.1, -0.01, -0.25],
        # b(<s>) + come; b(come) + gata; b(gata) + </s>
        "come gata": [-0.4 - 0.7, -0.3 - 0.6, -0.2 - 0.9],
        # <s> gata; b(<s> gata) + b(gata) + gata; gata come and not <s> gata come; come </s>
        "gata gata come": [-0.1, -0.05 - 0.2 - 0.6, -0.15, -0.25],
        # b(<s>) + <unk>; <unk> has no weight; b(come) + <unk>; </s>
        "perra come perra": [-0.4 - 1.5, -0.7, -0.3 - 1.5, -0.9],
        "": [-0.4 - 0.9],
    }
    for text, expected in told.items():
        np.testing.assert_allclose(log10s(model, text), expected, atol=1e-6, err_msg=text)


def test_gzip_is_read_and_written(small, tmp_path):
    (tmp_path / "packed.arpa.gz").write_bytes(gzip.compress(SMALL.encode()))
    packed = load(tmp_path / "packed.arpa.gz")
    assert log10s(packed, "gata come") == log10s(load(small), "gata come")
    assert entries(tmp_path / "packed.arpa.gz") == (5, 3, 1)
    write(tmp_path / "again.arpa.gz", packed.model, packed.tokenizer)
    with gzip.open(tmp_path / "again.arpa.gz", "rt") as file:
        assert file.read().startswith("\\data\\\nngram 1=5\nngram 2=3\nngram 3=1\n\n\\1-grams:\n-99\t<s>\t-0.4\n")
    assert log10s(load(tmp_path / "again.arpa.gz"), "come gata") == pytest.approx(log10s(packed, "come gata"), abs=1e-6)


def test_other_ways_to_write_the_same(small, tmp_path):
    """Line ends of another system, blank lines, more white space, a weight where the definition uses none."""
    text = (
        SMALL.replace("\n", "\r\n")
        .replace("-0.6 gata -0.2", "  -.6e0\tgata \t -0.20")
        .replace("come </s>", "come </s> -9")
    )
    text = text.replace("\\2-grams:", "\r\n\r\n\\2-grams: ").replace("-0.01 <s> gata come", "-0.01 <s> gata come 0")
    (tmp_path / "other.arpa").write_bytes(text.encode())
    one, other = load(small), load(tmp_path / "other.arpa")
    for line in ("gata come", "gata gata come", "come gata"):
        assert log10s(one, line) == log10s(other, line)


def test_a_word_called_end_and_a_large_unknown(tmp_path):
    """<end> is a word like others when the file has it; <UNK> stands for unknown words too."""
    text = SMALL.replace("come", "<end>").replace("<unk>", "<UNK>")
    (tmp_path / "named.arpa").write_text(text, encoding="utf-8")
    model = load(tmp_path / "named.arpa")
    np.testing.assert_allclose(log10s(model, "gata <end> perra"), [-0.1, -0.01, -0.3 - 1.5, -0.9], atol=1e-6)
    write(tmp_path / "again.arpa", model.model, model.tokenizer)
    assert log10s(load(tmp_path / "again.arpa"), "gata <end>") == pytest.approx(log10s(model, "gata <end>"), abs=1e-6)


class Definition:
    """log10 p(w | h) of a dictionary of n-grams, as the format defines it."""

    def __init__(self, grams: dict[tuple[str, ...], tuple[float, float]]) -> None:
        self.grams = grams

    def log_prob(self, history: tuple[str, ...], word: str) -> float:
        if (*history, word) in self.grams:
            return self.grams[(*history, word)][0]
        if not history:
            return -100.0
        return self.grams.get(history, (0.0, 0.0))[1] + self.log_prob(history[1:], word)


def pruned(seed: int, order: int) -> dict[tuple[str, ...], tuple[float, float]]:
    """Random n-grams of a file that lacks many first and last parts of the others; some have <s> or </s> inside."""
    draw = random.Random(seed)
    words = ["<s>", "</s>", "<unk>", "a", "b", "c", "d"]
    number = lambda: (round(-3 * draw.random(), 4), round(1 - 2 * draw.random(), 4))  # noqa: E731
    grams = {(word,): number() for word in words}
    for k in range(2, order + 1):
        for _ in range(25):
            inner = [draw.choice(words if draw.random() < 0.2 else words[2:]) for _ in range(k - 2)]
            gram = (draw.choice(["<s>", *words[2:]]), *inner, draw.choice(words[1:]))
            grams[gram] = number() if k < order else (number()[0], 0.0)
    return grams


def spelled(grams: dict[tuple[str, ...], tuple[float, float]], order: int) -> str:
    groups = [[gram for gram in grams if len(gram) == k] for k in range(1, order + 1)]
    lines = ["\\data\\", *(f"ngram {k}={len(group)}" for k, group in enumerate(groups, 1))]
    for k, group in enumerate(groups, 1):
        lines += ["", f"\\{k}-grams:"]
        for gram in group:
            log_prob, weight = grams[gram]
            lines.append(f"{log_prob}\t{' '.join(gram)}" + (f"\t{weight}" if k < order and weight else ""))
    return "\n".join([*lines, "", "\\end\\", ""])


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(3))
def test_pruned_files_are_read_by_the_definition(tmp_path, order, seed):
    """Everywhere: n-grams whose first or last words are missing, after histories seen and unseen."""
    grams = pruned(seed, order)
    path = tmp_path / "pruned.arpa"
    path.write_text(spelled(grams, order), encoding="utf-8")
    model, tokenizer = read(path)
    reference, draw = Definition(grams), random.Random(seed + 10)
    names = {tokenizer.end_id: "</s>"}
    names |= {index: word for index, word in enumerate(tokenizer.vocabulary) if index != tokenizer.end_id}
    histories = [[tokenizer.end_id] + [draw.randrange(1, tokenizer.size) for _ in range(n % 6)] for n in range(60)]
    histories += [[draw.randrange(1, tokenizer.size) for _ in range(n % 5 + 1)] for n in range(60)]
    expected = []
    for history in histories:
        context = tuple("<s>" if index == tokenizer.end_id else names[index] for index in history)
        context = context[max(len(context) - order + 1, 0) :]
        expected.append([reference.log_prob(context, names[word]) for word in range(tokenizer.size)])
    states = model.forward(Tokens.of(histories)).states[Tokens.of(histories).fences.last()]
    np.testing.assert_allclose(model.logits(states).numpy() / math.log(10), expected, atol=2e-6)
    at, ids = torch.arange(len(histories)).repeat_interleave(tokenizer.size), torch.arange(tokenizer.size)
    told = model.target_log_probs(states, at, ids.repeat(len(histories))).numpy().reshape(-1, tokenizer.size)
    np.testing.assert_allclose(told / math.log(10), expected, atol=2e-6)


@pytest.fixture(scope="module")
def trained() -> tuple[ngram.NGram, Tokenizer]:
    draw = random.Random(0)
    lines = [
        " ".join(draw.choices(["el", "la", "gato", "gata", "come", "mira", "pan", "luna"], k=n % 9)) for n in range(300)
    ]
    tokenizer = Tokenizer.train("word", lines, split="whitespace")
    model = ngram.build(ngram.Config(vocab=tokenizer.size, order=4))
    model.fit(Store.from_documents(lines, tokenizer))
    return model, tokenizer


def test_written_and_read_it_gives_the_same_probabilities(trained, tmp_path):
    model, tokenizer = trained
    write(tmp_path / "model.arpa", model, tokenizer)
    again, words = read(tmp_path / "model.arpa")
    assert again.config.entries == model.config.entries
    assert sorted(words.vocabulary) == sorted(tokenizer.vocabulary)
    draw = random.Random(1)
    lines = [" ".join(draw.choices([*tokenizer.vocabulary[2:], "never"], k=n % 12)) for n in range(100)]
    ours, theirs = api.LanguageModel(model, tokenizer), load(tmp_path / "model.arpa")
    for one, other in zip(ours.score(lines, end=True), theirs.score(lines, end=True), strict=True):
        np.testing.assert_allclose(one.log_probs, other.log_probs, atol=1e-5)
    checkpoint.save(tmp_path / "folder", again, words)
    line = lines[20]
    assert load(tmp_path / "folder").score(line)[0].log_probs == theirs.score(line)[0].log_probs
    write(tmp_path / "twice.arpa", again, words)
    read_twice, _ = read(tmp_path / "twice.arpa")
    for name, table in again.state_dict().items():
        torch.testing.assert_close(read_twice.state_dict()[name], table, atol=1e-6, rtol=1e-6)


def test_the_written_file_keeps_the_definition(trained, tmp_path):
    """Read by the dictionaries, it gives our probabilities: other tools find the same in it."""
    model, tokenizer = trained
    write(tmp_path / "model.arpa", model, tokenizer)
    grams = {}
    for line in (tmp_path / "model.arpa").read_text(encoding="utf-8").splitlines():
        fields = line.split("\t")
        if len(fields) > 1:
            grams[tuple(fields[1].split())] = (float(fields[0]), float(fields[2]) if len(fields) > 2 else 0.0)
    assert all(gram[:-1] in grams and gram[1:] in grams for gram in grams if len(gram) > 1)
    assert all("<s>" not in gram[1:] and "</s>" not in gram[:-1] for gram in grams)
    reference = Definition(grams)
    words = ["<s>", *["la", "gata", "la", "luna", "come", "pan", "el", "gato"], "</s>"]
    expected = [reference.log_prob(tuple(words[max(n - 3, 0) : n]), words[n]) for n in range(1, len(words))]
    told = log10s(api.LanguageModel(model, tokenizer), " ".join(words[1:-1]))
    np.testing.assert_allclose(told, expected, atol=2e-6)


def test_a_boundary_within_a_document_is_left_out_of_the_file(tmp_path):
    tokenizer = Tokenizer.of_words(["a", "b"])
    model = ngram.build(ngram.Config(vocab=4, order=3))
    model.count(np.array([2, 0, 3, 0, 2, 3, 0]), np.array([0, 4, 7]))
    write(tmp_path / "model.arpa", model, tokenizer)
    text = (tmp_path / "model.arpa").read_text(encoding="utf-8")
    assert "</s> " not in text
    assert read(tmp_path / "model.arpa")[0].config.entries[0] == 4


KENLM = [  # of lm/model_test.cc at kpu/kenlm: words, and log10 p of each after <s>
    ("looking on a little the biarritz not_found more .", [-0.484652, -0.348837, -0.0155266, -0.00306122, -4.04005,
     -1.9889, -2.29666, -1.20632 - 20.0, -0.51363, -0.0191651]),
    ("looking on a little more loin", [-0.484652, -0.348837, -0.0155266, -0.00306122, -0.00181395, -0.0432557]),
    (",", [-1.383514 - 0.4149733]),
    ("this_is_not_found", [-1.995635 - 0.4149733]),
]  # fmt: skip
KENLM_INSIDE = [  # the same, after nothing
    ("also would consider higher looking", [-1.687872, -2, -3, -4, -5]),
    ("also would consider not_found", [-1.687872, -2, -3, -1.995635 - 7.0 - 0.30103]),
    ("higher looking not_found", [-1.509559, -1.285941 - 0.30103, -1.995635 - 0.4771212]),
    ("higher looking consider", [-1.509559, -1.285941 - 0.30103, -1.687872 - 0.4771212]),
    ("would consider higher looking", [-1.687872, -1.687872 - 0.30103, -1.509559 - 0.30103, -1.285941 - 0.30103]),
    ("not_found not_found2 not_found3", [-1.995635, -15, -15 - 2.0]),
    ("not_found however not_found3", [-1.995635, -4, -6]),
    ("foo bar bar", [-3.141592, -6, -2.718281 + 3.0]),
    ("to look a", [-1.687872, -0.2922095, -7]),
]
kenlm = pytest.mark.skipif(not SHARED.exists(), reason="KenLM's files aren't here")


@kenlm
@pytest.mark.parametrize(("text", "expected"), KENLM)
def test_kenlm_scores_after_the_start(text, expected):
    told = log10s(load(SHARED / "test.arpa"), text)
    np.testing.assert_allclose(told[: len(expected)], expected, rtol=1e-5)


@kenlm
@pytest.mark.parametrize(("text", "expected"), KENLM_INSIDE)
def test_kenlm_scores_after_nothing(text, expected):
    model, tokenizer = read(SHARED / "test.arpa")
    ids = torch.tensor(tokenizer.encode(text).ids)
    nothing = torch.full((1, model.width), ngram.NOTHING)
    states = torch.cat([nothing, model.forward(Tokens.of([ids[:-1].tolist()])).states])
    told = model.target_log_probs(states, torch.arange(len(ids)), ids) / math.log(10)
    np.testing.assert_allclose(told.numpy(), expected, rtol=1e-5)


@kenlm
def test_kenlm_without_unknown_words():
    model = load(SHARED / "test_nounk.arpa")
    assert log10s(model, "looking not_found")[1] == pytest.approx(-100 - 0.4771214 - 0.4771212, rel=1e-6)
    assert entries(SHARED / "test_nounk.arpa") == (36, 45, 10, 6, 4)


def broken(pattern: str, replacement: str) -> str:
    text, count = re.subn(pattern, lambda _: replacement, SMALL, count=1)
    assert count
    return text


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("gata come\n", 1, "isn't an ARPA file"),
        ("", 1, "isn't an ARPA file"),
        (broken(r"ngram 2=3", "ngram 3=3"), 5, "ngram 2=COUNT"),
        (broken(r"ngram 2=3", "ngram two=3"), 5, "ngram 2=COUNT"),
        (broken(r"ngram 2=3", "ngram 2=4"), 19, "promises 4 2-grams, and here they end after 3"),
        (broken(r"ngram 2=3", "ngram 2=2"), 18, "promises 2 2-grams, and here is one more"),
        (broken(r"ngram 3=1", "ngram 3=99999999999999"), 22, "promises 99999999999999 3-grams, and here they end after 1"),
        (broken(r"\\2-grams:", "\\3-grams:"), 15, "'\\2-grams:' is expected"),
        (broken(r"-0.15 gata come", "-0.15 gata come pan -1"), 17, "3 or 4 fields, and this one has 5"),
        (broken(r"-0.15 gata come", "-0.15 gata"), 17, "3 or 4 fields, and this one has 2"),
        (broken(r"-0.15 gata come", "-0,15 gata come"), 17, "a number is expected and not '-0,15'"),
        (broken(r"-0.6 gata -0.2", "-0.6 gata nan"), 12, "a number is expected and not 'nan'"),
        (broken(r"-0.15 gata come", "0.15 gata come"), 17, "over 0"),
        (broken(r"-0.15 gata come", "-0.15 gata pan"), 17, "'pan' isn't among the 1-grams"),
        (broken(r"-0.7 come", "-0.7 gata"), 13, "'gata' is among the 1-grams twice"),
        (broken(r"come </s>", "gata come"), 18, "2-gram is in the file twice"),
        (broken(r"-0.9\t</s>", "-0.9 end"), 13, "lack '</s>'"),
        (broken(r"\\end\\\n", ""), 23, "'\\end\\' is expected"),
        (SMALL[: SMALL.index("\\3-grams")], 20, "'\\3-grams:' is expected"),
        (SMALL[: SMALL.index("-0.25 come")], 18, "the file ends after 2"),
        ("\\data\\\n" + "".join(f"ngram {k}=1\n" for k in range(1, 14)) + "\\1-grams:\n", 15, "at most 12"),
    ],
)  # fmt: skip
def test_errors_name_the_line(tmp_path, text, line, says):
    path = tmp_path / "broken.arpa"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=re.escape(says)) as caught:
        load(path)
    assert f"broken.arpa, line {line}:" in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match=r"There is no file .*none\.arpa"):
        load(tmp_path / "none.arpa")
    (tmp_path / "half.arpa.gz").write_bytes(gzip.compress(SMALL.encode())[:-40])
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path / "half.arpa.gz")
    (tmp_path / "latin.arpa").write_bytes(SMALL.replace("gata", "niña").encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"line 12: the word .* isn't UTF-8"):
        load(tmp_path / "latin.arpa")


def test_what_an_arpa_file_cannot_hold(trained, tmp_path):
    model, tokenizer = trained
    with pytest.raises(ConfigError, match=r"should end in \.arpa"):
        write(tmp_path / "model.txt", model, tokenizer)
    other = rnn.build(rnn.config_for("lstm", "tiny", tokenizer.size, 8, {}))
    with pytest.raises(ConfigError, match=r"Only n-grams .* this model is a"):
        write(tmp_path / "model.arpa", other, tokenizer)
    letters = Tokenizer.train("char", ["la gata"])
    counted = ngram.build(ngram.Config(vocab=letters.size, order=2))
    counted.fit(Store.from_documents(["la gata"], letters))
    with pytest.raises(ConfigError, match="white space"):
        write(tmp_path / "model.arpa", counted, letters)
    marked = Tokenizer.of_words(["<s>", "a"])
    counted = ngram.build(ngram.Config(vocab=4, order=2))
    counted.count(np.array([2, 3, 0]), np.array([0, 3]))
    with pytest.raises(ConfigError, match="token '<s>' of its own"):
        write(tmp_path / "model.arpa", counted, marked)
    with pytest.raises(ConfigError, match="belong together"):
        write(tmp_path / "model.arpa", model, marked)
    assert list(tmp_path.iterdir()) == []


def test_export_and_the_other_verbs(trained, tmp_path):
    model, tokenizer = trained
    model = ngram.build(model.config.model_copy(update={"cache": ngram.Cache(length=5)}))
    model.load_state_dict(trained[0].state_dict())
    checkpoint.save(tmp_path / "model", model, tokenizer)
    run = lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))  # noqa: E731
    with pytest.warns(UserWarning, match="no cache"):
        done = run("export", tmp_path / "model", tmp_path / "model.arpa.gz", "--json")
    assert done.exit_code == 0, done.output
    assert '"model_type": "arpa"' in done.output
    assert api.describe(tmp_path / "model").parameters == model.entries
    described = api.describe(tmp_path / "model.arpa.gz")
    assert described.parameters == model.entries + 1  # <s> besides </s>
    assert described.vocabulary == model.vocab + 1
    for verb in (["next", "la gata"], ["score", "la gata"], ["generate", "la"], ["info"]):
        named = [tmp_path / "model.arpa.gz"] if verb == ["info"] else ["--model", tmp_path / "model.arpa.gz"]
        done = run(*verb, *named)
        assert done.exit_code == 0, done.output
    (tmp_path / "text.txt").write_text("la gata\n", encoding="utf-8")
    done = run("perplexity", "--text", tmp_path / "text.txt", "--model", tmp_path / "model.arpa.gz")
    assert done.exit_code == 0, done.output

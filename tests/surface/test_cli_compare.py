"""Models side by side: the numbers are those of the other verbs, kinds are never mixed, and what can't be compared is refused."""

import json
import math
from pathlib import Path

import pytest
import torch

import tiny_models
from command_line import refused
from command_line import vocablo as run
from vocablo import api, checkpoint
from vocablo.evaluation import scorers
from vocablo.models import elmo, han, word_vectors
from vocablo.text.tokenizer import Tokenizer

TEXT = "el gato come pan .\n¿ la gata mira la luna ?\n¡ el perro comió pan en Cádiz !\n"
NEW = "el gato zigzaguea .\nla luna mira el queso .\n"


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("compare"))
        patch.delenv("VOCABLO_MODEL", raising=False)
        Path("seen.txt").write_text(TEXT, encoding="utf-8")
        Path("new.txt").write_text(NEW, encoding="utf-8")
        Path("blank.txt").write_text(" \n")
        words, pieces, bytes_ = tiny_models.kind("word"), tiny_models.wordpieces(), tiny_models.kind("byte")
        lower = Tokenizer.train("word", [one.lower() for one in tiny_models.TEXTS], lowercase=True)
        checkpoint.save("trigram", tiny_models.counted(words), words)
        checkpoint.save("gpt", tiny_models.gpt(words.size, std=0.2), words)
        checkpoint.save("lstm", tiny_models.lstm(bytes_.size, std=0.2), bytes_)
        checkpoint.save("lower", tiny_models.lstm(lower.size, std=0.2), lower)
        checkpoint.save("short", tiny_models.gpt(words.size, context=4), words)
        checkpoint.save("bert", tiny_models.bert(pieces.size), pieces)
        checkpoint.save("other/bert", tiny_models.bert(pieces.size, seed=1), pieces)
        changes = {"stack": {"width": 12}, "unknown": words.unk_id}
        two_way = elmo.build(elmo.config_for("elmo", "tiny", words.size, 16, changes)).eval()
        two_way.spell(words)
        checkpoint.save("elmo", two_way, words)
        checkpoint.save("trunk", tiny_models.bert(pieces.size, head=None), pieces)
        checkpoint.save(
            "vectors", word_vectors.build(word_vectors.config_for("word-vectors", "tiny", words.size, 8, {})), words
        )
        checkpoint.save("han", han.build(han.config_for("han", "tiny", words.size, 8, {})), words)
        yield
    torch.set_num_threads(threads)


def compared(*arguments):
    done = run("compare", *arguments, "--documents", "line", "--json")
    assert done.code == 0, done.err
    assert done.err == ""
    return json.loads(done.out)


def test_the_numbers_are_those_of_perplexity_and_bits_per_byte_by_hand():
    found = compared("gpt", "lstm", "--text", "seen.txt")
    assert not found["one_tokenizer"]
    (section,) = found["sections"]
    assert section["kind"] == "chain rule"
    assert found["words"] == len(TEXT.split())
    size = len(TEXT.replace("\n", "").encode())
    assert found["bytes"] == size
    for row in section["models"]:
        alone = json.loads(
            run("perplexity", "-m", row["model"], "--text", "seen.txt", "--documents", "line", "--json").out
        )
        assert row["likelihood"] == pytest.approx(alone)
        assert row["parameters"] == api.describe(row["model"]).parameters
        assert row["tokens_per_second"] > 0
        assert row["training"] is None
    lstm = next(row["likelihood"] for row in section["models"] if row["name"] == "lstm")
    tokenizer = Tokenizer.load("lstm")
    nats = 0.0
    for line in TEXT.splitlines():
        ids = [tokenizer.end_id, *tokenizer.encode(line).ids, tokenizer.end_id]
        nats += tiny_models.naive_log_probs(api.load("lstm").model, ids).sum()
    assert lstm["bits_per_byte"] == pytest.approx(-nats / math.log(2) / size, rel=1e-5)
    assert lstm["word_perplexity"] == pytest.approx(math.exp(-nats / (len(TEXT.split()) + 3)), rel=1e-5)


def test_models_are_ranked_within_their_kind_and_kinds_apart():
    found = compared("bert", "gpt", "other/bert", "trigram", "--text", "seen.txt")
    kinds = {section["kind"]: section["models"] for section in found["sections"]}
    assert list(kinds) == ["chain rule", "pseudo-log-likelihood (token)"]
    assert {row["name"] for row in kinds["chain rule"]} == {"gpt", "trigram"}
    for rows in kinds.values():
        assert [row["rank"] for row in rows] == [1, 2]
        assert rows[0]["likelihood"]["perplexity"] < rows[1]["likelihood"]["perplexity"]
    for row in kinds["pseudo-log-likelihood (token)"]:
        scores = api.load(row["model"]).score(TEXT.splitlines())
        assert row["likelihood"]["log_prob"] == pytest.approx(sum(one.log_prob for one in scores))
        assert row["likelihood"]["tokens"] == sum(len(one.ids) for one in scores)
        assert row["likelihood"]["bits_per_byte"] is None
    assert {row["name"] for row in kinds["pseudo-log-likelihood (token)"]} == {"bert", "other/bert"}


def test_both_directions_are_a_kind_whose_perplexity_is_the_mean_of_both():
    found = compared("gpt", "elmo", "lstm", "--text", "new.txt")
    kinds = {section["kind"]: section["models"] for section in found["sections"]}
    (row,) = kinds["forward + backward"]
    scores = api.load("elmo").score(NEW.splitlines())
    tokens = [*Tokenizer.load("elmo").encode(NEW).ids]
    nats = sum(sum(one.forward) + sum(one.backward) for one in scores)
    told = row["likelihood"]
    assert told["tokens"] == len(tokens)
    assert told["perplexity"] == pytest.approx(math.exp(-nats / 2 / len(tokens)))
    assert told["word_perplexity"] == pytest.approx(math.exp(-nats / 2 / len(NEW.split())))
    assert told["unknown"] == tokens.count(Tokenizer.load("elmo").unk_id) > 0
    assert told["bits_per_byte"] is None
    assert row["rank"] == 1


def test_the_table_says_what_may_be_compared(tmp_path):
    page = tmp_path / "page.html"
    done = run(
        "compare", "gpt", "lstm", "bert", "vectors", "--text", "seen.txt", "--documents", "line", "--html", str(page)
    )
    assert done.code == 0, done.err
    assert "per token their numbers aren't comparable" in done.out
    chain, rest = done.out.split("Pseudo-log-likelihood")
    assert "bits/byte" in chain
    assert "bits/byte" not in rest
    assert "pseudo-perplexity" in rest
    assert "vectors gives a text no probability" in rest
    html = page.read_text(encoding="utf-8")
    assert html.count("<svg") >= 3
    assert "src=" not in html
    alone = run("compare", "gpt", "trigram", "--text", "seen.txt", "--documents", "line").out
    assert "share one tokenizer" in alone
    assert "Kinds of score" not in alone


def test_unknown_words_keep_a_model_from_being_ranked_beside_other_tokenizers():
    (section,) = compared("lstm", "gpt", "trigram", "--text", "new.txt")["sections"]
    ranks = {row["name"]: (row["rank"], row["likelihood"]["unknown"]) for row in section["models"]}
    assert ranks["lstm"] == (1, 0)
    assert ranks["gpt"][0] is None
    assert ranks["gpt"][1] == ranks["trigram"][1] > 0
    assert all("<unk>" in row["unranked"] for row in section["models"][1:])
    (section,) = compared("gpt", "trigram", "--text", "new.txt")["sections"]  # with one tokenizer they are
    assert [row["rank"] for row in section["models"]] == [1, 2]
    assert "<unk>" in run("compare", "gpt", "--text", "new.txt", "--documents", "line").out


def test_a_tokenizer_that_loses_case_is_not_ranked_beside_one_that_keeps_it():
    Path("upper.txt").write_text("El gato come pan .\n", encoding="utf-8")
    (section,) = compared("lower", "lstm", "--text", "upper.txt")["sections"]
    assert [(row["name"], row["rank"]) for row in section["models"]] == [("lstm", 1), ("lower", None)]
    assert "white space" in section["models"][1]["unranked"]


def test_models_that_tell_no_text_are_told_in_a_line():
    found = compared("gpt", "vectors", "trunk", "han", "--text", "seen.txt")
    assert [row["name"] for row in found["unscored"]] == ["vectors", "trunk", "han"]
    assert all(row["absent"] and row["rank"] is None and row["likelihood"] is None for row in found["unscored"])


def test_text_over_a_context_is_read_in_windows():
    refused(
        run("compare", "gpt", "short", "--text", "seen.txt", "--documents", "line", "--json"), "short: ", "--stride 2"
    )
    done = compared("short", "--text", "seen.txt", "--stride", "2")
    alone = run("perplexity", "-m", "short", "--text", "seen.txt", "--documents", "line", "--stride", "2", "--json")
    assert done["sections"][0]["models"][0]["likelihood"] == pytest.approx(json.loads(alone.out))
    refused(run("compare", "gpt", "short", "--text", "seen.txt", "--stride", "9", "--json"), "short: ", "stride")
    refused(run("compare", "bert", "--text", "seen.txt", "--documents", "file", "--json"), "bert: ", "--stride 15")


def test_the_longest_text_that_fits_needs_no_stride():
    words = Tokenizer.load("short")
    assert words.end_id is not None
    asked = api.load("short")
    scorers.SCORERS["left"].check(asked, ["el gato come"], None)  # <end> and three words are read, and <end> is told
    assert scorers.SCORERS["left"].score(asked, ["el gato come"], None, "token", True).tokens == 4


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("compare --text seen.txt", ["Which models"]),
        ("compare gpt", ["--text"]),
        ("compare gpt nowhere --text seen.txt", ["nowhere"]),
        ("compare gpt ./gpt --text seen.txt", ["twice"]),
        ("compare gpt lstm gpt --text seen.txt", ["gpt is given twice"]),
        ("compare gpt --text blank.txt", ["no text"]),
        ("compare gpt --text missing.txt", ["missing.txt"]),
        ("compare vectors han --text seen.txt", ["None of these models", "vectors", "han"]),
        ("compare gpt --text seen.txt --variant tokens", ["variant", "token"]),
        ("compare gpt --text seen.txt --documents words", ["documents"]),
        ("compare lstm trigram --text seen.txt --stride 0", ["--stride is at least 1"]),
        ("compare gpt --text seen.txt --html .", ["--html", "directory"]),
    ],
)
def test_bad_input_is_one_line(line, words):
    refused(run(*line.split()), *words)

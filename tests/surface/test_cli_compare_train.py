"""Families trained on equal terms: what they read, that what is finished isn't trained again, and what is refused."""

import json
import shutil
import statistics
from itertools import islice
from pathlib import Path

import pytest
import safetensors.torch
import torch

from command_line import refused
from command_line import vocablo as run
from vocablo import api
from vocablo.data.grammar import Grammar
from vocablo.training.loop import Trainer

SMALL = [
    "context=32",
    "train.batch=2",
    "model.stack.width=16",
    "model.stack.layers=1",
    "lstm.model.embed.width=16",
    "gpt.model.attention.heads=2",
    "bert.model.attention.heads=2",
    "tokenizer.kind=word",
    "train.evaluate_every=50",
    "train.save_every=4",
]
SHARED = ["--text", "text.txt", "--held-out", "new.txt", "--documents", "line", "--json"]
TOKENS = ["compare", "--train", "ngram:mini", "lstm:tiny", "gpt:tiny", "bert:tiny", "--equal", "tokens", "1000"]
BATCH = 2 * 32


def small(*families):
    """SMALL without what is for other families alone, which would be refused."""
    return [one for one in SMALL if one.partition(".")[0] not in {"lstm", "gpt", "bert"} - {*families}]


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("equal"))
        Path("text.txt").write_text(
            "".join(f"{one}\n" for one in islice(Grammar().text(0, 200), 200)), encoding="utf-8"
        )
        Path("new.txt").write_text("".join(f"{one}\n" for one in islice(Grammar().text(1, 20), 20)), encoding="utf-8")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def made():
    done = run(*TOKENS, "--out", "all", *SHARED, *SMALL)
    assert done.code == 0, done.err
    return json.loads(done.out)


def models(found):
    return {one["name"]: one for section in found["sections"] for one in section["models"]}


def timeless(found):
    """Without the speed of scoring, which no second run has."""
    if isinstance(found, dict):
        return {key: timeless(value) for key, value in found.items() if key != "tokens_per_second"}
    return [timeless(one) for one in found] if isinstance(found, list) else found


def test_every_family_reads_so_many_tokens_and_counted_ones_the_whole_text(made):
    assert made["equal"] == "at equal tokens: 1,000 each"
    assert made["one_tokenizer"]
    assert [section["kind"] for section in made["sections"]] == ["chain rule", "pseudo-log-likelihood (token)"]
    rows = models(made)
    assert set(rows) == {"ngram-mini", "lstm-tiny", "gpt-tiny", "bert-tiny"}
    for name in ("lstm-tiny", "gpt-tiny", "bert-tiny"):
        cost = rows[name]["training"]
        assert abs(cost["tokens"] - 1000) <= BATCH  # half a step, and the steps of an epoch aren't all of one length
        lines = [json.loads(line) for line in Path(f"all/{name}/run/metrics.jsonl").read_text().splitlines()]
        assert cost["tokens"] == sum(line.get("tokens", 0) for line in lines)
        assert cost["flops"] == cost["tokens"] * api.load(f"all/{name}").model.flops_per_token(32)
    counted = rows["ngram-mini"]["training"]
    assert counted["counted"]
    assert counted["tokens"] > 1500
    assert counted["flops"] is None
    assert "counted" in run(*TOKENS, "--out", "all", *SHARED[:-1], *SMALL).out


def test_the_models_are_folders_like_any_other(made):
    alone = run("perplexity", "-m", "all/lstm-tiny", "--text", "new.txt", "--documents", "line", "--json")
    assert models(made)["lstm-tiny"]["likelihood"] == pytest.approx(json.loads(alone.out))
    assert api.load("all/bert-tiny").score("el gato")[0].kind == "pseudo-log-likelihood (token)"


def test_what_is_finished_is_not_trained_again(made, monkeypatch):
    def never(*_):
        raise AssertionError("a finished model was trained again")

    monkeypatch.setattr("vocablo.training.pretrain.run", never)
    assert timeless(json.loads(run(*TOKENS, "--out", "all", *SHARED, *SMALL).out)) == timeless(made)
    with pytest.raises(AssertionError, match="trained again"):
        run("compare", "--train", "rnn:tiny", *TOKENS[2:], "--out", "all", *SHARED, *SMALL)


def test_what_was_trained_otherwise_is_refused(made):
    done = run(*TOKENS, "--out", "all", *SHARED, *SMALL, "train.lr=0.5")
    refused(done, "all/lstm-tiny was trained otherwise", "train.lr", "0.5", early=False)
    refused(run(*TOKENS[:-1], "2000", "--out", "all", *SHARED, *SMALL), "begun with another terms")
    refused(run(*TOKENS, "--out", "all", *SHARED, *SMALL, "tokenizer.min_count=2"), "begun with another tokenizer")
    shutil.copytree("all", "changed")
    text = Path("text.txt").read_text(encoding="utf-8")
    try:
        Path("text.txt").write_text(text + "el gato duerme .\n", encoding="utf-8")
        refused(run(*TOKENS, "--out", "changed", *SHARED, *SMALL), "The text isn't the one that changed was begun with")
    finally:
        Path("text.txt").write_text(text, encoding="utf-8")


def test_a_comparison_that_was_cut_off_goes_on_to_the_same_bits(made, monkeypatch):
    step, count = Trainer._step, []

    def cut(self):
        count.append(1)
        if len(count) > 20:  # lstm has made its 16 steps, gpt 4
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "_step", cut)
    assert run(*TOKENS, "--out", "again", *SHARED, *SMALL).code == 130
    assert json.loads(Path("again/lstm-tiny/run/state.json").read_text())["status"] == "finished"
    assert not Path("again/gpt-tiny/model.safetensors").exists()
    assert not Path("again/bert-tiny").exists()
    monkeypatch.setattr(Trainer, "_step", step)
    done = run(*TOKENS, "--out", "again", *SHARED, *SMALL)
    assert done.code == 0, done.err
    for name in ("lstm-tiny", "gpt-tiny", "bert-tiny"):
        first, second = (safetensors.torch.load_file(f"{out}/{name}/model.safetensors") for out in ("all", "again"))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_equal_flops_give_a_small_model_more_tokens():
    line = ["compare", "--train", "lstm:tiny", "gpt:tiny", "--equal", "flops", "3e7", "--out", "flops", *SHARED]
    rows = models(json.loads(run(*line, *small("lstm", "gpt"), "gpt.model.stack.layers=2").out))
    each = {name: api.load(f"flops/{name}").model.flops_per_token(32) for name in rows}
    assert each["gpt-tiny"] > 1.1 * each["lstm-tiny"]
    for name, row in rows.items():
        assert abs(row["training"]["flops"] - 3e7) <= each[name] * BATCH
    assert rows["lstm-tiny"]["training"]["tokens"] > rows["gpt-tiny"]["training"]["tokens"]


def test_equal_minutes_are_a_time_budget_of_each(monkeypatch):
    monkeypatch.setattr(Trainer, "calibrate", lambda *_: 0.1)
    done = run("compare", "--train", "rnn:tiny", "--equal", "minutes", "0.05", "--out", "minutes", *SHARED, *small())
    assert done.code == 0, done.err
    assert 1 <= models(json.loads(done.out))["rnn-tiny"]["training"]["steps"] <= 30  # 3 s of 0.1 s, less evaluations
    assert "minutes = 0.05" in Path("minutes/rnn-tiny/run/recipe.toml").read_text()


def test_seeds_give_means_and_deviations(made):
    line = [
        "compare",
        "all/gpt-tiny",
        "--train",
        "ngram:mini",
        "rnn:tiny",
        "--equal",
        "tokens",
        "500",
        "--out",
        "seeds",
    ]
    done = run(*line, *SHARED, "--seeds", "0", "1", *small())
    assert done.code == 0, done.err
    found = json.loads(done.out)
    rows = models(found)
    assert set(rows) == {"ngram-mini", "rnn-tiny-seed-0", "rnn-tiny-seed-1", "gpt-tiny"}
    both = [rows[f"rnn-tiny-seed-{seed}"]["likelihood"]["perplexity"] for seed in (0, 1)]
    (spread,) = found["spreads"]
    assert (spread["name"], spread["runs"]) == ("rnn-tiny", 2)
    assert spread["perplexity"] == pytest.approx(statistics.fmean(both))
    assert spread["perplexity_deviation"] == pytest.approx(abs(both[0] - both[1]) / 2**0.5)


def test_text_without_white_space_has_an_infinite_perplexity_per_word_and_no_deviation_of_it():
    Path("whole.txt").write_text("".join("abcdefgh"[(i * i) % 7] for i in range(2000)) + "\n", encoding="utf-8")
    line = ["compare", "--train", "rnn:tiny", "--equal", "tokens", "200", "--out", "whole", "--seeds", "0", "1"]
    text = ["--text", "whole.txt", "--held-out", "whole.txt", "--json", "context=32", "train.batch=2"]
    done = run(*line, *text, "tokenizer.kind=char")
    assert done.code == 0, done.err
    (spread,) = json.loads(done.out)["spreads"]
    assert spread["perplexity_deviation"] > 0
    assert spread["word_perplexity"] is spread["word_perplexity_deviation"] is None  # infinite, and not a number
    assert [one["rank"] for one in models(json.loads(done.out)).values()] == [1, 2]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--train lstmm --equal tokens 100 --out x", ["lstmm", "lstm"]),
        ("--train lstm:tinny --equal tokens 100 --out x", ["tinny", "tiny"]),
        ("--train lstm lstm:small --equal tokens 9000 --out x", ["twice"]),
        ("--train word-vectors --equal tokens 100 --out x", ["word-vectors", "no probability"]),
        ("--train han --equal tokens 100 --out x", ["han", "no probability"]),
        ("--train lstm --equal steps 100 --out x", ["steps", "tokens"]),
        ("--train lstm --equal tokens 0 --out x", ["above 0"]),
        ("--train lstm --equal tokens 3 --out x", ["half a step"]),
        ("--train lstm --equal tokens 100 --out text.txt", ["text.txt"]),
        ("--train lstm gpt:tiny --equal tokens 9000 --out x context=8", ["gpt-tiny", "held-out", "--stride 4"]),
        ("--train lstm --equal tokens 100", ["--out"]),
        ("--train lstm --out x", ["--equal"]),
        ("--train lstm --equal tokens 100 --out x --seeds 1 1", ["repeat"]),
        ("--train lstm --equal tokens 100 --out x train.steps=5", ["train.steps", "--equal"]),
        ("--train lstm --equal tokens 100 --out x lstm.tokenizer.kind=char", ["share"]),
        ("--train lstm --equal tokens 100 --out x train.lrr=5", ["lrr"]),
        ("--train lstm --equal tokens 100 --out x gpt.train.lr=5", ["gpt isn't among", "lstm"]),
        ("--train lstm --equal tokens 100 --out x --tokenizer y tokenizer.kind=char", ["leave out one"]),
        ("--train lstm --equal tokens 9000 --out x --variant tokens", ["variant", "token"]),
        ("lstm --equal tokens 100", ["--train"]),
        ("nowhere --train lstm --equal tokens 100 --out x", ["nowhere"]),
    ],
)
def test_bad_input_is_one_line(line, words):
    refused(run("compare", *line.split(), *SHARED), *words)
    assert not Path("x").joinpath("lstm-small").exists()  # no training was begun
    shutil.rmtree("x", ignore_errors=True)


def test_after_too_small_an_amount_the_same_folder_takes_more():
    line = ["compare", "--train", "lstm:tiny", "--out", "more", *SHARED, *small("lstm"), "--equal", "tokens"]
    refused(run(*line, "3"), "half a step", "give more")
    assert run(*line, "100").code == 0
    refused(run(*line, "300"), "begun with another terms")


def test_a_ready_model_that_cannot_read_the_text_is_refused_before_others_are_trained(made):
    line = ["compare", "all/gpt-tiny", "--train", "rnn:tiny", "--equal", "tokens", "500", "--out", "late"]
    refused(run(*line, *SHARED, *small(), "--documents", "file"), "gpt-tiny: ", "--stride 16")
    assert not Path("late").exists()


def test_the_texts_are_looked_at_first():
    line = ["compare", "--train", "lstm:tiny", "--equal", "tokens", "100", "--out", "x", "--json", "--text"]
    refused(run(*line, "text.txt", "--held-out", "missing.txt"), "missing.txt")
    refused(run(*line, "missing.txt", "--held-out", "new.txt"), "missing.txt")
    refused(run(*line, "text.txt"), "--held-out")
    assert not Path("x").exists()

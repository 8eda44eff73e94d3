"""Beam search finds the ids that transformers' generate finds, on the same random GPT-2."""

import pytest
import torch

from vocablo import checkpoint
from vocablo.decoding.beam import search
from vocablo.decoding.settings import DecodeSettings
from vocablo.decoding.start import after_prompts

transformers = pytest.importorskip("transformers")
EARLY = {"full": True, "estimate": False, "bound": "never"}
PROMPTS = [[1, 5, 9], [1, 7, 30], [1, 2, 3], [1, 40, 8]]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(theirs, ours): sharp enough that no two hypotheses come near one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=53, n_positions=48, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0, pad_token_id=0
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp("gpt2")
    theirs.save_pretrained(folder)
    yield theirs, checkpoint.load(folder).model
    torch.set_num_threads(threads)


@pytest.mark.parametrize("early", sorted(EARLY))
@pytest.mark.parametrize("alpha", [0.0, 1.0, 1.7, -0.5])
@pytest.mark.parametrize("changes", [{}, {"min_tokens": 6}, {"no_repeat": 2}, {"repetition_penalty": 1.4}], ids=str)
def test_the_same_hypotheses(pair, early, alpha, changes):
    theirs, ours = pair
    names = {"min_tokens": "min_new_tokens", "no_repeat": "no_repeat_ngram_size"}
    with torch.inference_mode():
        found = theirs.generate(
            torch.tensor(PROMPTS), max_new_tokens=18, num_beams=4, num_return_sequences=4, do_sample=False,
            early_stopping=EARLY[early], length_penalty=alpha, return_dict_in_generate=True, output_scores=True,
            **{names.get(name, name): value for name, value in changes.items()},
        )  # fmt: skip
        settings = DecodeSettings(
            beam=4, n_best=4, max_tokens=18, early_stopping=early, length_penalty=alpha, **changes
        )
        mine = search(after_prompts(ours, PROMPTS), settings, 0)
    rows, scores = found.sequences[:, 3:].tolist(), found.sequences_scores.tolist()
    for number, hypotheses in enumerate(mine):
        for rank, one in enumerate(hypotheses):
            row = rows[4 * number + rank]
            expected = row[: row.index(0) + 1] if 0 in row else row
            assert list(one.ids) == expected
            assert one.score == pytest.approx(scores[4 * number + rank], abs=1e-4)


@pytest.mark.parametrize("changes", [{}, {"repetition_penalty": 1.4}, {"no_repeat_ngram_size": 2}], ids=str)
def test_greedy(pair, changes):
    theirs, ours = pair
    own = {name.removesuffix("_ngram_size"): value for name, value in changes.items()}
    with torch.inference_mode():
        rows = theirs.generate(torch.tensor(PROMPTS), max_new_tokens=18, do_sample=False, **changes)[:, 3:].tolist()
        mine = search(after_prompts(ours, PROMPTS), DecodeSettings(max_tokens=18, **own), 0)
    for row, (one,) in zip(rows, mine, strict=True):
        assert list(one.ids) == (row[: row.index(0) + 1] if 0 in row else row)

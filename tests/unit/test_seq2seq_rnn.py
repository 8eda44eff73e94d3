"""The recurrent translator: against the published tutorial's modules, one by one, free running, and what it looked at."""

import itertools

import pytest
import torch
from torch import nn

from vocablo import api
from vocablo.base.errors import ConfigError
from vocablo.contract import Fences, Tokens
from vocablo.decoding.beam import search
from vocablo.decoding.settings import DecodeSettings
from vocablo.decoding.start import from_sources
from vocablo.models import seq2seq_rnn
from vocablo.nn import source_attention, taps

VOCAB, SOURCE, END = 17, 23, 0
KINDS = ("additive", "dot", "general", "none")
RNNS = ("gru", "lstm", "elman")


def made(kind="additive", rnn="gru", seed=0, **changes):
    """A small model with weights far from zero."""
    torch.manual_seed(seed)
    stack = {"width": 12, "kind": rnn, "layers": changes.pop("layers", 1), "both": changes.pop("both", True)}
    config = seq2seq_rnn.config_for(
        "seq2seq-rnn", "tiny", SOURCE, 0,
        {"embed": {"width": 8}, "stack": stack, "attention": kind, "decoder": {"vocab": VOCAB, "start": (1,), **changes}},
    )  # fmt: skip
    model = seq2seq_rnn.build(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.4)
    return model


def some(vocab, lengths, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(2, vocab, (length,), generator=draw).tolist() for length in lengths]


def same(one, other):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_published_shape_has_the_published_number_of_parameters():
    config = seq2seq_rnn.config_for("seq2seq-rnn", "small", 7853, 0, {"decoder": {"vocab": 5893}})
    with torch.device("meta"):
        model = seq2seq_rnn.build(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == 20_518_405
    assert (config.stack.dropout, config.embed.width, config.stack.width) == (0.5, 256, 512)


class Tutorial:
    """Bahdanau's decoder with torch's own modules, step by step for one pair, as the tutorial has it."""

    def __init__(self, model):
        self.model = model
        both = model.encoder[0]
        self.encoder = nn.GRU(both.input_size, both.hidden_size, bidirectional=True)
        self.encoder.load_state_dict(both.state_dict())
        inner = model.decoder.layers[0]
        self.decoder = nn.GRU(inner.input_size, inner.hidden_size)
        self.decoder.load_state_dict(inner.state_dict())

    def logits(self, target, source):
        model, found = self.model, []
        outputs, hidden = self.encoder(model.tokens(torch.tensor(source))[:, None])
        hidden = torch.tanh(model.bridge(torch.cat([hidden[-2], hidden[-1]], 1)))
        weight = torch.cat([model.attention.query.weight, model.attention.key.weight], 1)
        for token in target:
            y = model.target_tokens(torch.tensor([token]))
            pairs = torch.cat([hidden.expand(len(source), -1), outputs[:, 0]], 1)
            energy = torch.tanh(nn.functional.linear(pairs, weight, model.attention.key.bias))
            alpha = model.attention.score(energy)[:, 0].softmax(0)
            context = (alpha[:, None] * outputs[:, 0]).sum(0, keepdim=True)
            out, hidden = self.decoder(torch.cat([y, context], 1)[None], hidden[None])
            hidden = hidden[0]
            found.append(model.head(torch.cat([out[0], context, y], 1)))
        return torch.cat(found)


def test_it_is_the_tutorial_s_model():
    model = made()
    targets, sources = some(VOCAB, [5, 9, 1, 3]), some(SOURCE, [7, 1, 4, 12])
    ours = model.logits(model.forward(Tokens.of(targets), Tokens.of(sources)).states)
    judge = Tutorial(model)
    same(ours, torch.cat([judge.logits(*pair) for pair in zip(targets, sources, strict=True)]))


@pytest.mark.parametrize("kind", ["additive", "dot", "general"])
def test_attention_is_its_equations_token_by_token(kind):
    torch.manual_seed(1)
    attention = source_attention.SourceAttention(kind, 6, 6, 5)
    lengths = (4, 1, 7)
    states, queries = torch.randn(12, 6), torch.randn(3, 2, 6)
    memory = attention.remember(states, Fences.of(lengths))
    contexts, weights = attention(queries, memory)
    for row, source in enumerate(states.split(lengths)):
        for query in range(2):
            context, alpha = source_attention.explained(attention, queries[row, query], source)
            same(contexts[row, query], context)
            same(weights[row, query, : len(source)], alpha)
            assert not weights[row, query, len(source) :].any()
    again = memory.rows(torch.tensor([1, 0, 1]))
    assert again.keys.shape[1] == 4
    same(attention(queries, again)[0][1], attention(queries[1:2], memory.rows(torch.tensor([0])))[0][0])


@pytest.mark.parametrize(("kind", "rnn", "layers"), [*itertools.product(KINDS, RNNS, (1,)), ("additive", "lstm", 2), ("general", "gru", 2)])  # fmt: skip
@pytest.mark.parametrize("both", [True, False])
def test_a_batch_and_single_steps_give_what_each_pair_gives_alone(kind, rnn, layers, both):
    model = made(kind, rnn, layers=layers, both=both)
    targets, sources = some(VOCAB, [6, 2, 9, 2]), some(SOURCE, [3, 8, 1, 5])
    with torch.no_grad():
        whole = model.logits(model.forward(Tokens.of(targets), Tokens.of(sources)).states)
        alone = [
            model.logits(model.forward(Tokens.of([t]), Tokens.of([s])).states)
            for t, s in zip(targets, sources, strict=True)
        ]
        same(whole, torch.cat(alone))
        state = model.encode(Tokens.of(sources)).select(torch.tensor([2, 0, 0]))
        rows = [targets[2], targets[0], targets[0][:1] + targets[0][2:]]
        for step in range(5):
            logits, state = model.extend(Tokens.of([row[step : step + 1] for row in rows]), state)
        same(logits[:2], torch.stack([alone[2][4], alone[0][4]]))
        other = model.logits(model.forward(Tokens.of([rows[2]]), Tokens.of([sources[0]])).states)
        same(logits[2], other[4])


@pytest.mark.parametrize("kind", ["dot", "general", "none"])
@pytest.mark.parametrize("rnn", RNNS)
def test_steps_one_by_one_are_the_whole_target_at_once(kind, rnn):
    model = made(kind, rnn, layers=2)
    tokens, source = Tokens.of(some(VOCAB, [6, 2, 9])), Tokens.of(some(SOURCE, [3, 8, 1]))
    with torch.no_grad():
        y, state = model.target_tokens(tokens.ids), model.encode(source)
        at_once, one = model._decode(y, tokens.fences, state)
        steps, other = model._step_by_step(y, tokens.fences, state, False)
    same(at_once, steps)
    for a, b in zip(one.recurrent.hidden, other.recurrent.hidden, strict=True):
        same(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_without_teacher_forcing_it_reads_its_own_best_tokens(kind):
    """With ratio 0 the states are those of the greedy text, whatever target is given; with 1 those of the target."""
    model = made(kind, teacher_forcing=0.0)
    source = Tokens.of(some(SOURCE, [4, 6]))
    (first,), (second,) = search(from_sources(model, source), DecodeSettings(max_tokens=7), None)
    greedy = [[1, *first.ids[:-1]], [1, *second.ids[:-1]]]
    given = Tokens.of([[1, *ids] for ids in some(VOCAB, [6, 6])])
    expected = model.logits(model.forward(Tokens.of(greedy), source).states)
    forced = model.logits(model.forward(given, source).states)
    model.train()
    same(model.logits(model.forward(given, source).states), expected)
    assert (forced - expected).abs().max() > 0.1


def test_sometimes_forced_is_neither_and_follows_the_seed():
    model = made(teacher_forcing=0.5).train()
    source, given = Tokens.of(some(SOURCE, [4])), Tokens.of([[1, *some(VOCAB, [14])[0]]])
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(model.forward(given, source).states)
    same(found[0], found[1])
    assert (found[0] - found[2]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"beam": 4, "n_best": 4}, {"beam": 4, "groups": 2, "n_best": 2}], ids=str)
def test_translations_of_many_are_those_of_each(kind, settings):
    model = made(kind, rnn="lstm")
    sources = some(SOURCE, [3, 9, 1, 5, 4, 2])
    with torch.inference_mode():
        chosen = DecodeSettings(max_tokens=8, **settings)
        for _ in range(6):  # 5 ends a text here; some shall leave the batch before others
            together = search(from_sources(model, Tokens.of(sources)), chosen, 5)
            if len({len(found[0].ids) for found in together}) > 1:
                break
            model.head.bias[5] += 0.5
        else:
            pytest.fail("texts of one length only")
        for source, found in zip(sources, together, strict=True):
            (alone,) = search(from_sources(model, Tokens.of([source])), chosen, 5)
            assert [one.ids for one in found] == [one.ids for one in alone]


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_looked_at_is_told_to_those_who_watch(kind):
    model = made(kind)
    targets, sources = some(VOCAB, [4, 2]), some(SOURCE, [3, 6])
    with torch.no_grad(), taps.watching() as seen:
        model.forward(Tokens.of(targets), Tokens.of(sources))
    if kind == "none":
        assert seen.told == []
        assert model.attended is None
        return
    ((module, weights),) = seen.told
    assert module is model.attention
    assert [tuple(one.shape) for one in weights] == [(1, 4, 3), (1, 2, 6)]
    for one in weights:
        same(one.sum(2), torch.ones(one.shape[:2]))
    state = model.encode(Tokens.of(sources))
    for step in range(2):
        _, state = model.extend(Tokens.of([target[step : step + 1] for target in targets]), state)
        for row, one in enumerate(weights):
            same(model.attended(state)[row, : one.shape[2]], one[0, step])


def test_coverage_is_for_those_with_attention():
    settings = DecodeSettings(beam=3, n_best=3, max_tokens=6, coverage=0.5)
    sources = Tokens.of(some(SOURCE, [4, 2, 7]))
    with torch.inference_mode():
        assert len(search(from_sources(made("general"), sources), settings, END)) == 3
        with pytest.raises(ConfigError, match="attention"):
            search(from_sources(made("none"), sources), settings, END)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_to_turn_a_sequence_around(kind):
    """The loss of 16 short pairs falls to a fifth within 150 steps, and attention of no kind is left without gradient."""
    model = made(kind, seed=2).train()
    sources = some(SOURCE, [4] * 16, seed=5)
    targets = [[1, *(token % VOCAB for token in reversed(source))] for source in sources]
    tokens, source = Tokens.of([target[:-1] for target in targets]), Tokens.of(sources)
    value = torch.tensor([token for target in targets for token in target[1:]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(150):
        loss = -model.target_log_probs(model(tokens, source).states, torch.arange(64), value).sum() / 64
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 5


def test_it_is_fine_tuned_to_translate_and_asked(tmp_path):
    """A few steps through the command's own way: fresh weights with a tokenizer for each side, saved, loaded, decoded."""
    source = ["el perro come pan", "la gata come queso", "el niño mira la luna", "la niña quiere agua"] * 4
    target = ["the dog eats bread", "the cat eats cheese", "the boy looks at the moon", "the girl wants water"] * 4
    for name, lines in (("s.txt", source), ("t.txt", target)):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    api.finetune(
        "translate", model="seq2seq-rnn:tiny", train=f"{tmp_path}/s.txt,{tmp_path}/t.txt", out=tmp_path / "model", quiet=True,
        overrides=("tokenizer.kind=word", "task.separate=true", "train.steps=30", "train.batch=16", "architecture.attention=dot",
                   "train.lr=0.02", "measure=loss"),
    )  # fmt: skip
    asked = api.load(tmp_path / "model")
    assert asked.model.config.attention.kind == "dot"
    tokenizer = asked.task.reader.tokenizer
    assert tokenizer.source.vocabulary != tokenizer.vocabulary
    (found,) = asked.predict(["la gata come queso"])
    assert found.output == "the cat eats cheese"
    drawn = asked.generate(
        "la gata come queso", samples=4, exclude=["cat"], min_tokens=6, prefix="the", temperature=2.0
    )
    for one in drawn:
        assert one.output.startswith("the ")
        assert "cat" not in one.output
        assert len(one.output.split()) >= 6
    looked = asked.attend("la gata come queso")
    assert looked.tokens == ("the", "cat", "eats", "cheese", "<end>")
    assert looked.looked == ("la", "gata", "come", "queso", "<end>")
    assert looked.weights.shape == (1, 1, 5, 5)
    assert looked.weights.sum(3) == pytest.approx(1, abs=1e-5)


def test_what_does_not_fit_is_said():
    with pytest.raises(ConfigError, match=r"decoder\.width 24"):
        made("dot", width=12)
    with pytest.raises(ConfigError, match="additive"):
        made("bahdanau")
    with pytest.raises(ConfigError, match="Source 2 is empty"):
        made().encode(Tokens.of([[3], []]))


def test_a_source_of_unknown_words_alone_is_translated_and_so_is_one_of_one_token():
    """<unk> is a token as any other to the model: an answer comes out, and it is the same beside other sources."""
    model, unknown = made(), 2
    with torch.inference_mode():
        found = search(from_sources(model, Tokens.of([[unknown] * 5, [unknown]])), DecodeSettings(max_tokens=5), END)
        (alone,) = search(from_sources(model, Tokens.of([[unknown] * 5])), DecodeSettings(max_tokens=5), END)
    assert all(one[0].ids for one in found)
    assert found[0][0].ids == alone[0].ids

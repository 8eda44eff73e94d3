"""Recurrent stacks against the recurrences written out step by step, and the corners of flat batches."""

import pytest
import torch
from torch import nn

import vocablo
from vocablo.base.errors import ConfigError
from vocablo.contract import Fences, Tokens
from vocablo.models import rnn
from vocablo.nn.lstm import by_hand
from vocablo.nn.recurrent import MODULES, RecurrentStack, TwoWayStack, explained, explained_both, held
from vocablo.text.characters import OpenTokenizer
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.recipe import resolve
from vocablo.training.schedules import learning_rate


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("lengths", [(4, 1, 6), (3, 3), (1,)])
def test_a_stack_is_its_equations_sequence_by_sequence(kind, lengths):
    torch.manual_seed(0)
    one, both = RecurrentStack(kind, 5, 4, 2, 0.0), TwoWayStack(kind, 5, 4, 2, 0.0)
    fences = Fences.of(lengths)
    x = drawn(fences.total, 5)
    with torch.no_grad():
        states, after = one(x, fences, None)
        wanted = [explained(one, part, one.zero(1, x)) for part in x.split(list(lengths))]
        torch.testing.assert_close(states, torch.cat(wanted), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(after.hidden[-1], torch.stack([part[-1] for part in wanted]), atol=1e-6, rtol=1e-5)
        wanted = [explained_both(both, part) for part in x.split(list(lengths))]
        torch.testing.assert_close(both(x, fences), torch.cat(wanted), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", MODULES)
def test_a_sequence_without_tokens_leaves_its_state_and_its_neighbours_alone(kind):
    torch.manual_seed(0)
    stack, both = RecurrentStack(kind, 5, 4, 2, 0.0), TwoWayStack(kind, 5, 4, 2, 0.0)
    x = drawn(6, 5)
    with torch.no_grad():
        _, state = stack(drawn(3, 5, seed=1), Fences.of([1, 1, 1]), None)
        states, after = stack(x, Fences.of([2, 0, 4]), state)
        kept, others = torch.tensor([1]), torch.tensor([0, 2])
        assert torch.equal(after.select(kept).hidden[1], state.select(kept).hidden[1])
        alone, ended = stack(x, Fences.of([2, 4]), state.select(others))
        torch.testing.assert_close(states, alone)
        torch.testing.assert_close(after.select(others).hidden[1], ended.hidden[1])
        torch.testing.assert_close(both(x, Fences.of([2, 0, 4])), both(x, Fences.of([2, 4])))
        none, same = stack(x[:0], Fences.of([0, 0, 0]), state)
        assert none.shape == (0, 4)
        assert torch.equal(same.hidden[0], state.hidden[0])
        assert both(x[:0], Fences.of([0])).shape == (0, 8)


def test_an_encoder_without_an_output_layer_keeps_its_states():
    model = rnn.build(rnn.config_for("bigru", "tiny", 20, 16, {"stack": {"width": 6}})).eval()
    bare = model.trimmed().eval()
    tokens = Tokens.of([[3, 4, 5], [6]])
    with torch.no_grad():
        assert torch.equal(bare(tokens).states, model(tokens).states)
    assert bare.head is None
    assert rnn.family_of(bare.config) == "bigru"


def test_without_layers_it_is_a_bag_of_vectors():
    config = rnn.config_for("bilstm", "tiny", 20, 64, {"embed": {"width": 6}, "stack": {"layers": 0}, "head": None})
    model = rnn.build(config).eval()
    tokens = Tokens.of([[3, 1], [4], [1, 5, 9]])
    assert config.width == 6
    assert torch.equal(model(tokens).states, model.tokens.weight[tokens.ids])
    assert set(dict(model.named_parameters())) == {"tokens.weight"}
    with pytest.raises(ConfigError, match="needs one at least"):
        rnn.config_for("lstm", "tiny", 20, 64, {"stack": {"layers": 0}})


@pytest.mark.parametrize("lengths", [(3, 3, 3), (5, 2, 4, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_an_lstm_with_its_gradient_by_hand_is_the_one_written_out(lengths, masked):
    """Values and gradients of every input against autograd over the equations, with a mask on the recurrent connections."""
    torch.manual_seed(0)
    layer, fences = nn.LSTM(5, 4).double(), Fences.of(lengths)
    x, h, c = (torch.randn(rows, width, dtype=torch.double, requires_grad=True) for rows, width in ((sum(lengths), 5), (len(lengths), 4), (len(lengths), 4)))  # fmt: skip
    mask = torch.rand(len(lengths), 4, dtype=torch.double) if masked else None
    w, u, b, bias = layer.parameters()
    states, ends = [], []
    for row, part in enumerate(x.split(list(lengths))):
        one, cell = h[row], c[row]
        for x_t in part:
            i, f, g, o = (w @ x_t + b + u @ (one if mask is None else mask[row] * one) + bias).chunk(4)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            one = o.sigmoid() * cell.tanh()
            states.append(one)
        ends.append((one, cell))
    wanted = (torch.stack(states), *(torch.stack(each) for each in zip(*ends, strict=True)))
    found, (last, cells) = by_hand(layer, x, fences, (h, c), mask)
    learnt = (x, h, c, *layer.parameters())
    grads = []
    for made in ((found, last, cells), wanted):
        upstream = [
            torch.randn(one.shape, dtype=torch.double, generator=torch.Generator().manual_seed(k))
            for k, one in enumerate(made)
        ]
        grads.append(torch.autograd.grad(sum((one * up).sum() for one, up in zip(made, upstream, strict=True)), learnt))
    for one, other in zip((found, last, cells, *grads[0]), (*wanted, *grads[1]), strict=True):
        torch.testing.assert_close(one, other)


def test_variational_dropout_holds_its_masks_over_a_sequence():
    """Each sequence has a mask of its own; with p = 0.5 over 64 units, two are the same with probability 2^-64."""
    torch.manual_seed(0)
    dropped = held(torch.ones(7, 64), Fences.of([4, 3]), 0.5, True) > 0
    assert torch.equal(dropped[0], dropped[3])
    assert torch.equal(dropped[4], dropped[6])
    assert not torch.equal(dropped[0], dropped[4])
    changes = {"embed": {"width": 8}, "stack": {"width": 8, "layers": 2, "dropout": 0.5, "variational": True}}
    model = rnn.build(rnn.config_for("lstm", "tiny", 20, 16, changes)).train()
    tokens = Tokens.of([[3, 4, 5], [6]])
    assert not torch.equal(model(tokens).states, model(tokens).states)
    model.eval()
    assert torch.equal(model(tokens).states, model(tokens).states)
    with pytest.raises(ConfigError, match=r"stack.variational is of an LSTM that reads from the left"):
        rnn.config_for("bilstm", "tiny", 20, 16, {"stack": {"variational": True}})


def test_zarembas_recipes_have_his_sizes_and_his_schedule():
    """4,653,200 parameters of the small model with two biases a gate, as his code has them; his rate and clip are of sums."""
    for name, count, context, rate, clip in (
        ("small", 4_653_200, 20, 1, 5), ("medium", 19_780_400, 35, 1, 5), ("large", 66_034_000, 35, 1, 10)
    ):  # fmt: skip
        recipe, _ = resolve("lstm", recipe=f"zaremba-{name}", given={}, overrides=())
        with torch.device("meta"):
            model = rnn.build(rnn.config_for("lstm", recipe.size, 10_000, recipe.context, recipe.model))
        assert sum(parameter.numel() for parameter in model.parameters()) == count
        assert recipe.context == context
        assert recipe.train.lr == pytest.approx(rate * context)
        assert recipe.train.clip == pytest.approx(clip / context)
    recipe, _ = resolve("lstm", recipe="zaremba-small", given={}, overrides=())
    rates = [learning_rate(recipe.train, epoch * 10, 130, 10) for epoch in range(6)]
    assert rates == pytest.approx([20, 20, 20, 20, 10, 5])


def test_products_in_bfloat16_stay_near_the_exact_states():
    """Wide layers take the loop by hand under autocast; 8 bits of a mantissa are 0.004, and the products' sums average out."""
    torch.manual_seed(0)
    stack, fences = RecurrentStack("lstm", 16, 512, 1, 0.0), Fences.of([3, 3])
    x = drawn(6, 16).requires_grad_()
    exact, _ = stack(x, fences, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near, state = stack(x, fences, None)
    assert state.cells[0].dtype == torch.float32
    torch.testing.assert_close(near, exact, atol=0.01, rtol=0)
    ours, theirs = (torch.autograd.grad(one.sum(), [x, *stack.parameters()]) for one in (near, exact))
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("kind", MODULES)
def test_read_from_both_ends_it_learns_under_autocast(kind):
    """Only the products with what goes in are in bfloat16 (0.004); an Elman network is torch's, in bfloat16 throughout."""
    torch.manual_seed(0)
    stack, fences, x = TwoWayStack(kind, 16, 8, 1, 0.0), Fences.of([3, 4]), drawn(7, 16)
    exact = stack(x, fences)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = stack(x, fences)
    torch.testing.assert_close(near.float(), exact, atol=0.03, rtol=0)
    ours, theirs = (torch.autograd.grad(one.sum(), [*stack.parameters()]) for one in (near, exact))
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() < 0.05 * other.norm()


WORDS = ["el", "El", "gato", "Gato", "come", "<x>"]


def speller():
    tokenizer = Tokenizer.train("word", [" ".join(WORDS)], split="whitespace")
    changes = {"embed": {"width": 6, "unknown": tokenizer.unk_id}, "stack": {"width": 5, "layers": 1}, "chars": {}}
    torch.manual_seed(0)
    model = rnn.build(rnn.config_for("bilstm", "tiny", tokenizer.size, 16, changes)).eval()
    model.spell(tokenizer)
    return model, OpenTokenizer.of(tokenizer, model)


@torch.no_grad()
def test_a_word_is_read_by_its_letters_and_in_lower_case():
    model, tokenizer = speller()
    x = dict(zip(WORDS, model._read(torch.tensor(tokenizer.encode(" ".join(WORDS)).ids)), strict=True))
    assert torch.equal(x["gato"][:6], x["Gato"][:6]), "one vector for both"
    assert not torch.equal(x["gato"][6:], x["Gato"][6:]), "and other letters"
    assert not torch.equal(x["gato"][:6], x["come"][:6])
    letters = model.spelled.letters(torch.tensor([1 + byte for byte in b"gato"]))
    states = explained_both(model.spelled.stack, letters)
    torch.testing.assert_close(x["gato"][6:], torch.cat([states[-1, :25], states[0, 25:]]))
    new = tokenizer.encode("GATO perro ñandú").ids
    assert min(new) >= model.vocab, "none of them is a token"
    capitals, dog, bird = model._read(torch.tensor(new))
    assert torch.equal(capitals[:6], x["gato"][:6])
    assert torch.equal(dog[:6], model.tokens.weight[tokenizer.unk_id])
    assert torch.equal(dog[:6], bird[:6])
    assert not torch.equal(dog[6:], bird[6:]), "unknown words differ by their letters"


def test_words_that_come_once_stand_in_for_unknown_ones_while_it_learns():
    """Of 400 occurrences half are hidden, give or take 60: six standard deviations."""
    model, tokenizer = speller()
    ids = torch.tensor(tokenizer.encode("el El gato come come").ids)
    model.seen(ids)
    model.train()
    unknown = model.tokens.weight[tokenizer.unk_id]
    read = model._read(ids.repeat(400))[:, :6].view(400, 5, 6)
    hidden = (read == unknown).all(2).sum(0).tolist()
    assert hidden[0] == hidden[1] == hidden[3] == hidden[4] == 0, "el and El are the same word, twice"
    assert 140 < hidden[2] < 260
    assert not (model.eval()._read(ids)[:, :6] == unknown).all(1).any()


def test_letters_that_nobody_told_are_missed():
    model = rnn.build(rnn.config_for("bilstm", "tiny", 9, 16, {"chars": {}}))
    with pytest.raises(ConfigError, match="wasn't told the letters"):
        model(Tokens.of([[1, 2]]))


def test_letters_are_refused_before_pretraining_starts(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("el gato come pan .\n" * 60, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"leave model\.chars out"):
        vocablo.pretrain(
            "bilstm", size="tiny", text=text, out=tmp_path / "model", steps=1, overrides=("context=16", "model.chars.hidden=4"),
            quiet=True,
        )  # fmt: skip
    assert {part.name for part in (tmp_path / "model" / "run").iterdir()} == {"store", "tokenizer"}, "no run was begun"


def test_a_network_that_reads_both_ways_learns_hidden_words_and_is_asked_for_them(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("el gato come pan .\nla gata mira la luna .\n" * 60, encoding="utf-8")
    done = vocablo.pretrain(
        "bilstm", size="tiny", text=text, out=tmp_path / "model", steps=3, data={"documents": "line"},
        overrides=("context=16", "model.stack.width=8", "model.embed.width=8"), quiet=True,
    )  # fmt: skip
    assert done.seeds[0].steps == 3
    model = vocablo.load(tmp_path / "model")
    assert len(model.fill("el [MASK] come pan .", k=3).masks[0].candidates) == 3
    assert model.embed("el gato").vectors.shape == (1, 16)
    assert model.score("el gato")[0].log_prob < 0

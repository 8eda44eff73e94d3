"""ELMo against its equations in a plain loop over one sentence, and what its letters give it."""

import pytest
import torch

from vocablo import checkpoint
from vocablo.contract import Tokens
from vocablo.models import elmo
from vocablo.nn.character_cnn import CharacterCNN
from vocablo.text.characters import ELMO
from vocablo.text.tokenizer import Tokenizer

TEXTS = ["el gato come pan .", "¿ la gata come queso ?", "¡ la niña comió piñones en Cádiz !"]


def small(vocab: int = 30, width: int = 50, **stack):
    torch.manual_seed(0)
    changes = {
        "letters": {"embed": 4, "filters": [[1, 3], [2, 4], [4, 5]], "highway": 2, "width": width},
        "stack": {"width": 6} | stack,
    }
    model = elmo.build(elmo.config_for("elmo", "tiny", vocab, 16, changes)).eval()
    with torch.no_grad():  # far from uniform, or mistakes hide in rounding
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def letters_by_hand(reader: CharacterCNN, row: torch.Tensor) -> torch.Tensor:
    """The vector of one word, place by place."""
    x = reader.characters.weight[row.long()]  # [C, E]
    found = []
    for conv in reader.filters:
        width = conv.kernel_size[0]
        windows = [
            sum(conv.weight[:, :, k] @ x[j + k] for k in range(width)) + conv.bias for j in range(len(x) - width + 1)
        ]
        found.append(torch.relu(torch.stack(windows).amax(0)))
    y = torch.cat(found)
    for layer in reader.highway:
        gate = torch.sigmoid(layer.gate.weight @ y + layer.gate.bias)
        y = gate * torch.relu(layer.transform.weight @ y + layer.transform.bias) + (1 - gate) * y
    return reader.projection.weight @ y + reader.projection.bias


def run_by_hand(model: elmo.Elmo, layers, x: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    """The outputs of every layer of one direction, word by word; ``x`` in the order in which it is read."""
    seen = [x]
    for number, layer in enumerate(layers):
        projected = model.config.stack.cells is not None
        if projected:
            w, b, u, p = layer.input.weight, layer.input.bias, layer.recurrent.weight, layer.projection.weight
            clip = model.config.stack.clip or 1e9
        else:
            inner = layer.layers[0]
            w, u, b = inner.weight_ih_l0, inner.weight_hh_l0, inner.bias_ih_l0 + inner.bias_hh_l0
            p, clip = torch.eye(w.shape[0] // 4), 1e9
        h, c = torch.zeros(p.shape[0]), torch.zeros(w.shape[0] // 4)
        outputs = []
        for now in seen[-1]:
            i, f, g, o = (w @ now + b + u @ h).chunk(4)
            c = (torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)).clamp(-clip, clip)
            h = (p @ (torch.sigmoid(o) * torch.tanh(c))).clamp(-clip, clip)
            outputs.append(h + now if number else h)
        seen.append(outputs)
    return seen


def test_it_computes_its_equations() -> None:
    """Sentences of several lengths in one flat batch, against each one alone, word by word in plain torch."""
    for shape in ({}, {"cells": 9, "clip": 0.3}, {"cells": 9, "layers": 3, "skip": True}):
        model = small(width=9, **shape)
        draw = torch.Generator().manual_seed(1)
        sentences = [torch.randint(0, 30, (n,), generator=draw).tolist() for n in (5, 1, 8, 5)]
        with torch.no_grad():
            depth = model.depth
            hidden = model(Tokens.of(sentences), keep=tuple(range(depth + 1)))
            expected = [[] for _ in range(depth + 1)]
            for sentence in sentences:
                x = [letters_by_hand(model.reader, model.spellings[index]) for index in sentence]
                ahead = run_by_hand(model, model.forward_layers, x)
                back = run_by_hand(model, model.backward_layers, x[::-1])
                for layer in range(depth + 1):
                    expected[layer] += [torch.cat(pair) for pair in zip(ahead[layer], back[layer][::-1], strict=True)]
        for layer in range(depth + 1):
            torch.testing.assert_close(hidden.layers[layer], torch.stack(expected[layer]), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(hidden.states, hidden.layers[depth])


def test_a_clip_holds() -> None:
    model = small(cells=9, clip=0.05, skip=False)
    with torch.no_grad():
        states = model(Tokens.of([list(range(20))])).states
    assert states.abs().max() <= 0.05
    assert (states.abs() == 0.05).any()


@pytest.mark.parametrize("stack", [{}, {"cells": 9, "clip": 3.0}])
def test_sequences_without_words_have_no_states_and_change_nothing(stack) -> None:
    model = small(**stack)
    with torch.no_grad():
        for empty in ([], [[]], [[], []]):
            assert model(Tokens.of(empty)).states.shape == (0, 12)
        among, alone = (model(Tokens.of(some)).states for some in ([[1, 2], [], [3]], [[1, 2], [3]]))
    torch.testing.assert_close(among, alone)


def test_letters_that_are_given_are_read_in_the_place_of_those_of_the_ids() -> None:
    tokenizer = Tokenizer.train("word", TEXTS)
    model = small(tokenizer.size)
    model.spell(tokenizer)
    ids = tokenizer.encode("la niña come queso").ids
    words = ["la", "niña", "come", "queso"]
    plain = Tokens.of([ids])
    given = Tokens(plain.ids, plain.fences, plain.positions, chars=torch.from_numpy(ELMO.rows(words)).long())
    other = Tokens(
        plain.ids, plain.fences, plain.positions, chars=torch.from_numpy(ELMO.rows(["la", "niño", *words[2:]])).long()
    )
    with torch.no_grad():
        one, same, changed = (model(tokens).states for tokens in (plain, given, other))
    torch.testing.assert_close(one, same)
    assert (one - changed).abs().amax(1).min() > 1e-6  # each state has read the second word from one side


def test_a_word_longer_than_its_row_and_an_empty_one_are_read() -> None:
    model = small()
    plain = Tokens.of([[0, 0, 0]])
    rows = torch.from_numpy(ELMO.rows(["", "ñ" * 40, "ñ" * 24])).long()
    with torch.no_grad():
        layers = model(Tokens(plain.ids, plain.fences, plain.positions, chars=rows), keep=(0,)).layers[0]
    assert layers.isfinite().all()
    torch.testing.assert_close(layers[1], layers[2])  # 48 bytes are read


def test_words_that_are_not_told_count_as_unknown() -> None:
    torch.manual_seed(0)
    changes = {"head": {"words": 5}, "unknown": 1, "stack": {"width": 6}}
    model = elmo.build(elmo.config_for("elmo", "tiny", 30, 16, changes)).eval()
    states = model(Tokens.of([[2, 29, 3]])).states
    at = torch.tensor([0, 0, 0])
    found = model.target_log_probs(states, at, torch.tensor([1, 5, 29]))
    assert found[0] == found[1] == found[2]
    assert model.logits(states).shape == (3, 5)


def test_its_words_are_saved_with_their_letters(tmp_path) -> None:
    tokenizer = Tokenizer.train("word", TEXTS)
    model = small(tokenizer.size)
    model.spell(tokenizer)
    checkpoint.save(tmp_path / "elmo", model, tokenizer)
    again = checkpoint.load(tmp_path / "elmo").model
    assert torch.equal(again.spellings, torch.from_numpy(ELMO.table(tokenizer)))


def test_a_copy_without_output_layer_has_the_same_states() -> None:
    model = small()
    tokens = Tokens.of([[1, 2, 3]])
    with torch.no_grad():
        torch.testing.assert_close(model.trimmed().eval()(tokens).states, model(tokens).states)


def test_a_mirror_image_is_within_its_sequence() -> None:
    tokens = Tokens.of([[0] * 3, [0], [0] * 2])
    assert elmo.reversal(tokens.fences, "cpu").tolist() == [2, 1, 0, 3, 5, 4]

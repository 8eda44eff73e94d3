"""The lecture's masked-LM snippet and ours: the same mask and weights give the same loss, gradients and step.

Theirs is a padded batch with -100 wherever there is no loss; ours has no padding and logits only at the targets.
"""

import pytest
import torch

from vocablo import checkpoint
from vocablo.contract import Batch, Target, Tokens
from vocablo.data.store import Store
from vocablo.landscape import bert
from vocablo.landscape._layers import to_theirs
from vocablo.pretexts import masked
from vocablo.text.templates import Template
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.optimizer import make_optimizer
from vocablo.training.settings import TrainSettings

transformers = pytest.importorskip("transformers")

TEXTS = [
    "Self-supervised learning creates its own labels from the data.",
    "Voy a guardar el queso en el refrigerador para conservarlo fresco.",
    "Sí.",
    "Cuando llegue a casa me tengo que acordar de darle de comer al gato.",
]


@pytest.fixture
def pair(tmp_path):
    """Theirs and ours with the same random weights, and their tokenizer."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.train("wordpiece", TEXTS, vocab=150)
    tokenizer.save(tmp_path)
    config = transformers.BertConfig(
        vocab_size=tokenizer.size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.2,
    )  # fmt: skip
    theirs = transformers.BertForMaskedLM(config)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.2)
    theirs.save_pretrained(tmp_path)
    ours = checkpoint.load(tmp_path).model
    return theirs.train(), ours.train(), transformers.AutoTokenizer.from_pretrained(tmp_path), tokenizer


def lecture_batch(tokenizer):
    """The slide's steps 4 to 6, for several texts."""
    inputs = tokenizer(TEXTS, return_tensors="pt", padding=True)
    input_ids = inputs["input_ids"].clone()
    labels = input_ids.clone()
    probability_matrix = torch.full(labels.shape, 0.15)
    special = [tokenizer.get_special_tokens_mask(row, already_has_special_tokens=True) for row in labels.tolist()]
    probability_matrix.masked_fill_(torch.tensor(special, dtype=torch.bool), value=0.0)
    masked_indices = torch.bernoulli(probability_matrix).bool()
    input_ids[masked_indices] = tokenizer.mask_token_id
    labels[~masked_indices] = -100
    return inputs["attention_mask"].bool(), input_ids, labels


def our_batch(real, input_ids, labels):
    tokens = Tokens.of([row[mask].tolist() for row, mask in zip(input_ids, real, strict=True)])
    flat = labels[real]
    at = torch.nonzero(flat != -100).squeeze(1)
    return Batch(tokens, {"masked": Target(at, flat[at], len(at))})


def test_same_loss_same_gradients_same_step(pair):
    theirs, ours, their_tokenizer, tokenizer = pair
    real, input_ids, labels = lecture_batch(their_tokenizer)
    assert not real.all(), "there is padding"
    store = Store.from_documents(TEXTS, tokenizer)
    pretext = masked.Pretext(store, masked.Config(), tokenizer=tokenizer, seed=0, batch=4, micro=None, context=32)
    batch = our_batch(real, input_ids, labels)
    their_optimizer = torch.optim.AdamW(theirs.parameters(), lr=5e-5, weight_decay=0.0)
    named = dict(ours.named_parameters())
    settings = TrainSettings(steps=1, lr=5e-5, weight_decay=0.0, betas=(0.9, 0.999))
    our_optimizer = make_optimizer(named, settings)

    def losses():
        theirs_ = theirs(input_ids=input_ids, attention_mask=real.long(), labels=labels).loss
        term = pretext.terms(ours, batch, None)[0]["masked"]
        return theirs_, term.total / term.count

    their_loss, our_loss = losses()
    torch.testing.assert_close(our_loss, their_loss, atol=1e-5, rtol=1e-5)
    their_loss.backward()
    our_loss.backward()
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in named.items()}
    found = to_theirs(gradients, bert.entries(ours.config))
    compared = 0
    for name, parameter in theirs.named_parameters():
        if name in found and parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-5, msg=name)
            compared += 1
    assert compared == len([p for p in theirs.parameters() if p.grad is not None])
    their_optimizer.step()
    our_optimizer.step()
    after_theirs, after_ours = losses()
    assert after_theirs < their_loss
    torch.testing.assert_close(after_ours, after_theirs, atol=1e-4, rtol=1e-4)


def test_ids_with_special_tokens_are_the_same(pair):
    """What a sequence of the pretext is, their tokenizer gives as well: [CLS] and [SEP] included."""
    _, _, their_tokenizer, tokenizer = pair
    store = Store.from_documents(TEXTS, tokenizer)
    settings = masked.Config(order="documents", rate=1e-9)
    pretext = masked.Pretext(store, settings, tokenizer=tokenizer, seed=0, batch=4, micro=1, context=64)
    ours = sorted(batch.tokens.ids.tolist() for batch in pretext.micro_batches(0))
    assert ours == sorted(their_tokenizer(TEXTS)["input_ids"])
    two = their_tokenizer(TEXTS[0], TEXTS[1])
    assert (two.input_ids, two.token_type_ids) == Template.of(tokenizer).pair(*tokenizer.encode_batch(TEXTS[:2]))

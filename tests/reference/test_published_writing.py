"""Published encoder-decoders asked in words, from Python and the command line: transformers' texts are the reference."""

import json

import pytest
import torch
import transformers

from command_line import refused, vocablo
from published import spread
from vocablo import checkpoint
from vocablo.api import load
from vocablo.base.errors import ConfigError
from vocablo.text.languages import language_id
from vocablo.text.published import byt5
from vocablo.text.templates import Template
from vocablo.text.tokenizer import Tokenizer

WORDS = ["el", "gato", "come", "pan", "la", "luna", "the", "cat", "eats", "bread", "moon"]
SPECIALS = {"end": "</s>", "pad": "<pad>", "cls": "<s>"}
TEXTS = ["el gato come pan", "la luna", "el gato come la luna come pan"]


def words(*more):
    """Specials first: <pad> 0, </s> 1, <unk> 2, <s> 3."""
    return Tokenizer.of_words([*WORDS, *more], specials=SPECIALS)


def framed(tokenizer, folder, before, behind):
    """Saved with a template around a text: names of special tokens."""
    tokenizer.save(folder)
    told = json.loads((folder / "tokenizer.json").read_text())
    names = dict.fromkeys([*before, *behind])
    piece = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}  # noqa: E731
    text = lambda which: {"Sequence": {"id": which, "type_id": 0}}  # noqa: E731
    single = [*map(piece, before), text("A"), *map(piece, behind)]
    told["post_processor"] = {
        "type": "TemplateProcessing", "single": single, "pair": [*map(piece, before), text("A"), text("B"), *map(piece, behind)],
        "special_tokens": {name: {"id": name, "ids": [tokenizer.id(name)], "tokens": [name]} for name in names},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(told))


def made(folder, architecture, config, tokenizer, said=None, **shape):
    """Their model with random weights in a folder."""
    bart = {"d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40,
            "encoder_attention_heads": 3, "decoder_attention_heads": 3, "max_position_embeddings": 32}  # fmt: skip
    t5 = {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3}
    usual = t5 if config == "T5Config" else bart
    ids = {"pad_token_id": 0, "eos_token_id": 1, "vocab_size": tokenizer.size}
    model = spread(getattr(transformers, architecture)(getattr(transformers, config)(**usual | ids | shape)))
    for name, value in (said or {}).items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    return model


def texts_there(model, tokenizer, sources, **told):
    """Their texts of sources that are ids, one by one."""
    found = []
    for ids in sources:
        with torch.no_grad():
            out = model.generate(torch.tensor([ids]), do_sample=False, **told)[0].tolist()
        found.append(tokenizer.decode(out, skip_special=True).strip())
    return found


@pytest.fixture
def bart(tmp_path):
    tokenizer = words()
    said = {"forced_bos_token_id": 3, "num_beams": 3, "no_repeat_ngram_size": 2, "max_length": 11}
    shape = {"bos_token_id": 3, "decoder_start_token_id": 1, "forced_eos_token_id": 1}
    model = made(tmp_path, "BartForConditionalGeneration", "BartConfig", tokenizer, said, **shape)
    framed(tokenizer, tmp_path, ["<s>"], ["</s>"])
    return model, tokenizer, tmp_path


def test_a_bart_folder_writes_as_it_says_itself(bart):
    model, tokenizer, folder = bart
    asked = load(folder)
    wanted = texts_there(model, tokenizer, [[3, *tokenizer.encode(text).ids, 1] for text in TEXTS])
    assert [one.output for one in asked.summarize(TEXTS)] == wanted
    shorter = texts_there(model, tokenizer, [[3, *tokenizer.encode(TEXTS[0]).ids, 1]], num_beams=1, max_length=5)
    assert asked.summarize(TEXTS[0], beam=1, max_tokens=4)[0].output == shorter[0]


def test_a_score_begins_behind_the_token_that_every_target_begins_with(bart):
    model, tokenizer, folder = bart
    (found,) = load(folder).score("el gato", "the cat")
    target = [1, 3, *tokenizer.encode("the cat").ids]
    with torch.no_grad():
        source = torch.tensor([[3, *tokenizer.encode("el gato").ids, 1]])
        logs = model(source, decoder_input_ids=torch.tensor([target])).logits[0].log_softmax(1)
    expected = [float(logs[1 + place, token]) for place, token in enumerate([*target[2:], 1])]
    assert found.log_probs == pytest.approx(expected, abs=1e-4)


def test_streams_and_samples_leave_that_token_out(bart):
    asked = load(bart[2])
    text = "".join(asked.stream("el gato", greedy=True, beam=1, no_repeat=0, force_end=False))
    assert text
    assert "<s>" not in text
    assert "<s>" not in asked.generate("el gato", beam=1, no_repeat=0, force_end=False)[0].output


def test_t5_from_the_command_line(tmp_path):
    tokenizer = words()
    model = made(tmp_path, "T5ForConditionalGeneration", "T5Config", tokenizer, decoder_start_token_id=0)
    framed(tokenizer, tmp_path, [], ["</s>"])
    done = vocablo("translate", *TEXTS, "--model", str(tmp_path), "--beam", "2", "--max-tokens", "9", "--json")
    told = json.loads(done.out)["results"]
    wanted = texts_there(
        model, tokenizer, [[*tokenizer.encode(text).ids, 1] for text in TEXTS], num_beams=2, max_new_tokens=9
    )
    assert [one["output"] for one in told] == wanted


def test_a_model_of_many_languages_reads_and_writes_those_that_are_asked(tmp_path):
    tokenizer = words("es_XX", "en_XX")
    spanish, english = tokenizer.id("es_XX"), tokenizer.id("en_XX")
    shape = {"bos_token_id": 3, "decoder_start_token_id": 1, "forced_eos_token_id": 1}
    model = made(tmp_path, "MBartForConditionalGeneration", "MBartConfig", tokenizer, **shape)
    framed(tokenizer, tmp_path, ["en_XX"], ["</s>"])
    done = vocablo("translate", "el gato", "--model", str(tmp_path))
    refused(done, "writes many languages: say which one", early=False)
    with pytest.raises(ConfigError, match="writes many languages"):
        load(tmp_path).score("el gato", "the cat")
    ids = tokenizer.encode(TEXTS[0]).ids
    for source, first in ((None, english), ("es", spanish)):
        asked = load(tmp_path).language("en", source)
        (found,) = asked.translate(TEXTS[0], beam=3, max_tokens=8)
        told = {"num_beams": 3, "max_new_tokens": 8, "forced_bos_token_id": english}
        (wanted,) = texts_there(model, tokenizer, [[first, *ids, 1]], **told)
        assert found.output == wanted.replace("en_XX", "").strip()
    with pytest.raises(ConfigError, match="no token of one language for 'fr'; it knows en_XX, es_XX"):
        asked.language("fr")


def test_targets_may_begin_with_their_language_alone(tmp_path):
    """mBART fine-tuned for one pair: the decoder starts from the language's token."""
    tokenizer = words("es_XX", "en_XX")
    shape = {"bos_token_id": 3, "decoder_start_token_id": tokenizer.id("es_XX")}
    made(tmp_path, "MBartForConditionalGeneration", "MBartConfig", tokenizer, **shape)
    framed(tokenizer, tmp_path, [], ["</s>", "es_XX"])
    asked = load(tmp_path)
    assert asked.task.reader.start == (tokenizer.id("es_XX"),)
    assert asked.task.reader.template.single([7]) == [7, 1, tokenizer.id("es_XX")]
    assert asked.language("en").task.reader.start == (tokenizer.id("en_XX"),)


def test_fine_tuning_needs_and_keeps_the_language(tmp_path):
    tokenizer = words("es_XX", "en_XX")
    shape = {"bos_token_id": 3, "decoder_start_token_id": 1}
    made(tmp_path / "m", "M2M100ForConditionalGeneration", "M2M100Config", tokenizer, **shape)
    framed(tokenizer, tmp_path / "m", ["es_XX"], ["</s>"])
    (tmp_path / "pairs.tsv").write_text("text\tlabel\n" + "el gato\tthe cat\nla luna\tthe moon\n" * 4)
    asked = ["finetune", "translate", "--train", str(tmp_path / "pairs.tsv"), "--model", str(tmp_path / "m"), "--out"]
    settings = ["train.steps=2", "train.batch=4"]
    refused(vocablo(*asked, str(tmp_path / "no"), *settings), "writes many languages", early=False)
    done = vocablo(*asked, str(tmp_path / "tuned"), *settings, "task.language=en")
    assert done.code == 0, done.err
    tuned = load(tmp_path / "tuned")
    assert tuned.task.reader.start == (1, tokenizer.id("en_XX"))
    assert tuned.translate("el gato", max_tokens=4)[0].output is not None
    told = json.loads((tmp_path / "tuned" / "generation_config.json").read_text())
    assert told["forced_bos_token_id"] == tokenizer.id("en_XX")


def test_languages_are_found_by_token_and_by_code():
    for names in (["__es__", "__en__"], ["es_XX", "en_XX", "es"], ["spa_Latn", "eng_Latn"]):
        tokenizer = words(*names)
        asked = names[0] if names[0] == "spa_Latn" else names[0].strip("_").removesuffix("_XX")
        assert language_id(tokenizer, asked) == tokenizer.id(names[0])  # "es" is an ordinary word, es_XX the language
        with pytest.raises(ConfigError, match=f"no token of one language for 'gato'; it knows .*{names[1]}"):
            language_id(tokenizer, "gato")


def test_byt5_is_bytes_and_needs_no_tokenizer_file(tmp_path):
    theirs = transformers.ByT5Tokenizer()
    tokenizer = byt5()
    marked = "el <extra_id_0> pan<extra_id_124>."
    for text in ("¡El año pasó, señor!", "a\nb\t ", "日本 🐈", marked, ""):
        ids = tokenizer.encode(text).ids
        assert ids == theirs(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids) == text
    assert tokenizer.size == len(theirs) == 384
    assert Template.of_source(tokenizer).single(ids) == [*ids, 1]

    model = made(tmp_path, "T5ForConditionalGeneration", "T5Config", tokenizer, decoder_start_token_id=0)
    theirs.save_pretrained(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    asked = load(tmp_path)
    sources = [theirs(text).input_ids for text in TEXTS]
    told = {"num_beams": 2, "max_new_tokens": 9}
    assert [one.output for one in asked.translate(TEXTS, beam=2, max_tokens=9)] == texts_there(
        model, tokenizer, sources, **told
    )
    checkpoint.save(tmp_path / "ours", asked.model, asked.tokenizer)
    assert load(tmp_path / "ours").tokenizer.hash == tokenizer.hash
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")(TEXTS[0]).input_ids == sources[0]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("source.spm", "Marian's two sentencepiece models .* put a tokenizer.json with the same ids beside it"),
        ("spiece.model", "a sentencepiece model; transformers.AutoTokenizer.* writes it"),
        (None, "has no tokenizer.json: put the model's tokenizer beside it"),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_named(file, said, tmp_path):
    made(tmp_path, "MarianMTModel", "MarianConfig", words(), decoder_start_token_id=0)
    if file:
        (tmp_path / file).write_bytes(b"x")
    with pytest.raises(ConfigError, match=said):
        load(tmp_path)

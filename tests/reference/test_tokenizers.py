"""Our folders in transformers, and foreign ones here: the same ids, text and specials."""

import json

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from vocablo.data.store import Store
from vocablo.text.bulk import BulkEncoder
from vocablo.text.kinds import KINDS
from vocablo.text.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

CORPUS = [
    "¿Cómo estás, Sancho? —preguntó don Quijote. ¡Vamos al baño del año 1605!",
    "El ingenioso hidalgo no quería volver a su aldea.\nLa niña comía pan,\tqueso y   vino: 3,14 euros.",
    "The old man and the sea... he isn't here. “Adiós”, dijo ella; «nunca más».",
] * 4
TEXTS = [*CORPUS[:3], "", "  dos  espacios \n\n", "日本 🙂 zañ", "a<end> b [SEP] c<unk>", "línea\r\notra\xa0más"]


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_ours(kind, lowercase, tmp_path):
    if kind == "byte" and lowercase:
        pytest.skip("bytes have no case")
    ours = Tokenizer.train(kind, CORPUS, lowercase=lowercase)
    ours.save(tmp_path, model_max_length=64)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == ours.size
    assert theirs.model_max_length == 64
    assert theirs.unk_token_id == ours.unk_id
    assert theirs.eos_token_id == (None if kind == "wordpiece" else ours.end_id)
    if kind == "wordpiece":
        names = ("pad", "cls", "sep", "mask")
        assert [getattr(theirs, f"{name}_token_id") for name in names] == [
            getattr(ours, f"{name}_id") for name in names
        ]
        assert theirs("Hola").input_ids[0] == ours.cls_id
        assert theirs("Hola").input_ids[-1] == ours.sep_id
    for text in TEXTS:
        encoded = theirs(text, add_special_tokens=False, return_offsets_mapping=True)
        encoding = ours.encode(text)
        assert encoding.ids == encoded["input_ids"], text
        assert [tuple(pair) for pair in encoding.offsets.tolist()] == [
            tuple(pair) for pair in encoded["offset_mapping"]
        ]
        assert encoding.tokens == theirs.convert_ids_to_tokens(encoding.ids)
        assert ours.decode(encoding.ids) == theirs.decode(encoding.ids)
        assert ours.decode(encoding.ids, skip_special=True) == theirs.decode(encoding.ids, skip_special_tokens=True)


def gpt2():
    inner = tokenizers.ByteLevelBPETokenizer()
    inner.train_from_iterator(CORPUS, vocab_size=320, special_tokens=["<|endoftext|>"], show_progress=False)
    return inner._tokenizer


def bert():
    inner = tokenizers.BertWordPieceTokenizer(lowercase=True)
    inner.train_from_iterator(CORPUS, vocab_size=200, show_progress=False)
    return inner._tokenizer


def sentencepiece():
    inner = tokenizers.SentencePieceUnigramTokenizer()
    inner.train_from_iterator(
        CORPUS, vocab_size=90, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    return inner._tokenizer


def llama():
    """Byte-level BPE behind a pattern of its own, so that white space sticks to what is around it."""
    inner = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|end_of_text|>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(CORPUS, trainer)
    return inner


def metaspace_bpe():
    """Like Llama 2: SentencePiece BPE with bytes for what it doesn't know, and a space put in front."""
    letters = [*sorted(set("".join(CORPUS)) - {" "}), "▁"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    model = models.BPE(
        vocab={name: index for index, name in enumerate(names)},
        merges=[],
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    inner = tokenizers.Tokenizer(model)
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    inner.decoder = decoders.Sequence(steps)
    inner.add_special_tokens(["<unk>", "<s>", "</s>"])
    return inner


@pytest.mark.parametrize(
    ("make", "end"),
    [
        (gpt2, "<|endoftext|>"),
        (bert, "[SEP]"),
        (sentencepiece, "</s>"),
        (llama, "<|end_of_text|>"),
        (metaspace_bpe, "</s>"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_foreign_tokenizers(make, end, tmp_path):
    inner = make()
    inner.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.load(tmp_path)
    assert ours.specials["end"] == end  # guessed: nothing is beside the file
    bulk, texts = BulkEncoder(ours), [*CORPUS[:3], *TEXTS[4:]]
    expected = [inner.encode(text, add_special_tokens=False) for text in texts]
    assert bulk(texts).ids.tolist() == [index for row in expected for index in row.ids]
    for text, row in zip(texts, expected, strict=True):
        assert ours.encode(text).ids == row.ids
        assert ours.decode(row.ids) == inner.decode(row.ids, skip_special_tokens=False)
    store = Store.from_documents(CORPUS, ours)
    assert store.counts.bytes == sum(len(text.encode()) for text in CORPUS)
    assert store.counts.words == sum(len(text.split()) for text in CORPUS)
    spaced = [ours.surfaces[index] for index in ours.encode("el hidalgo").ids]
    assert "".join(spaced).strip().replace(" ", "") == "elhidalgo"
    ours.save(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again").specials == ours.specials
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "again").convert_tokens_to_ids(end) == ours.end_id


def test_which_foreign_pipelines_take_a_shortcut(tmp_path):
    ways = {}
    for make in (gpt2, bert, sentencepiece, llama, metaspace_bpe):
        make().save(str(tmp_path / "tokenizer.json"))
        ways[make.__name__] = BulkEncoder(Tokenizer.load(tmp_path)).way
    assert ways == {
        "gpt2": "pieces", "bert": "bert", "sentencepiece": "library", "llama": "library", "metaspace_bpe": "library",
    }  # fmt: skip


def test_what_the_files_beside_say(tmp_path):
    gpt2().save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(config | {"model_max_length": 1024, "auto_map": {"a": "b"}})
    )
    ours = Tokenizer.load(tmp_path)
    assert ours.specials == {"end": "<|endoftext|>", "pad": "<|endoftext|>"}
    ours.save(tmp_path / "again", model_max_length=512)
    saved = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())
    assert saved["tokenizer_class"] == "GPT2Tokenizer"
    assert saved["model_max_length"] == 512
    assert "auto_map" not in saved
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert theirs(CORPUS[0]).input_ids == ours.encode(CORPUS[0]).ids

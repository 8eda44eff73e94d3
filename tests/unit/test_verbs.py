"""What a loaded model can be asked: verbs are those that its way of reading has, and a wrong one names the right ones."""

import subprocess
import sys
from pathlib import Path

import pytest

from tiny_models import counted, gpt, kind
from vocablo.base.errors import ConfigError
from vocablo.inference import verbs
from vocablo.inference.left_model import LanguageModel
from vocablo.inference.verbs import Asked, MissingVerb


class Blind(Asked):
    """Another way of reading, for these tests."""

    what = "a blind model"

    def grope(self):
        self._need("grope")

    def wander(self):
        return "here"

    def _lacking(self):
        return {"grope": "a model with hands"}


def test_verbs_are_the_public_methods():
    tokenizer = kind("word")
    for model in (gpt(tokenizer.size), counted(tokenizer)):
        loaded = LanguageModel(model, tokenizer)
        assert {"next", "score", "perplexity", "generate"} <= set(loaded.verbs)
        assert not {"next_tokens", "stream", "score_files"} & set(loaded.verbs), "forms of the same verbs"
        assert all(callable(getattr(loaded, verb)) for verb in loaded.verbs)


def test_a_verb_of_other_models_is_refused_naming_those_there_are():
    tokenizer = kind("word")
    loaded = LanguageModel(gpt(tokenizer.size), tokenizer)
    with pytest.raises(MissingVerb, match=r"wander asked of a model that reads from left to right: .*next.*generate"):
        loaded.wander()
    with pytest.raises(ConfigError, match="generate asked of a blind model: its verbs are wander"):
        Blind(None, tokenizer).generate("el")
    assert not hasattr(Blind(None, tokenizer), "generate")


def test_verbs_of_kinds_that_nobody_imported_are_known_too():
    code = (
        "import sys; from vocablo.inference.verbs import Asked\n"
        "class One(Asked): what = 'one'\n"
        "assert 'vocablo.inference.encoder' not in sys.modules\n"
        "for verb in ('fill', 'perplexity', 'predict_file'):\n"
        "    try: getattr(One(None, None), verb)\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = [f"MissingVerb {verb} asked of one" for verb in ("fill", "perplexity", "predict_file")]
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == told


def test_every_file_of_the_room_with_something_to_ask_is_named():
    files = sorted(Path(verbs.__file__).parent.glob("*.py"))
    assert {file.stem for file in files if "(Asked):" in file.read_text(encoding="utf-8")} == set(verbs.WAYS)


def test_what_no_model_has_is_an_ordinary_error():
    with pytest.raises(AttributeError, match="no attribute 'dance'"):
        Blind(None, kind("word")).dance()


def test_a_verb_that_this_very_model_lacks_says_what_it_needs():
    blind = Blind(None, kind("word"))
    assert blind.verbs == ("wander",)
    with pytest.raises(MissingVerb, match="grope needs a model with hands: the verbs of this model are wander"):
        blind.grope()

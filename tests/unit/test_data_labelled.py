"""Labelled data in its native formats and in one's own tables: what is read, what is written, and what is refused."""

import json
from collections import Counter
from pathlib import Path

import pytest

from vocablo.base.errors import ConfigError, DataError
from vocablo.data import conll, glue, labels, squad, swag, tables, tags
from vocablo.data.examples import Answer, ChoiceExample, SpanExample, TaggedExample, TextExample
from vocablo.data.tables import Columns
from vocablo.measures.spans import spans

SHARED = Path(__file__).parents[3] / "shared" / "data"


def put(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


# One's own tables


def test_a_table_of_texts_with_all_that_csv_allows(tmp_path):
    content = 'id,texto,clase\r\n7,"uno, ""dos""\r\ny tres",sí\r\n9,¿cuatro?,no\r\n'
    path = put(tmp_path, "a.csv", content, "utf-8-sig")
    assert tables.read_texts(path, Columns("texto", label="clase", id="id")) == [
        TextExample("7", 'uno, "dos"\ny tres', None, "sí"),
        TextExample("9", "¿cuatro?", None, "no"),
    ]
    assert [one.id for one in tables.read_texts(path, Columns("texto", label=None))] == ["0", "1"]
    rows = put(
        tmp_path, "a.jsonl", '{"a": "x", "b": "y", "score": 2, "k": 0}\n{"a": "z", "b": "w", "score": 0.5, "k": 1}\n'
    )
    assert tables.read_texts(rows, Columns("a", "b", "score"), kind="number") == [
        TextExample("0", "x", "y", 2.0),
        TextExample("1", "z", "w", 0.5),
    ]
    assert [one.label for one in tables.read_texts(rows, Columns("a", label="k"))] == ["0", "1"]
    assert [one.text for one in tables.read_texts(put(tmp_path, "b.csv", "text\nnan\nNaN\n"), Columns(label=None))] == [
        "nan",
        "NaN",
    ]


def test_sets_of_labels(tmp_path):
    path = put(tmp_path, "a.tsv", "text\tlabel\nuno\tsol|mar\ndos\t\ntres\tsol\n")
    assert [one.label for one in tables.read_texts(path, kind="labels")] == [("sol", "mar"), (), ("sol",)]
    path = put(tmp_path, "a.jsonl", '{"text": "uno", "label": ["a", "b"]}\n{"text": "dos", "label": []}\n')
    assert [one.label for one in tables.read_texts(path, kind="labels")] == [("a", "b"), ()]


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("a.csv", "texto,label\na,b\n", "class", "no column 'text'; did you mean 'texto'.*Known: label, texto"),
        ("a.csv", "text,label\na,b\n,c\n \t,d\n", "class", "2 rows have nothing in column 'text', the first on line 3"),
        ("a.csv", "text,label\na,\n", "class", "a row has nothing in column 'label', the first on line 2"),
        ("a.csv", "text,label\na,nan\nb,1\n", "class", "nothing in column 'label'"),
        ("a.csv", "text,label\na,NaN\nb,1\n", "number", "nothing in column 'label'"),
        ("a.csv", "text,label\na,inf\n", "number", "line 2: column 'label' should be a finite number, is 'inf'"),
        ("a.csv", "text,label\na,good\n", "number", "should be a finite number, is 'good'"),
        ("a.csv", "text,label\na,b,c\n", "class", "line 2: 3 fields, and the header has 2: .* quotes"),
        ("a.csv", "text,label\na\n", "class", "line 2: 1 fields, and the header has 2"),
        ("a.csv", "text,text\na,b\n", "class", "two columns 'text'"),
        ("a.csv", "text,label\n", "class", "no examples"),
        ("a.csv", "", "class", "no examples"),
        ("a.csv", 'text,label\n"a,b\n', "class", "not valid csv"),
        ("a.tsv", 'text\tlabel\na\tb\n"a" b\tc\n', "class", "line 3: not valid tsv: .*; a field with quotes in it"),
        ("a.jsonl", '{"text": "a", "label": "b"}\n{"text": "c"}\n', "class", "line 2, has no column 'label'"),
        ("a.jsonl", '{"text": "a", "label": NaN}\n', "class", "nothing in column 'label'"),
        ("a.jsonl", '{"text": "a", "label": 0.5}\n', "class", "should be text or a whole number, is 0.5"),
        ("a.jsonl", '{"text": ["a"], "label": "b"}\n', "class", "should be text, is"),
        ("a.jsonl", '{"text": "a", "label": null}\n', "labels", "nothing in column 'label'"),
        ("a.jsonl", '{"text": "a", "label": [1]}\n', "labels", "should be a list of labels"),
        ("a.txt", "text,label\na,b\n", "class", "no table that can be told by its name: .csv"),
    ],
)
def test_tables_that_are_refused(tmp_path, name, content, kind, message):
    with pytest.raises(DataError, match=message):
        tables.read_texts(put(tmp_path, name, content), kind=kind)


def test_other_refusals_of_tables(tmp_path):
    path = put(tmp_path, "a.csv", "id,text,label\n1,a,x\n1,b,y\n")
    with pytest.raises(DataError, match="id '1' twice"):
        tables.read_texts(path, Columns(id="id"))
    with pytest.raises(ConfigError, match="'number'"):
        tables.read_texts(path, kind="numbers")
    with pytest.raises(DataError, match="is a folder"):
        tables.read_texts(tmp_path)
    latin = put(tmp_path, "b.csv", "text,label\nniño,a\n", "latin-1")
    with pytest.raises(DataError, match="--encoding latin-1"):
        tables.read_texts(latin)
    assert tables.read_texts(latin, encoding="latin-1")[0].text == "niño"


def test_label_sets(tmp_path):
    make = lambda *names: [TextExample(str(i), "x", None, name) for i, name in enumerate(names)]  # noqa: E731
    assert labels.label_set(make("10", "2", "1", "2"), "train.csv") == ("1", "2", "10")
    assert labels.label_set(make("b", "a"), "train.csv") == ("a", "b")
    assert labels.label_set(make(("x", "y"), (), ("y",)), "train.csv") == ("x", "y")
    with pytest.raises(DataError, match=r"train.csv has only 'a' as a label: .* two classes"):
        labels.label_set(make("a", "a"), "train.csv")
    with pytest.raises(DataError, match="example 1 has no label"):
        labels.label_set(make("a", None), "train.csv")
    with pytest.raises(DataError, match=r"dev.csv has the label 'goood', 2 times \(and 1 more unknown\).*'good'"):
        labels.check_known(make("good", "goood", "goood", "odd"), ["bad", "good"], "dev.csv")
    labels.check_known(make("good", None), ["bad", "good"], "dev.csv")
    with pytest.raises(DataError, match=r"\(no, yes\): it has maybe besides and lacks no\."):
        labels.check_same(["yes", "maybe"], ["no", "yes"], "train.csv")
    sentence = TaggedExample("0", ("a", "b", "c"), ("B-PER", "O", "B-LOC"))
    assert labels.tag_set([sentence], "x") == ("O", "B-LOC", "B-PER")
    with pytest.raises(DataError, match="sentence 0 has no tags"):
        labels.tag_set([TaggedExample("0", ("a",))], "x")
    with pytest.raises(DataError, match="only 'O' tags"):
        labels.tag_set([TaggedExample("0", ("a",), ("O",))], "x")
    with pytest.raises(DataError, match="'B-ORG', 1 times, which"):
        labels.check_known([TaggedExample("0", ("a",), ("B-ORG",))], ["O", "B-LOC"], "dev")


def test_tagged_and_choices_as_tables(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"tokens": ["Ana", "va"], "tags": ["S-PER", "O"]}\n')
    assert tables.read_tagged(path) == [TaggedExample("0", ("Ana", "va"), ("B-PER", "O"))]
    assert tables.read_tagged(path, tags=None) == [TaggedExample("0", ("Ana", "va"))]
    with pytest.raises(DataError, match="line 2: 2 words and 1 tags"):
        tables.read_tagged(put(tmp_path, "b.jsonl", path.read_text() + '{"tokens": ["a", "b"], "tags": ["O"]}\n'))
    with pytest.raises(DataError, match="line 2: 'PER' isn't a tag of spans"):
        tables.read_tagged(put(tmp_path, "b.jsonl", path.read_text() + '{"tokens": ["a"], "tags": ["PER"]}\n'))
    path = put(tmp_path, "c.csv", "q,a,b,c,label\n¿2+2?,3,4,5,1\n")
    assert tables.read_choices(path, text="q", choices=["a", "b", "c"]) == [
        ChoiceExample("0", "¿2+2?", "", ("3", "4", "5"), 1)
    ]
    with pytest.raises(DataError, match="should be a list of choices, is '3'"):
        tables.read_choices(path, text="q", choices=["a"])
    with pytest.raises(DataError, match="label 1 is none"):
        tables.read_choices(put(tmp_path, "c.jsonl", '{"q": "x", "o": ["y"], "label": 1}\n'), text="q", choices=["o"])


# GLUE


GLUE = {  # task -> a labelled file, a test file
    "CoLA": ('gj04\t1\t\tHe said "no.\ngj04\t0\t*\tThey "goes" on\n', "index\tsentence\n0\tIt's.\n"),
    "sst-2": ("sentence\tlabel\nit 's good \t1\n\" bad\t0\n", "index\tsentence\n0\tfine\n"),
    "MRPC": (
        '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\tA " b\tB\n0\t3\t4\tC\tD\n',
        "\ufeffindex\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\tA\tB\n",
    ),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "0\tg\tf\t2012\t0001\tnone\tnone\tA\tB\t5.000\n1\tg\tf\t2012\t0001\tnone\tnone\tC\tD\t0.25\n",
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\n0\tg\tf\ty\to\tn\tn\tA\tB\n",
    ),
    "QQP": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n5\t1\t2\tA?\tB?\t1\n6\t1\t2\tC?\tD?\t0\n",
        "id\tquestion1\tquestion2\n0\tA?\tB?\n",
    ),
    "mnli": (
        "index\tpromptID\tpairID\tgenre\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label\n"
        "0\t1\t1n\tx\t( A )\t( B )\tA\tB\tneutral\tneutral\n1\t1\t1e\tx\t( C )\t( D )\tC\tD\tneutral\tentailment\n",
        "index\tpromptID\tpairID\tgenre\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2\n0\t1\t1\tx\tp\tp\tA\tB\n",
    ),
    "QNLI": (
        "index\tquestion\tsentence\tlabel\n0\tA?\tB\tentailment\n1\tC?\tD\tnot_entailment\n",
        "index\tquestion\tsentence\n0\tA?\tB\n",
    ),
    "RTE": (
        "index\tsentence1\tsentence2\tlabel\n0\tA\tB\tnot_entailment\n1\tC\tD\tentailment\n",
        "index\tsentence1\tsentence2\n0\tA\tB\n",
    ),
    "WNLI": ("index\tsentence1\tsentence2\tlabel\n0\tA\tB\t1\n1\tC\tD\t0\n", "index\tsentence1\tsentence2\n0\tA\tB\n"),
}


@pytest.mark.parametrize("name", GLUE)
def test_glue_tasks_in_their_own_files(tmp_path, name):
    task = glue.task(name)
    examples = glue.read(task, put(tmp_path, "dev.tsv", GLUE[name][0]), notes=pytest.fail)
    assert [one.id for one in examples] == ["0", "1"]
    assert len({one.label for one in examples}) == 2
    assert all((one.pair is None) == (len(task.texts) == 1) for one in examples)
    test = glue.read(task, put(tmp_path, "test.tsv", GLUE[name][1]), notes=pytest.fail)
    assert [(one.id, one.label) for one in test] == [("0", None)]
    answers = [one.label for one in examples]
    glue.write_submission(tmp_path / "out.tsv", task, examples, answers)
    assert (tmp_path / "out.tsv").read_text().startswith("index\tprediction\n0\t")
    assert glue.read_submission(task, tmp_path / "out.tsv") == {"0": answers[0], "1": answers[1]}


def test_quotes_in_glue_are_characters(tmp_path):
    texts = [one.text for one in glue.read(glue.task("cola"), put(tmp_path, "a.tsv", GLUE["CoLA"][0]))]
    assert texts == ['He said "no.', 'They "goes" on']
    assert glue.read(glue.task("sst2"), put(tmp_path, "a.tsv", GLUE["sst-2"][0]))[0].text == "it 's good "


def test_the_original_files_of_stsb(tmp_path):
    rows = "main\tMSRvid\t2012\t0024\t2.500\tA\tB\nmain\tMSRvid\t2012\t0025\t3\tC\tD\tlicence\tmore\n"
    examples = glue.read(glue.task("sts-b"), put(tmp_path, "sts-test.tsv", rows))
    assert examples == [TextExample("0", "A", "B", 2.5), TextExample("1", "C", "D", 3.0)]


def test_broken_rows_of_qqp_are_left_out_and_told(tmp_path):
    path = put(tmp_path, "train.tsv", GLUE["QQP"][0] + "7\t1\t2\tE?\n8\t1\t2\tF?\tG?\t1\n")
    told = []
    examples = glue.read(glue.task("qqp"), path, notes=told.append)
    assert [(one.id, one.text) for one in examples] == [("0", "A?"), ("1", "C?"), ("3", "F?")]
    assert told == [f"{path}: 1 rows without 6 fields are left out, the first is line 4"]


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("sst2", GLUE["RTE"][0], "no column 'sentence', which SST-2 has; did you mean 'sentence"),
        ("rte", GLUE["WNLI"][0], "line 2: RTE has no label '1'. Known: entailment, not_entailment"),
        ("stsb", GLUE["stsb"][0].replace("5.000", "nan"), "line 2: STS-B wants a finite number, not 'nan'"),
        ("cola", "gj04\t2\t\tHi.\n", "line 1: CoLA has no label '2'"),
        ("rte", GLUE["RTE"][0].replace("A\tB", "A\t "), "line 2: nothing in column 'sentence2'"),
        ("rte", GLUE["RTE"][0].replace("\n1\t", "\n0\t"), "id '0' twice"),
        ("rte", "index\tsentence1\tsentence2\tlabel\n", "no examples"),
        ("rte", "", "empty"),
    ],
)
def test_glue_files_that_are_refused(tmp_path, task, content, message):
    with pytest.raises(DataError, match=message):
        glue.read(glue.task(task), put(tmp_path, "dev.tsv", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id\tlabel\n0\t1\n", "index<TAB>prediction"),
        ("index\tprediction\n0\tyes\n", "line 2: RTE has no label 'yes'"),
        ("index\tprediction\n0\tentailment\n0\tentailment\n", "line 3: the index '0' stands twice"),
        ("index\tprediction\n0 entailment\n", "line 2: two fields"),
    ],
)
def test_submissions_that_are_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        glue.read_submission(glue.task("rte"), put(tmp_path, "a.tsv", content))


def test_wrong_predictions_are_not_written(tmp_path):
    examples = [TextExample("0", "A", "B")]
    with pytest.raises(DataError, match="1 examples and 2 predictions"):
        glue.write_submission(tmp_path / "a.tsv", glue.task("rte"), examples, ["entailment"] * 2)
    with pytest.raises(DataError, match="RTE has no label '1'"):
        glue.write_submission(tmp_path / "a.tsv", glue.task("rte"), examples, ["1"])
    with pytest.raises(ConfigError, match="did you mean 'mrpc'"):
        glue.task("mrcp")
    assert not list(tmp_path.iterdir())


# SQuAD


def article(*questions, context="El gato come y el gato duerme."):
    return {"version": "x", "data": [{"title": "T", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


def question(name="q", start=3, text="gato", **more):
    return {"id": name, "question": "¿Quién?", "answers": [{"text": text, "answer_start": start}], **more}


def read_squad(folder, data, **options):
    return squad.read(put(folder, "a.json", json.dumps(data)), **options)


def test_squad_of_both_versions(tmp_path):
    examples, version = read_squad(tmp_path, article(question()), notes=pytest.fail)
    context = "El gato come y el gato duerme."
    assert (examples, version) == ([SpanExample("q", "¿Quién?", context, (Answer("gato", 3),), False, "T")], "1.1")
    none = {"id": "r", "question": "¿?", "answers": [], "is_impossible": True, "plausible_answers": [{"text": "x"}]}
    examples, version = read_squad(tmp_path, article(question(is_impossible=False), none))
    assert version == "2.0"
    assert (examples[1].impossible, examples[1].answers) == (True, ())
    examples, _ = read_squad(tmp_path, article({"id": 3, "question": "¿?"}))
    assert (examples[0].id, examples[0].answers) == ("3", None)


@pytest.mark.parametrize(
    ("given", "start", "note"),
    [
        (question(start=17), 18, "1 answers don't stand at their answer_start"),
        (question(start=None), 3, "1 answers have no answer_start"),
        (question(start=18, answer_start_is_first_of_several=True), 18, None),
    ],
)
def test_starts_that_are_doubtful(tmp_path, given, start, note):
    told = []
    examples, _ = read_squad(tmp_path, article(given), notes=told.append)
    assert examples[0].answers == (Answer("gato", start),)
    assert note is None or note in told[0]
    examples, _ = read_squad(tmp_path, article(given), notes=pytest.fail, training=False)
    assert examples[0].answers[0].start == given["answers"][0]["answer_start"]


def test_guessed_starts_and_empty_answers_are_told(tmp_path):
    one = question()
    one["answers"] = [
        {"text": "gato", "answer_start": 3, "answer_start_is_first_of_several": True},
        {"text": "", "answer_start": -1},
    ]
    told = []
    examples, _ = read_squad(tmp_path, article(one), notes=told.append)
    assert examples[0].answers == (Answer("gato", 3),)
    assert any("1 empty answers" in note for note in told)
    assert any("first of several places" in note for note in told)


def test_an_id_that_stands_twice(tmp_path):
    told = []
    examples, _ = read_squad(tmp_path, article(question(), question(), question("r")), notes=told.append)
    assert [one.id for one in examples] == ["q", "q#2", "r"]
    assert "1 questions have the id of one before" in told[0]
    with pytest.raises(DataError, match="id 'q' twice"):
        read_squad(tmp_path, article(question(), question()), training=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (article(question(text="perro")), "question 'q': its context doesn't have the answer 'perro'"),
        (article(question(text=" ")), "no answer that isn't empty"),
        (article({"id": "q", "question": "¿?", "answers": []}), "no answer that isn't empty"),
        (article({"id": "q", "question": "¿?", "answers": "gato"}), "answers are objects"),
        (article({"question": "¿?"}), "article 0: not as SQuAD has it: no key 'id'"),
        (article({"id": "q", "question": 3}), "are texts"),
        (article(), "no examples"),
        ([], "isn't SQuAD's JSON"),
        ({"data": [1]}, "article 0: not as SQuAD has it"),
    ],
)
def test_squad_that_is_refused(tmp_path, data, message):
    with pytest.raises(DataError, match=message):
        read_squad(tmp_path, data)


def test_predictions_of_squad(tmp_path):
    squad.write_predictions(tmp_path / "p.json", {"a": "niño", "b": ""})
    assert squad.read_predictions(tmp_path / "p.json") == {"a": "niño", "b": ""}
    assert "niño" in (tmp_path / "p.json").read_text(encoding="utf-8")
    squad.write_predictions(tmp_path / "n.json", {"a": 0.25})
    assert squad.read_no_answer(tmp_path / "n.json") == {"a": 0.25}
    for content, message in (
        ('["a"]', "isn't a file of predictions"),
        ('{"a": 3}', "'a' should have an answer, which is text, not 3"),
        ('{"a": "x", "a": "y"}', "id 'a' twice"),
        ("{", "isn't valid JSON"),
    ):
        with pytest.raises(DataError, match=message):
            squad.read_predictions(put(tmp_path, "p.json", content))


# Choices


SWAG = ",video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3"


def test_swag_and_codah(tmp_path):
    rows = f'{SWAG},label\n0,v,1,"He sits, she","He sits,",she,gold,"stands, up.",sits.,goes.,"says ""no"".",3\n'
    assert swag.read(put(tmp_path, "val.csv", rows)) == [
        ChoiceExample("0", "He sits,", "she", ("stands, up.", "sits.", "goes.", 'says "no".'), 3)
    ]
    test = f"{SWAG}\n0,v,1,x,A.,She,gold,a,b,c,d\n"
    assert swag.read(put(tmp_path, "test.csv", test))[0].label is None
    codah = 'o\tI say "go. I\ta\tb "\tc\td\t2\n'
    assert swag.read(put(tmp_path, "full.tsv", codah)) == [
        ChoiceExample("0", 'I say "go. I', "", ("a", 'b "', "c", "d"), 2)
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", f"{SWAG},label\n0,v,1,x,A.,She,gold,a,b,c,d,4\n", "line 2: the label '4' is none of 0 to 3"),
        ("a.csv", f"{SWAG},label\n0,v,1,x,A.,She,gold,a,,c,d,1\n", "line 2: sent1 and the endings can't be empty"),
        ("a.csv", "video-id,distractor-0\n1,2\n", "no column 'sent1'.*train_full.csv"),
        ("a.tsv", "o\tp\ta\tb\tc\td\t1\no\tp\ta\tb\tc\n", "line 2: CODAH has 7 fields"),
        ("a.tsv", "o\tp\ta\tb\tc\td\tx\n", "line 1: the label 'x'"),
        ("a.csv", "", "no examples"),
    ],
)
def test_choices_that_are_refused(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        swag.read(put(tmp_path, name, content))


def test_predictions_of_choices(tmp_path):
    examples = [ChoiceExample(str(i), "x", "", ("a", "b", "c"), 0) for i in range(3)]
    swag.write_predictions(tmp_path / "p.tsv", examples, [2, 0, 1])
    assert swag.read_predictions(tmp_path / "p.tsv", examples) == [2, 0, 1]
    assert swag.read_predictions(put(tmp_path, "p.txt", "2\n0\n1\n"), examples) == [2, 0, 1]
    for content, message in (
        ("2\n0\n", "2 predictions and there are 3"),
        ("2\n0\n3\n", "example 2: the label '3'"),
        ("index\tprediction\n0\t1\n2\t1\n", "lacks 1 of 3 examples, the first is 1"),
        ("index\tprediction\n0\t1\n0\t1\n", "index twice"),
        ("index\tprediction\n0\n", "line 2: two fields"),
        ("index\tprediction\n" + "".join(f"{i}\t1\n" for i in range(4)), "4 predictions and there are 3"),
    ):
        with pytest.raises(DataError, match=message):
            swag.read_predictions(put(tmp_path, "p.tsv", content), examples)


# Columns


def test_columns_in_every_scheme(tmp_path):
    text = "-DOCSTART- -X- O\n\nAna NP {0}\nLuz NP {1}\nva V O\n\nRío NP {2}\n\n-DOCSTART- -X- O\n\nLa D O\nHabana NP {3}\n"
    schemes = {
        "IOB1": ("I-PER", "B-PER", "I-LOC", "I-LOC"),
        "IOB2": ("B-PER", "B-PER", "B-LOC", "B-LOC"),
        "IOBES": ("S-PER", "S-PER", "S-LOC", "S-LOC"),
    }
    expected = [
        TaggedExample("0", ("Ana", "Luz", "va"), ("B-PER", "B-PER", "O"), 0),
        TaggedExample("1", ("Río",), ("B-LOC",), 0),
        TaggedExample("2", ("La", "Habana"), ("O", "B-LOC"), 1),
    ]
    for scheme, marks in schemes.items():
        assert conll.read(put(tmp_path, "a.txt", text.format(*marks))) == expected
        conll.write(tmp_path / "b.txt", expected, scheme=scheme)
        assert (tmp_path / "b.txt").read_text().split() == text.replace(" NP", "").replace(" V", "").replace(
            " D ", " "
        ).replace(" -X-", "").format(*marks).split()
        assert conll.read(tmp_path / "b.txt") == expected
    assert conll.read(tmp_path / "a.txt", tag=1)[0].tags == ("NP", "NP", "V")
    assert conll.read(tmp_path / "a.txt", tag=None)[0].tags is None


def test_tabs_blanks_and_spaces_within_words(tmp_path):
    content = "@paul\xa0walk\tB-person\nEl\u2028\tO\n\t\n\r\n's\tO\r\n"
    assert conll.read(put(tmp_path, "a.conll", content)) == [
        TaggedExample("0", ("@paul\xa0walk", "El\u2028"), ("B-person", "O")),
        TaggedExample("1", ("'s",), ("O",)),
    ]


def test_universal_dependencies(tmp_path):
    row = lambda *fields: "\t".join([*fields, *["_"] * (10 - len(fields))]) + "\n"  # noqa: E731
    content = (
        "# newdoc id = a\n# text = Vámonos al\n"
        + row("1-2", "Vámonos")
        + row("1", "Vamos", "ir", "VERB", "VV")
        + row("2", "nos", "yo", "PRON", "PP")
        + row("2.1", "x", "x", "X")
        + "\n# sent_id = 2\n"
        + row("1", "#", "#", "SYM", "S")
        + "\n# newdoc id = b\n"
        + row("1", "B-1", "b", "NOUN", "N")
        + "\n"
    )
    path = put(tmp_path, "a.conllu", content)
    assert conll.read(path) == [
        TaggedExample("0", ("Vamos", "nos"), ("VERB", "PRON"), 0),
        TaggedExample("1", ("#",), ("SYM",), 0),
        TaggedExample("2", ("B-1",), ("NOUN",), 1),
    ]
    assert conll.read(path, tag="xpos")[0].tags == ("VV", "PP")
    with pytest.raises(ConfigError, match="did you mean 'xpos'"):
        conll.read(path, tag="pos")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a O\nb\n", {}, "line 2: 2 fields are wanted as on other lines"),
        ("a O\nb O O\n", {}, "line 2: 2 fields"),
        ("\tO\n", {}, "line 1: 2 fields are wanted as on other lines, none empty"),
        ("a O\n", {"tag": 3}, "2 columns, and column 3"),
        ("a B-PER\n\nx O\nb PER\n", {}, "line 4: 'PER' isn't a tag of spans"),
        ("\n\n", {}, "no examples"),
    ],
)
def test_columns_that_are_refused(tmp_path, content, options, message):
    with pytest.raises(DataError, match=message):
        conll.read(put(tmp_path, "a.txt", content), **options)


def test_other_refusals_of_columns(tmp_path):
    path = put(tmp_path, "a.txt", "a O\n")
    with pytest.raises(ConfigError, match="columns of CoNLL are places"):
        conll.read(path, tag="upos")
    one = [TaggedExample("0", ("a", "b"), ("O", "O"))]
    with pytest.raises(DataError, match="2 words and 1 tags"):
        conll.write(tmp_path / "b.txt", one, [["O"]])
    with pytest.raises(DataError, match="1 sentences and 2 predictions"):
        conll.write(tmp_path / "b.txt", one, [["O", "O"]] * 2)
    with pytest.raises(ConfigError, match="'IOB2'"):
        tags.convert(["B-X"], "BIO2")


def test_predictions_stand_beside_the_true_tags(tmp_path):
    conll.write(tmp_path / "a.txt", [TaggedExample("0", ("a", "b"), ("B-X", "O"))], [("I-X", "I-X")])
    assert (tmp_path / "a.txt").read_text() == "a B-X B-X\nb O I-X\n\n"
    conll.write(tmp_path / "a.txt", [TaggedExample("0", ("a", "b"), ("DET", "NOUN"))], [("NOUN", "NOUN")])
    assert (tmp_path / "a.txt").read_text() == "a DET NOUN\nb NOUN NOUN\n\n"


# The real files


@pytest.mark.skipif(not (SHARED / "conll2002_es").exists(), reason="needs CoNLL-2002's Spanish files")
@pytest.mark.parametrize(("name", "sentences", "count"), [("testa", 1915, 4352), ("testb", 1517, 3559)])
def test_spanish_entities_are_as_many_as_the_shared_task_has(name, sentences, count):
    examples = conll.read(SHARED / "conll2002_es" / f"esp.{name}")
    assert (len(examples), sum(len(spans(one.tags)) for one in examples)) == (sentences, count)
    found = Counter(span.type for one in examples for span in spans(one.tags))
    assert set(found) == {"LOC", "MISC", "ORG", "PER"}


@pytest.mark.skipif(not (SHARED / "wnut17").exists(), reason="needs WNUT-17")
@pytest.mark.parametrize(
    ("name", "sentences", "count"), [("wnut17train.conll", 3394, 1975), ("emerging.test.annotated", 1287, 1079)]
)
def test_wnut_has_its_counts(name, sentences, count):
    examples = conll.read(SHARED / "wnut17" / name)
    assert (len(examples), sum(len(spans(one.tags)) for one in examples)) == (sentences, count)


@pytest.mark.skipif(not (SHARED / "glue").exists(), reason="needs GLUE's files")
@pytest.mark.parametrize(
    ("name", "split", "count"),
    [("cola", "dev", 1043), ("sst2", "dev", 872), ("mrpc", "dev", 408), ("rte", "test", 3000), ("stsb", "dev", 1500)],
)
def test_glue_has_its_counts(name, split, count):
    task = glue.task(name)
    examples = glue.read(task, SHARED / "glue" / (task.folder or task.name) / f"{split}.tsv", notes=pytest.fail)
    assert len(examples) == count
    assert all((one.label is None) == (split == "test") for one in examples)

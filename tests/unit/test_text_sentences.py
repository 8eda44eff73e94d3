"""Sentences of Spanish and English, by cases; each list joined with spaces must come apart again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocablo.text.sentences import sentence_starts, split_sentences

CASES = [
    ["El Sr. Pérez llegó.", "La Sra. López no.", "El Dr. Juan y la Dra. Ana comen."],
    ["¿Vienes?", "¡Claro!", "¿Y tú?", "No."],
    ["Vive en EE. UU. desde 1990.", "Compró pan, vino, etc. y se fue.", "Compró pan, etc.", "Luego salió."],
    ["Pesa 3.5 kilos y cuesta 1.000 euros.", "Nada más."],
    ["Dudó... y siguió.", "Esperó…", "Nadie vino."],
    ["J. L. Borges escribió mucho.", "Leímos a G. García Márquez."],
    ["«No quiero ir.»", "Ella calló.", "“Ven.”", "(Era tarde.)", "Fin."],
    ["¡Ay! dijo ella.", "¿Quién va? preguntó el guardia.", "—Yo —dijo.", "—¿Tú?", "—Sí."],
    ["Véase la pág. 12 y el núm. 5 del vol. 3.", "Art. 4 de la ley."],
    ["Mr. Smith met Dr. Jones at St. James, e.g. on Monday.", "They left."],
    ["¿Pero qué dices?!", "¡¿Cómo?!", "Ya."],
    ["Nació en 1547.", "Murió en 1616.", "2020 fue raro."],
    ["Érase una vez.", "Ñoño es.", "Ávila está lejos."],
    [
        "Nació en el s. XIX.",
        "Roma cayó en el s. V d. C. y no antes.",
        "Murió en 44 a. J. C. el César.",
        "Iba a.",
        "Clara no.",
    ],
    ["—¿Quién es? —preguntó Juan.", "—Yo —contestó—.", "Abre.", "—Ven, Dña. Ana, que el Lcdo. Ruiz espera."],
    ["Llegó a las 5 p. m. y comió.", "Iba a 20 km/h."],
]


@pytest.mark.parametrize("sentences", CASES, ids=lambda case: case[0][:20])
def test_cases(sentences):
    text = " ".join(sentences)
    assert [text[start:stop].strip() for start, stop in split_sentences(text)] == sentences


def test_blank_lines_and_line_breaks():
    text = "Capítulo I\n\nEn un lugar\nde la Mancha, de cuyo nombre.\nNo quiero acordarme\n \nFin"
    parts = [text[start:stop].strip() for start, stop in split_sentences(text)]
    expected = ["Capítulo I", "En un lugar\nde la Mancha, de cuyo nombre.", "No quiero acordarme", "Fin"]
    assert parts == expected


@pytest.mark.parametrize("blank", ["\n\n", " \n \n", "\n\n\n\n"])
def test_blank_lines_before_the_first_sentence_end_none(blank):
    assert sentence_starts(f"{blank}Uno. Dos.") == [0, len(blank) + 5]


def test_list_items():
    text = "Temas:\n1. Primero.\n2. Segundo."
    assert [text[start:stop].strip() for start, stop in split_sentences(text)] == ["Temas:\n1. Primero.", "2. Segundo."]


def test_empty():
    assert split_sentences("") == split_sentences(" \n\n ") == []


@given(st.text(alphabet="aB.!?…¿¡« »\n\"'—1Sr", max_size=80))
def test_spans_cover_the_text(text):
    spans = split_sentences(text)
    if not text.strip():
        assert spans == []
        return
    assert "".join(text[start:stop] for start, stop in spans) == text
    for start in sentence_starts(text)[1:]:
        assert not text[start].isspace()
        assert text[start - 1].isspace()

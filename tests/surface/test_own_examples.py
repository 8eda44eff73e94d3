"""The README's lines for a user's own examples run as they stand there, on a table of a few reviews."""

import csv
import re

import pytest
from test_documents import REPOSITORY, run

STARS = {"1": "The room was dirty, number {}.", "5": "The room was lovely, number {}."}


@pytest.mark.parametrize(
    ("readme", "train", "new", "column", "label", "out"),
    [
        ("README.md", "reviews.csv", "new-reviews.csv", "review", "stars", "predictions.csv"),
        ("README.es.md", "opiniones.csv", "nuevas.csv", "opinión", "nota", "predicciones.csv"),
    ],
)
def test_own_examples_as_the_readme_says(readme, train, new, column, label, out, tmp_path):
    text = (REPOSITORY / readme).read_text(encoding="utf-8")
    (lines,) = (code for code in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) if f"--train {train}" in code)
    rows = [(review.format(number), stars) for number in range(20) for stars, review in STARS.items()]
    with (tmp_path / train).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([(column, label), *rows])
    with (tmp_path / new).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([(column,), *((review,) for review, _ in rows[:3])])
    run(["bash", "-euc", lines], tmp_path)
    with (tmp_path / out).open(newline="", encoding="utf-8") as file:
        predictions = list(csv.reader(file))
    assert sum(set(STARS) & set(row) != set() for row in predictions) == 3

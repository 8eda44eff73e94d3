"""The commands of the README and the lecture pages run as they stand there, in order, in an empty folder; so does their Python."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted((REPOSITORY / "docs" / "lecture").glob("*/*.md"))
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.M | re.S)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def run(command: list[str], folder: Path) -> str:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    "page",
    [REPOSITORY / "README.es.md", *(page for page in PAGES if page.parent.name == "es")],
    ids=lambda page: page.stem,
)
def test_commands_run(page, tmp_path):
    found = blocks(page)
    assert found
    for language, code in found:
        if language == "python":
            run([sys.executable, "-c", code], tmp_path)
        else:
            run(["bash", "-euc", code], tmp_path)


def test_both_languages_have_the_same_pages_and_commands():
    assert blocks(REPOSITORY / "README.md") == blocks(REPOSITORY / "README.es.md")
    numbered = lambda language: {p.name.split("-")[0]: p for p in PAGES if p.parent.name == language}  # noqa: E731
    spanish, english = numbered("es"), numbered("en")
    assert spanish.keys() == english.keys()
    for key in spanish:
        strip = lambda page: [re.sub(r"otro|held-out|modelo|model", "", code) for _, code in blocks(page)]  # noqa: E731
        assert strip(spanish[key]) == strip(english[key]), f"page {key}"


@pytest.mark.parametrize(
    "page", [*PAGES, *REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")], ids=lambda page: page.name
)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} points to {target}"

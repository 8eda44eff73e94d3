"""For tests of the command line: run a command in this process, and say what a refusal looks like."""

import contextlib
import io
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vocablo.cli.main import main
from vocablo.data.grammar import Grammar

SMALL = "--size tiny context=16 train.batch=4 train.micro=4 model.stack.width=16 model.stack.layers=1 model.attention.heads=2"


def vocablo(*arguments: str, stdin: str = "") -> SimpleNamespace:
    """Run a command in this process; returns its exit code and what it wrote."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["vocablo", *arguments])
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as left:
            main()
    return SimpleNamespace(code=left.value.code or 0, out=out.getvalue(), err=err.getvalue())


def refused(done, *words, code=2, early=True):
    """One line that has all the words, nothing else (``early``: not even progress), and the exit code."""
    lines = done.err.splitlines()
    assert done.code == code, done.err
    assert sum(line.startswith("vocablo: ") for line in lines) == 1
    assert lines[-1].startswith("vocablo: ")
    assert "Traceback" not in done.err
    assert done.out == ""
    if early:
        assert len(lines) == 1, done.err
    for word in words:
        assert word in lines[-1]


@contextlib.contextmanager
def material(folder: Path) -> Iterator[None]:
    """Text good and bad, a Transformer and an n-gram in ``folder``, which is where commands run then."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("VOCABLO_MODEL", raising=False)
        text = "\n".join(islice(Grammar().text(0, 300), 300)) + "\n"
        Path("text.txt").write_text(text, encoding="utf-8")
        Path("latin1.txt").write_text(text, encoding="latin-1")
        Path("short.txt").write_text("hola que tal\n")
        Path("empty.txt").touch()
        Path("blank.txt").write_text(" \n\n")
        Path("noise.txt").write_bytes(bytes(range(128, 256)) * 4)
        Path("image.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
        Path("rows.csv").write_text("id,texto\n1,hola que tal\n")
        Path("rows.jsonl").write_text('{"texto": "hola"}\n')
        for name in ("hollow", "nothing"):
            Path(name).mkdir()
        Path("nothing/.hidden").touch()
        Path("full").mkdir()
        Path("full/poem.txt").write_text("verde que te quiero verde\n")
        done = vocablo(
            *f"pretrain gpt --text text.txt --out gpt {SMALL} --steps 3 tokenizer.vocab=300".split(), "--json"
        )
        assert done.code == 0, done.err
        done = vocablo(
            *[
                "pretrain",
                "ngram",
                "--text",
                "text.txt",
                "--documents",
                "line",
                "--out",
                "ngram",
                "--size",
                "mini",
                "--json",
            ]
        )
        assert done.code == 0, done.err
        yield
    torch.set_num_threads(threads)

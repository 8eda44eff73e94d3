"""The ground floor: settings that refuse, registries that list, streams that repeat, files that are whole or absent."""

import io
import os
from pathlib import Path

import pytest

from vocablo.base import config, files, progress, random, registry, results
from vocablo.base.errors import ConfigError, StorageError, nearest


class Inner(config.Settings):
    lr: float = 1e-3
    steps: int = 10


class Outer(config.Settings):
    train: Inner = Inner()
    name: str = "a"


def test_unknown_keys_are_refused_with_the_nearest_name_and_all_at_once():
    with pytest.raises(ConfigError) as error:
        config.build(Outer, {"train": {"lrr": 1.0, "steps": "muchos"}, "nombre": 1})
    message = str(error.value)
    assert "unknown key 'train.lrr'; did you mean 'lr'?" in message
    assert "train.steps" in message
    assert "'muchos'" in message
    assert "unknown key 'nombre'" in message


def test_layers_win_in_order_and_say_where_each_value_came_from():
    values, origin = config.merge(
        [
            ("default", {"train": {"lr": 1.0, "steps": 5}}),
            ("recipe", {"train": {"lr": 2.0}}),
            ("command line", config.overrides(["train.steps=7"])),
        ]
    )
    assert values == {"train": {"lr": 2.0, "steps": 7}}
    assert origin == {"train.lr": "recipe", "train.steps": "command line"}


@pytest.mark.parametrize(
    ("text", "value"),
    [("a.b=3e-4", 3e-4), ("a.b=true", True), ("a.b=hola", "hola"), ("a.b=[1, 2]", [1, 2]), ("a.b=", "")],
)
def test_overrides_are_toml_else_text(text, value):
    assert config.parse_override(text) == (["a", "b"], value)


def test_a_malformed_override_is_refused():
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        config.parse_override("train.lr")


def test_toml_goes_there_and_back(tmp_path):
    values = {
        "family": "gpt",
        "text": ["a ñ", 'b"c'],
        "train": {"lr": 3e-4, "on": True, "deep": {"x": 1}},
        "none": None,
    }
    path = tmp_path / "r.toml"
    path.write_text(config.to_toml(values, {"train.lr": "command line"}), encoding="utf-8")
    assert config.read_toml(path) == {key: value for key, value in values.items() if value is not None}
    assert "lr = 0.0003  # command line" in path.read_text(encoding="utf-8")


def test_a_registry_lists_files_and_reads_constants_without_importing(tmp_path, monkeypatch):
    package = tmp_path / "someroom"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text("TYPES = ('uno', 'dos')\nraise RuntimeError('imported')\n")
    (package / "_shared.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.names("someroom") == ("first",)
    assert registry.constant("someroom", "first", "TYPES") == ("uno", "dos")
    assert registry.owners("someroom", "TYPES") == {"uno": "first", "dos": "first"}
    with pytest.raises(ConfigError, match="did you mean 'first'"):
        registry.load("someroom", "frist")


def test_streams_repeat_and_differ():
    draw = lambda *parts: random.generator(0, *parts).random(4).tolist()  # noqa: E731
    assert draw("dropout", 1) == draw("dropout", 1)
    assert draw("dropout", 1) != draw("dropout", 2)
    assert draw("dropout", 12) != draw("dropout", 1, 2)
    assert 0 <= random.seed_for(3, "x") < 2**63


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "viejo")

    def interrupted() -> None:
        with files.replacing(path) as temporary:
            temporary.write_text("nuev")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert path.read_text() == "viejo"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_takes_the_place_of_another(tmp_path):
    folder = tmp_path / "model"
    for content in ("uno", "dos"):
        with files.replacing(folder) as temporary:
            temporary.mkdir()
            (temporary / "x").write_text(content)
    assert (folder / "x").read_text() == "dos"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_says_whatever_wrote_them(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with files.replacing(tmp_path / "model") as temporary:
            (temporary / "inner").mkdir(parents=True)
            for name, own in (("a", 0o600), ("inner/b", 0o644)):
                (temporary / name).touch()
                (temporary / name).chmod(own)
        files.write_text(tmp_path / "c.txt", "hola")
    finally:
        os.umask(before)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.name for path in written) == ["a", "b", "c.txt"]
    assert {path.stat().st_mode & 0o777 for path in written} == {mode}


def test_sweep_puts_back_what_a_killed_writer_had_moved_aside(tmp_path):
    aside = tmp_path / ".tmp-old-model"
    aside.mkdir()
    (aside / "x").write_text("uno")
    (tmp_path / ".tmp-99-model").mkdir()
    files.sweep(tmp_path)
    assert os.listdir(tmp_path) == ["model"]
    assert (tmp_path / "model" / "x").read_text() == "uno"


def test_a_full_disk_is_said_before_and_during(tmp_path):
    with pytest.raises(StorageError, match="free some space"):
        files.require_space(tmp_path, 2**60, "This run")
    if Path("/dev/full").exists():
        with (
            pytest.raises(StorageError, match="No space left"),
            files.storage_errors(tmp_path),
            open("/dev/full", "w") as full,
        ):
            full.write("x" * 100000)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("kind", "end"), [(Terminal, "\r\x1b[2K"), (io.StringIO, "\n")])
def test_passing_work_is_shown_where_it_takes_long_and_leaves_no_line_on_a_terminal(kind, end, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])

    def work(seconds):
        stream, now[0] = kind(), 0.0
        with progress.Progress("validate", 10, "tokens", passing=True, stream=stream) as shown:
            for _ in range(10):
                now[0] += seconds / 10
                shown.advance(1)
        return stream.getvalue()

    assert work(1.9) == ""
    text = work(10.0)
    assert "20% 2/10 tokens, 1 tokens/s, 8s left" in text, "the first line comes after two seconds"
    assert text.endswith(end)
    assert text.count("\n") == (0 if kind is Terminal else 2)


def test_nearest_offers_one_and_lists_all():
    assert nearest("smal", ["small", "tiny"]) == "; did you mean 'small'? Known: small, tiny"
    assert nearest("zzz", ["small", "tiny"]) == ". Known: small, tiny"


def test_a_result_and_its_json_have_the_same_names():
    import dataclasses

    @dataclasses.dataclass
    class Result:
        log_prob: float
        parts: tuple[float, ...]
        _hidden: int = 0

        @property
        def perplexity(self) -> float:
            return float("inf")

    assert results.as_json([Result(-1.5, (0.5,))]) == [{"log_prob": -1.5, "parts": [0.5], "perplexity": None}]

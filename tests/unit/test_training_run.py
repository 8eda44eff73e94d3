"""Runs: resumed ones end bit for bit like uninterrupted ones, and whatever goes wrong leaves a whole checkpoint."""

import dataclasses
import errno
import json
import os
import signal
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from training_stubs import Bag, Recurrent, StubStore, pretext
from vocablo.base.errors import CheckpointError, ConfigError, StorageError, TrainingError
from vocablo.base.files import require_space
from vocablo.training import run as runs
from vocablo.training import state
from vocablo.training import train as trains
from vocablo.training.run import Interrupted, RunFolder, find_damage, read_metrics
from vocablo.training.settings import TrainSettings
from vocablo.training.train import train
from vocablo.training.watchers import EarlyStop, Evaluate, Log, Report, Sample, Validation, Watcher, standard

HELD_OUT = StubStore.random(20, seed=9)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Killed(BaseException):
    """Stands for kill -9: nothing catches it and nothing tidies up (``bench/kill_resume.py`` kills real processes)."""


class KillAt(Watcher):
    def __init__(self, step):
        self.step = step

    def __call__(self, step):
        if step.step == self.step:
            raise Killed


class SignalAt(Watcher):
    def __init__(self, step, number):
        self.step, self.number = step, number

    def __call__(self, step):
        if step.step == self.step:
            os.kill(os.getpid(), self.number)


def settings(**changes):
    fixed = {"steps": 23, "batch": 8, "micro": 4, "lr": 0.02, "warmup": 3, "save_every": 5, "evaluate_every": 4}
    return TrainSettings(**(fixed | changes))


def go(out, *, kind=Bag, order="shuffled", extra=(), resume=False, store=None, watchers=None, seed=0, **changes):
    """One process's work on a run in ``out``; returns the result and the model."""
    chosen = settings(**changes)
    model = kind(dropout=0.2, seed=3 if resume else 0)  # a resumed run must not depend on how its model was made
    cut = pretext(store or StubStore.random(), order, batch=chosen.batch, micro=chosen.micro, seed=seed)
    run = RunFolder.open(out) if resume else RunFolder.create(out, {"train": chosen.model_dump()})
    watchers = list(standard(chosen, HELD_OUT, quiet=True)) if watchers is None else watchers
    return train(model, cut, chosen, run, [*watchers, *extra], resume=resume), model


def outcome(out):
    """All that has to be the same bit for bit: tensors of the last checkpoint and the metrics without their times."""
    run = RunFolder(out, writes=False)
    folder = run.path(run.checkpoints()[-1])
    tensors = {
        f"{path.name}/{name}": tensor
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in safetensors.torch.load_file(path).items()
    }
    timed = ("seconds", "tokens_per_second", "validation_seconds")
    lines = [{key: value for key, value in line.items() if key not in timed} for line in read_metrics(run.metrics)]
    return tensors, lines


def assert_same(one, other):
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    for name, tensor in one[0].items():
        assert tensor.dtype == other[0][name].dtype
        assert torch.equal(tensor, other[0][name]), name


CASES = [(Bag, "shuffled"), (Bag, "documents"), (Recurrent, "carried")]


@pytest.mark.parametrize(("kind", "order"), CASES)
def test_a_run_killed_at_any_step_ends_like_an_uninterrupted_one(tmp_path, kind, order):
    whole, _ = go(tmp_path / "whole", kind=kind, order=order)
    for step in (1, 7, 12, 23):
        out = tmp_path / f"killed-{step}"
        with pytest.raises(Killed):
            go(out, kind=kind, order=order, extra=[KillAt(step)])
        result, _ = go(out, kind=kind, order=order, resume=True)
        assert_same(outcome(tmp_path / "whole"), outcome(out))
        assert (result.steps, result.loss, result.best, result.stopped_by) == (
            whole.steps, whole.loss, whole.best, whole.stopped_by,
        )  # fmt: skip


@pytest.mark.parametrize(("kind", "order"), CASES)
def test_a_run_killed_several_times_too(tmp_path, kind, order):
    go(tmp_path / "whole", kind=kind, order=order, optimizer="sgd", schedule="zaremba", hold_epochs=1)
    for number, step in enumerate((3, 8, 9, 17)):
        with pytest.raises(Killed):
            go(
                tmp_path / "killed", kind=kind, order=order, extra=[KillAt(step)], resume=number > 0,
                optimizer="sgd", schedule="zaremba", hold_epochs=1,
            )  # fmt: skip
    go(
        tmp_path / "killed", kind=kind, order=order, resume=True,
        optimizer="sgd", schedule="zaremba", hold_epochs=1,
    )  # fmt: skip
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "killed"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_how_to_go_on_and_loses_nothing(tmp_path, number):
    go(tmp_path / "whole", kind=Recurrent, order="carried")
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"after step 7 of 23.*--resume") as error:
        go(tmp_path / "cut", kind=Recurrent, order="carried", extra=[SignalAt(7, number)])
    assert error.value.exit_code == 128 + number
    assert signal.getsignal(number) == before
    run = RunFolder.open(tmp_path / "cut")
    assert run.checkpoints()[-1] == 7
    assert run.read_state()["status"] == "interrupted"
    run.close()
    go(tmp_path / "cut", kind=Recurrent, order="carried", resume=True)
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "cut"))


def test_a_signal_at_the_last_step_finishes_the_run(tmp_path):
    result, _ = go(tmp_path, extra=[SignalAt(23, signal.SIGTERM)])
    assert result.steps == 23


def test_a_finished_run_resumed_is_finished_again(tmp_path):
    result, model = go(tmp_path)
    before = outcome(tmp_path)
    again, other = go(tmp_path, resume=True)
    assert again == result
    assert_same(before, outcome(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.fixture
def best_at_8(monkeypatch):
    """Evaluations whose losses fall until step 8 and rise afterwards."""

    def found(session, store, batches=None, quiet=True):
        loss = 2 + abs(session.trainer.done - 8) / 100
        return Validation(loss, {"causal": loss}, {}, 1, 1)

    monkeypatch.setattr("vocablo.training.watchers.validate", found)


def test_the_finished_model_is_the_best_one_and_checkpoints_are_kept_as_said(tmp_path, best_at_8):
    result, _ = go(tmp_path, keep=2, save_every=2)
    assert (result.best.step, result.best.loss) == (8, 2)
    run = RunFolder(tmp_path, writes=False)
    assert run.checkpoints() == [8, 22, 23]
    finished = safetensors.torch.load_file(tmp_path / "model.safetensors")
    kept = safetensors.torch.load_file(run.path(8) / "model.safetensors")
    last = safetensors.torch.load_file(run.path(23) / "model.safetensors")
    assert all(torch.equal(finished[name], kept[name]) for name in kept)
    assert not torch.equal(finished["head.weight"], last["head.weight"])
    assert not list(tmp_path.rglob(".tmp-*"))


def test_the_best_evaluation_is_saved_when_no_other_save_is_due(tmp_path, best_at_8):
    go(tmp_path, keep=1, save_every=23)
    assert RunFolder(tmp_path, writes=False).checkpoints() == [8, 23]


def test_validation_loss_is_the_mean_over_the_whole_held_out_part(tmp_path):
    result, model = go(tmp_path, kind=Recurrent, steps=4)
    model.eval()
    cut = pretext(HELD_OUT, context=8, batch=64)
    with torch.no_grad():
        batches = list(cut.validation(HELD_OUT))
        total = sum(float(cut.terms(model, batch, None)[0]["causal"].total) for batch in batches)
    assert result.best.loss == pytest.approx(total / len(HELD_OUT.tokens), rel=1e-6)


def test_early_stopping_counts_evaluations_also_over_an_interruption(tmp_path, best_at_8):
    whole, _ = go(tmp_path / "whole", patience=2)
    assert (whole.stopped_by, whole.steps, whole.best.step) == ("patience", 16, 8)
    with pytest.raises(Killed):
        go(tmp_path / "cut", patience=2, extra=[KillAt(13)])
    again, _ = go(tmp_path / "cut", patience=2, resume=True)
    assert again == dataclasses.replace(whole, seconds=again.seconds)
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "cut"))
    finished, _ = go(tmp_path / "cut", patience=2, resume=True)
    assert finished == again


def test_an_occupied_folder_is_refused(tmp_path):
    go(tmp_path / "run-1", steps=4)
    with pytest.raises(TrainingError, match="already holds a finished run: choose another folder"):
        go(tmp_path / "run-1", steps=4)
    state = tmp_path / "run-1" / "run" / "state.json"
    state.write_text(state.read_text().replace('"finished"', '"interrupted"'))
    with pytest.raises(TrainingError, match="already holds a run: give the same command with --resume"):
        go(tmp_path / "run-1", steps=4)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "poem.txt").write_text("verde que te quiero verde")
    with pytest.raises(TrainingError, match=r"other files \(poem.txt\)"):
        go(tmp_path / "notes")
    with pytest.raises(TrainingError, match="no run to resume"):
        go(tmp_path / "notes", resume=True)
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["poem.txt"]
    with pytest.raises(TrainingError, match="is a file"):
        go(tmp_path / "notes" / "poem.txt")


def test_two_processes_never_write_to_one_run(tmp_path):
    run = RunFolder.create(tmp_path, {})
    with pytest.raises(TrainingError, match="Another process"):
        RunFolder.open(tmp_path)
    run.close()
    RunFolder.open(tmp_path).close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.3}, r"train\.lr was 0.02 and is 0.3"),
        ({"dtype": "bf16"}, r"train\.dtype was 'fp32' and is 'bf16'"),
        ({"store": StubStore.random(seed=4)}, r"data\.tokens"),
        ({"seed": 8}, r"data\.seed was 0 and is 8"),
        ({"kind": Recurrent}, "parameters_crc32"),
        ({"order": "documents"}, r"data\.order"),
    ],
)
def test_another_run_is_not_a_resumed_one(tmp_path, changes, message):
    with pytest.raises(Killed):
        go(tmp_path, extra=[KillAt(8)])
    with pytest.raises(TrainingError, match=message):
        go(tmp_path, resume=True, **changes)


def test_another_tokenizer_is_another_run(tmp_path, monkeypatch):
    monkeypatch.setattr(state, "write_model", lambda *given: None)

    class Tokenizer:
        hash = "abc"

    cut, chosen = pretext(StubStore.random(), micro=4), settings(steps=4)
    train(Bag(), cut, chosen, RunFolder.create(tmp_path, {}), [], tokenizer=Tokenizer())
    Tokenizer.hash = "abd"
    with pytest.raises(TrainingError, match="tokenizer was 'abc' and is 'abd'"):
        train(Bag(), cut, chosen, RunFolder.open(tmp_path), [], tokenizer=Tokenizer(), resume=True)


def test_what_only_changes_bits_or_files_is_allowed(tmp_path):
    with pytest.raises(Killed):
        go(tmp_path, extra=[KillAt(8)])
    torch.set_num_threads(2)
    with pytest.warns(UserWarning, match=r"last bits.*machine\.threads was 1 and is 2"):
        result, _ = go(tmp_path, resume=True, save_every=3, keep=5)
    assert result.steps == 23


def test_settings_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="must be equal"):
        train(Bag(), pretext(StubStore.random(), batch=4), settings(), RunFolder.create(tmp_path, {}), [])


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "no-sums"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(tmp_path, damage):
    go(tmp_path / "whole")
    with pytest.raises(Killed):
        go(tmp_path / "cut", extra=[KillAt(13)])
    run = RunFolder(tmp_path / "cut", writes=False)
    newest = run.checkpoints()[-1]
    assert newest == 12
    file = run.path(newest) / ("sums.json" if damage == "no-sums" else "optimizer.safetensors")
    data = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "flip":
        data[-3] ^= 1
        file.write_bytes(data)
    else:
        file.write_bytes(data[: len(data) // 2])
    with pytest.warns(UserWarning, match="checkpoint of step 12 is damaged"):
        go(tmp_path / "cut", resume=True)
    assert (run.steps / "damaged-step-00000012").exists()
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "cut"))


def test_no_whole_checkpoint_is_an_error_that_says_so(tmp_path):
    go(tmp_path)
    run = RunFolder(tmp_path, writes=False)
    for step in run.checkpoints():
        (run.path(step) / "state.json").write_text("{")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(CheckpointError, match="All checkpoints"):
        go(tmp_path, resume=True)


@pytest.mark.parametrize("where", ["model", "optimizer", "metrics"])
def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path, monkeypatch, where):
    go(tmp_path / "whole")
    out = tmp_path / "full"
    writers = {
        "model": (state, "write_model"),
        "optimizer": (safetensors.torch, "save_file"),
        "metrics": (json, "dumps"),
    }
    module, name = writers[where]
    genuine, calls = getattr(module, name), []

    def full(*arguments, **named):
        calls.append(1)
        late = isinstance(arguments[0], dict) and arguments[0].get("step") == 13
        if late if where == "metrics" else len(calls) == 4:
            if where == "optimizer":  # as safetensors says it
                raise runs.SafetensorError(f"I/O error: No space left on device (os error {errno.ENOSPC})")
            raise OSError(errno.ENOSPC, "No space left on device")
        return genuine(*arguments, **named)

    monkeypatch.setattr(module, name, full)
    with pytest.raises(StorageError, match="No space left"):
        go(out)
    monkeypatch.undo()
    run = RunFolder.open(out)
    steps = run.checkpoints()
    assert steps
    assert all(find_damage(run.path(step)) is None for step in steps)
    assert not list(out.rglob(".tmp-*"))
    run.close()
    go(out, resume=True)
    assert_same(outcome(tmp_path / "whole"), outcome(out))


def test_the_disk_must_have_room_for_a_checkpoint_before_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(trains, "require_space", lambda path, size, what: require_space(path, size + 2**60, what))
    with pytest.raises(StorageError, match="A checkpoint needs about"):
        go(tmp_path)


def test_a_loss_that_is_not_finite_leaves_the_last_checkpoint(tmp_path):
    class Late(Bag):
        calls = 0

        def target_log_probs(self, states, at, ids):
            self.calls += self.training
            factor = float("inf") if self.calls == 13 else 1.0
            return super().target_log_probs(states, at, ids) * factor

    with pytest.raises(TrainingError, match="Step 13"):
        go(tmp_path, kind=Late, micro=8)
    run = RunFolder(tmp_path, writes=False)
    assert run.checkpoints()[-1] == 12
    assert find_damage(run.path(12)) is None
    assert max(line["step"] for line in read_metrics(run.metrics)) == 12


def test_a_time_budget_becomes_a_stored_number_of_steps(tmp_path, monkeypatch):
    seconds = iter([0.5, 99.0])
    monkeypatch.setattr("vocablo.training.loop.Trainer.calibrate", lambda self: next(seconds))
    budget = {"steps": None, "minutes": 11.6 / 60, "watchers": [Log(quiet=True)]}
    with pytest.raises(Killed):
        go(tmp_path / "cut", **budget, extra=[KillAt(1)])
    assert RunFolder(tmp_path / "cut", writes=False).read_state()["total"] == 23
    result, _ = go(tmp_path / "cut", **budget, resume=True)
    assert result.steps == 23
    go(tmp_path / "whole", watchers=[Log(quiet=True)])
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "cut"))


def test_a_time_budget_makes_room_for_evaluation(tmp_path, monkeypatch):
    monkeypatch.setattr("vocablo.training.loop.Trainer.calibrate", lambda self: 0.5)
    monkeypatch.setattr(Evaluate, "cost", lambda self: (2.0, 0.1))
    result, _ = go(tmp_path, steps=None, minutes=8 / 60)
    assert result.steps == 10


def test_evaluations_of_a_large_held_out_part_leave_the_budget_to_training(tmp_path, monkeypatch):
    monkeypatch.setattr("vocablo.training.loop.Trainer.calibrate", lambda self: 0.5)
    clock = iter(range(0, 10_000, 2))  # every reading of the clock is two seconds after the one before
    monkeypatch.setattr("vocablo.training.watchers.time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    evaluate = Evaluate(HELD_OUT, batches=2)
    result, _ = go(tmp_path, steps=None, minutes=20 / 60, watchers=[evaluate])
    assert evaluate.times == 2  # two seconds each, of a fifth of twenty
    assert result.steps == 32
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines if "validation_loss" in line] == [16, 32]
    again = Evaluate(HELD_OUT)
    again.restore(evaluate.state())
    assert again.times == 2


def test_a_held_out_part_that_no_budget_could_read_is_read_in_part(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vocablo.training.loop.Trainer.calibrate", lambda self: 0.5)
    clock = iter(range(0, 10_000, 2))
    monkeypatch.setattr("vocablo.training.watchers.time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    evaluate = Evaluate(StubStore.random(400, seed=9), quiet=False)
    result, _ = go(tmp_path, steps=None, minutes=20 / 60, watchers=[evaluate])
    assert (evaluate.times, evaluate.batches) == (2, 2)  # two batches take two seconds, of a fifth of twenty
    assert result.steps == 32
    assert "each evaluation reads 2 of its batches" in capsys.readouterr().err
    again = Evaluate(HELD_OUT)
    again.restore(evaluate.state())
    assert (again.times, again.batches) == (2, 2)


def test_metrics_samples_and_reports(tmp_path):
    shown, reported = [], []
    watchers = [
        Evaluate(HELD_OUT, 10, 2),
        Sample(lambda: "el gato", 10, shown.append),
        Log(quiet=True),
        Report(lambda session: reported.append(session.trainer.done), 10),
    ]
    go(tmp_path, watchers=watchers)
    lines = list(read_metrics(tmp_path / "run" / "metrics.jsonl"))
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 24))
    assert [line["step"] for line in lines if "validation_loss" in line] == [10, 20, 23]
    assert {line["validation_tokens"] for line in lines if "validation_loss" in line} == {64}
    assert [line["step"] for line in lines if "sample" in line] == [10, 20, 23]
    assert shown[0] == "step 10: el gato"
    assert reported == [10, 20, 23]
    assert {"lr", "grad_norm", "tokens", "seconds", "tokens_per_second"} <= lines[0].keys()


def test_watchers_see_evaluation_mode_only_while_they_ask(tmp_path):
    seen = []
    model = Bag()

    def write():
        seen.append((model.training, torch.is_grad_enabled()))
        return ""

    chosen = settings(steps=4)
    run = RunFolder.create(tmp_path, {})
    train(model, pretext(StubStore.random(), micro=4), chosen, run, [Sample(write, 2)])
    assert seen == [(False, False)] * 2
    assert model.training


def test_the_recipe_is_kept(tmp_path):
    recipe = {"family": "gpt", "train": {"lr": 0.001, "steps": 3}}
    run = RunFolder.create(tmp_path, recipe, {"train.lr": "command line"})
    assert run.recipe() == recipe
    assert "lr = 0.001  # command line" in (tmp_path / "run" / "recipe.toml").read_text()
    run.close()


def test_early_stop_looks_at_its_evaluation():
    evaluate = Evaluate(HELD_OUT)
    stop = EarlyStop(evaluate, 3)
    evaluate.restore({"since_best": 2})
    stop(None)
    assert evaluate.state()["since_best"] == 2

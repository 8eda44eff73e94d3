"""Two processes that share a run compute what one computes, and resume exactly."""

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from training_stubs import Bag, Recurrent, StubStore, pretext
from vocablo.training.loop import Trainer
from vocablo.training.ranks import Ranks
from vocablo.training.run import RunFolder, read_metrics
from vocablo.training.settings import TrainSettings
from vocablo.training.train import train
from vocablo.training.watchers import Watcher, standard

STORE, HELD_OUT = StubStore.random(30), StubStore.random(15, seed=9)
SETTINGS = {"steps": 9, "batch": 8, "micro": 3, "lr": 0.02, "warmup": 2, "save_every": 4, "evaluate_every": 3}
CASES = {"documents": Bag, "carried": Recurrent}


class Killed(BaseException):
    pass


class KillAt(Watcher):
    def __init__(self, step):
        self.step = step

    def __call__(self, step):
        if step.step == self.step:
            raise Killed


def work(rank, world, order, folder, dropout=0.0):
    """What one rank does: some gradients, a whole run, and a run that is cut and resumed."""
    kind = CASES[order]
    settings = TrainSettings(**SETTINGS)
    cut = pretext(STORE, order, batch=8, micro=3)
    trainer = Trainer(kind(seed=rank), cut, settings)  # the first rank's parameters become everyone's
    trainer._gradients(0)
    gradients = {name: parameter.grad for name, parameter in trainer.parameters.items() if parameter.grad is not None}

    def run(name, *extra, resume=False):
        out = folder / f"{name}-{world}"
        place = RunFolder.open(out) if resume else RunFolder.create(out, {})
        model = kind(dropout=dropout, seed=rank + 7 * resume)
        watchers = [*standard(settings, HELD_OUT, quiet=True), *extra]
        try:
            result = train(model, cut, settings, place, watchers, resume=resume)
        except Killed:
            return None
        return result, dict(model.named_parameters())

    whole = run("whole")
    run("cut", KillAt(6))
    result, parameters = run("cut", resume=True)
    assert whole[0].best == result.best
    assert all(torch.equal(parameters[name], whole[1][name]) for name in parameters), "resumed exactly"
    if rank == 0:
        torch.save((gradients, parameters, result.best.loss, result.loss), folder / f"world-{world}.pt")


def rank_main(rank, world, order, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    try:
        assert Ranks.current() == Ranks(rank, world)
        work(rank, world, order, folder)
    finally:
        dist.destroy_process_group()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("order", CASES)
def test_two_ranks_are_one(tmp_path, order):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    work(0, 1, order, tmp_path)
    torch.set_num_threads(threads)
    start_processes(rank_main, (2, order, tmp_path), nprocs=2, start_method="spawn")
    one, two = (torch.load(tmp_path / f"world-{world}.pt", weights_only=False) for world in (1, 2))
    assert one[0].keys() == two[0].keys()
    for name, gradient in one[0].items():
        torch.testing.assert_close(gradient, two[0][name], rtol=0, atol=1e-6, msg=name)
    for name, parameter in one[1].items():
        torch.testing.assert_close(parameter, two[1][name], rtol=0, atol=1e-5, msg=name)
    assert one[3] == pytest.approx(two[3], abs=1e-5)
    if order != "carried":  # there each rank's held-out streams are its own, and their number is the same
        assert one[2] == pytest.approx(two[2], abs=1e-5)
    lines = [list(read_metrics(tmp_path / f"whole-{world}" / "run" / "metrics.jsonl")) for world in (1, 2)]
    losses = [[line["loss"] for line in found if "loss" in line] for found in lines]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert [line["tokens"] for line in lines[0] if "tokens" in line] == [
        line["tokens"] for line in lines[1] if "tokens" in line
    ]


def test_a_single_process_needs_nobody():
    alone = Ranks()
    assert alone.first
    assert alone.sum_integers([3, 4]) == [3, 4]
    assert alone.sum_floats([0.5]) == [0.5]
    alone.wait()

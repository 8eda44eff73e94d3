"""Kill training runs with signal 9 at random moments, resume them, and compare with the uninterrupted run bit for bit.

    python bench/kill_resume.py --runs 30 --out kill_resume.json

For each family: one run to its end, then ``--runs`` runs that are each killed one to three times and then let go to
the end. Compared are parameters, the optimizer's memory, carried state, every line of the metrics but its times, and the
bytes of the finished model. After every kill all checkpoints on the disk must be whole. Runs are processes of their own
(forked, so that none has to load torch), with dropout, evaluation, micro-batches and a checkpoint every third step, so that
many kills fall into the writing of one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch._dynamo  # the first optimizer of a process imports it: once here instead of in every run

from vocablo.base import registry
from vocablo.base.progress import Progress
from vocablo.base.random import seed_for
from vocablo.data.grammar import Grammar
from vocablo.data.store import Store
from vocablo.pretexts import causal
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.run import RunFolder, find_damage, read_metrics
from vocablo.training.settings import TrainSettings
from vocablo.training.train import train
from vocablo.training.watchers import standard

MODELS = "vocablo.models"
ORDER = {"gpt": "shuffled", "lstm": "carried"}
CONTEXT = 16
TIMED = ("seconds", "tokens_per_second", "validation_seconds")
SETTINGS = TrainSettings(steps=30, batch=8, micro=4, warmup=5, save_every=3, keep=2, evaluate_every=7)


@dataclass
class Family:
    """What came out for one family. ``while_saving`` counts the kills that left a half-written file behind."""

    family: str
    runs: int = 0
    identical: int = 0
    kills: int = 0
    while_saving: int = 0
    before_first_checkpoint: int = 0
    unreadable_checkpoints: int = 0
    seconds_of_a_run: float = 0.0


class Lab:
    """The text and the settings that all runs of a family share."""

    def __init__(self, family: str, threads: int) -> None:
        self.family, self.threads = family, threads
        self.module = registry.load(MODELS, registry.owners(MODELS, "FAMILIES")[family])
        texts = list(Grammar().text(0, 260))
        self.tokenizer = Tokenizer.train("char", texts)
        self.store = Store.from_documents(texts[:240], self.tokenizer)
        self.held_out = Store.from_documents(texts[240:], self.tokenizer)

    def train(self, out: Path) -> None:
        """One process's work: begin the run in ``out``, or go on with it."""
        torch.set_num_threads(self.threads)
        begun = (out / "run" / "recipe.toml").exists()
        run = RunFolder.open(out) if begun else RunFolder.create(out, {"family": self.family})
        # From its first checkpoint on, a run must not need the parameters that it began with.
        torch.manual_seed(seed_for(os.getpid() if run.checkpoints() else 0, "init"))
        config = self.module.config_for(self.family, "tiny", self.tokenizer.size, CONTEXT, {"dropout": 0.1})
        pretext = causal.Pretext(
            self.store, causal.Config(order=ORDER[self.family]), seed=0, batch=8, micro=4, context=CONTEXT
        )
        watchers = list(standard(SETTINGS, self.held_out, quiet=True))
        train(self.module.build(config), pretext, SETTINGS, run, watchers, self.tokenizer, resume=begun)

    def start(self, out: Path) -> int:
        """Train in a process of its own; returns its id."""
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            self.train(out)
            code = 0
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        finally:
            os._exit(code)


def finish(child: int) -> None:
    """Wait for a process that is to end by itself."""
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise SystemExit(f"A run ended with status {status}.")


def kill_after(child: int, seconds: float) -> bool:
    """Kill the process when so much time has passed; False when it was done before that."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status != 0:
                raise SystemExit(f"A run ended with status {status}.")
            return False
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def outcome(out: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]], dict[str, bytes]]:
    """All that has to be equal: the last checkpoint's tensors, the metrics without times, the finished model's files."""
    run = RunFolder(out, writes=False)
    folder = run.path(run.checkpoints()[-1])
    tensors = {
        f"{path.name}/{name}": tensor
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in safetensors.torch.load_file(path).items()
    }
    lines = [{key: value for key, value in line.items() if key not in TIMED} for line in read_metrics(run.metrics)]
    return tensors, lines, {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.is_file()}


def same(one: Any, other: Any) -> bool:
    """Whether two outcomes agree in every bit."""
    if one[0].keys() != other[0].keys() or one[1:] != other[1:]:
        return False
    return all(
        tensor.dtype == other[0][name].dtype
        and tensor.shape == other[0][name].shape
        and tensor.numpy().tobytes() == other[0][name].numpy().tobytes()
        for name, tensor in one[0].items()
    )


def examine(out: Path, result: Family) -> None:
    """What a kill left on the disk."""
    steps = out / "run" / "steps"
    result.kills += 1
    result.while_saving += any(out.rglob(".tmp-*"))
    found = [path for path in steps.glob("step-*") if path.is_dir()] if steps.exists() else []
    result.before_first_checkpoint += not found
    result.unreadable_checkpoints += sum(find_damage(path) is not None for path in found)


def measure(lab: Lab, runs: int, seed: int, folder: Path) -> Family:
    """Every run of one family."""
    family = lab.family
    result, rng = Family(family), random.Random(f"{seed} {family}")
    begun = time.perf_counter()
    finish(lab.start(folder / "whole"))
    result.seconds_of_a_run = time.perf_counter() - begun
    whole = outcome(folder / "whole")
    with Progress(f"{family}: killed and resumed", runs, "runs") as progress:
        while result.runs < runs:
            out = folder / "killed"
            shutil.rmtree(out, ignore_errors=True)
            wanted, kills = rng.randint(1, 3), 0
            while kills < wanted and kill_after(lab.start(out), rng.uniform(0, result.seconds_of_a_run)):
                examine(out, result)
                kills += 1
            if kills == 0:
                continue  # it was faster than the kill: another try
            finish(lab.start(out))
            result.runs += 1
            result.identical += same(whole, outcome(out))
            progress.advance(1, f"{result.identical} identical, {result.kills} kills")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30, help="killed and resumed runs of each family")
    parser.add_argument("--families", nargs="+", default=["lstm", "gpt"], choices=sorted(ORDER))
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads and forked processes don't go together
    torch.set_num_threads(1)  # a process that has worked with several threads can't be forked
    results = []
    for family in options.families:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(Lab(family, options.threads), options.runs, options.seed, Path(folder)))
    names = list(asdict(results[0]))
    rows = [
        names,
        *(
            [str(round(value, 2) if isinstance(value, float) else value) for value in asdict(one).values()]
            for one in results
        ),
    ]
    for name, *values in zip(*rows, strict=True):
        print(f"{name:26}" + "".join(f"{value:>10}" for value in values))
    report = {
        "torch": torch.__version__,
        "threads": options.threads,
        "steps": SETTINGS.steps,
        "families": [asdict(one) for one in results],
    }
    print(json.dumps(report))
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if any(one.identical < one.runs or one.unreadable_checkpoints for one in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""The settings of a training run, each checked before work starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]

# Settings that change what is written, not what is learned: a resumed run may have other values.
FREE = ("save_every", "keep", "sample_every")


class TrainSettings(Settings):
    """How long, how fast and how to train. One of ``steps``, ``epochs`` and ``minutes`` says how long.

    A loss is a mean over the tokens of a step. Published recipes that sum over the ``context`` steps of back-propagation
    and average over sequences (Zaremba et al. 2014: lr 1, clip 5) have a ``context`` times smaller ``lr`` and larger
    ``clip``: theirs with 20 positions are lr 20 and clip 0.25 here.
    """

    steps: Positive | None = None
    epochs: Annotated[float, Field(gt=0)] | None = None
    minutes: Annotated[float, Field(gt=0)] | None = None  # becomes a number of steps before the first one

    batch: Positive = 32  # sequences of an optimizer step, over all ranks
    batch_tokens: Positive | None = None  # of a step of a labelled task, instead of ``batch`` examples
    micro: Positive | None = None  # sequences that go through the model at once; None: all of a rank's

    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    warmup: Annotated[float, Field(ge=0)] = 0.02  # steps if 1 or more, a share of the run if below 1
    schedule: Literal["linear", "cosine", "constant", "constant-then-decay", "zaremba", "inverse-sqrt"] = "cosine"
    cooldown: Annotated[float, Field(gt=0, le=1)] = 0.2  # constant-then-decay: share of the run that decays
    hold_epochs: Annotated[int, Field(ge=0)] = 4  # zaremba: epochs at full lr
    decay: Annotated[float, Field(gt=0, le=1)] = 0.5  # zaremba: factor of each later epoch
    weight_decay: Annotated[float, Field(ge=0)] = 0.1  # on matrices only
    betas: tuple[Share, Share] = (0.9, 0.99)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    clip: Annotated[float, Field(gt=0)] | None = 1.0  # largest norm of the gradient; None: no limit

    dtype: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast; parameters and optimizer state stay fp32
    compile: bool = False  # needs a C++ compiler
    seed: int = 0

    evaluate_every: Positive | None = None  # steps; None: ten times a run, and always after the last step
    evaluate_batches: Positive | None = None  # None: the whole held-out part
    patience: Positive | None = None  # evaluations without a better loss before the run stops
    sample_every: Positive | None = None  # steps; None: no samples
    save_every: Positive | None = None  # steps; None: ten times a run, and always after the last step
    keep: Positive = 2  # newest checkpoints kept; the best one is kept too
    average: Positive | None = (
        None  # the finished model is the mean of so many of the newest checkpoints; None: the best one
    )

    @model_validator(mode="after")
    def _consistent(self) -> TrainSettings:
        lengths = {name: getattr(self, name) for name in ("steps", "epochs", "minutes")}
        given = [name for name, value in lengths.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"give only one of steps, epochs and minutes; got {', '.join(given)}")
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr ({self.min_lr:g}) is above lr ({self.lr:g})")
        if self.average is not None and self.average > self.keep:
            raise ValueError(
                f"average ({self.average}) needs as many checkpoints: set keep (now {self.keep}) to it or more"
            )
        if self.micro is not None and self.micro > self.batch and self.batch_tokens is None:
            raise ValueError(f"micro ({self.micro}) is above batch ({self.batch})")
        if self.warmup >= 1 and self.warmup != int(self.warmup):
            raise ValueError(f"warmup is a share below 1 or a whole number of steps; got {self.warmup:g}")
        if self.steps is not None and self.warmup >= max(1, self.steps):
            raise ValueError(f"warmup ({self.warmup:g}) leaves no step of the {self.steps}; make it shorter")
        return self

    def total_steps(self, steps_per_epoch: int) -> int | None:
        """Optimizer steps of the run; None for a time budget, which has to be measured first.

        Raises ConfigError when the settings don't say how long.
        """
        if self.steps is None and self.epochs is None and self.minutes is None:
            raise ConfigError("How long to train isn't said: set train.steps, train.epochs or train.minutes.")
        if self.steps is not None:
            return self.steps
        return None if self.epochs is None else max(1, round(self.epochs * steps_per_epoch))

    def warmup_steps(self, total: int) -> int:
        """Steps of warm-up in a run of ``total`` steps. Raises ConfigError when nothing is left behind it."""
        steps = int(self.warmup) if self.warmup >= 1 else int(self.warmup * total)
        if steps and steps >= total:
            raise ConfigError(f"A warm-up of {steps} steps leaves none of the run's {total}: make warmup shorter.")
        return steps

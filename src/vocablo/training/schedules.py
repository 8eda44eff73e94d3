"""The learning rate as a pure function of the step: nothing to save, nothing to restore.

All schedules rise linearly over the warm-up and are at ``lr`` in the first step after it; those that fall would reach
``min_lr`` one step after the last. ``zaremba`` has no floor: ``lr * decay ** max(epoch + 1 - hold_epochs, 0)`` with epochs
counted from 0 (Zaremba et al. 2014, section 4.1). ``inverse-sqrt`` is the original Transformer's: ``lr`` is its peak, in the
last step of the warm-up, and from there on it falls with the root of the step (Vaswani et al. 2017, equation 3).
"""

from __future__ import annotations

import math

from vocablo.training.settings import TrainSettings


def learning_rate(settings: TrainSettings, step: int, total: int, steps_per_epoch: int) -> float:
    """The learning rate of optimizer step ``step`` (from 0) of ``total``."""
    warmup = settings.warmup_steps(total)
    if settings.schedule == "inverse-sqrt":
        rise = max(1, warmup)
        return settings.lr * min((step + 1) / rise, math.sqrt(rise / (step + 1)))
    if step < warmup:
        return settings.lr * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, total - warmup)
    span = settings.lr - settings.min_lr
    match settings.schedule:
        case "constant":
            return settings.lr
        case "linear":
            return settings.lr - span * done
        case "cosine":
            return settings.min_lr + span * 0.5 * (1 + math.cos(math.pi * done))
        case "constant-then-decay":
            return settings.lr - span * max(0.0, (step - total * (1 - settings.cooldown)) / (total * settings.cooldown))
        case "zaremba":
            return settings.lr * settings.decay ** max(step // steps_per_epoch + 1 - settings.hold_epochs, 0)


def noam_peak(width: int, warmup: int) -> float:
    """The largest rate of the original Transformer's schedule, d^-0.5 min(t^-0.5, t warmup^-1.5), which it has at t = warmup."""
    return float((width * warmup) ** -0.5)

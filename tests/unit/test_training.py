"""The loop: settings, schedules, optimizer, and that a step is the large batch's however it is split."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from training_stubs import Bag, Memory, Recurrent, StubStore, pretext
from vocablo.base.errors import CheckpointError, ConfigError, TrainingError
from vocablo.contract import Term
from vocablo.training import optimizer as optimizers
from vocablo.training.loop import Trainer, named_parameters
from vocablo.training.plan import activation_bytes, plan
from vocablo.training.ranks import Ranks
from vocablo.training.schedules import learning_rate
from vocablo.training.settings import TrainSettings
from vocablo.training.tree import map_tensors, rebuild, tensors_of


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settings(**changes):
    return TrainSettings(**({"steps": 12, "batch": 8, "warmup": 0, "schedule": "constant", "lr": 0.01} | changes))


def trainer(model=None, order="shuffled", store=None, **changes):
    chosen = settings(**changes)
    cut = pretext(store or StubStore.random(), order, batch=chosen.batch, micro=chosen.micro)
    return Trainer(model or Bag(), cut, chosen)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"steps": 5, "minutes": 1.0}, "only one of"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"steps": 5, "lr": 0.0}, "greater than 0"),
        ({"steps": 5, "min_lr": 1.0}, "above lr"),
        ({"steps": 5, "micro": 64}, "above batch"),
        ({"steps": 5, "warmup": 2.5}, "whole number"),
        ({"steps": 5, "warmup": 5}, "leaves no step"),
        ({"steps": 5, "betas": (0.9, 1.0)}, "less than 1"),
        ({"steps": 5, "schedule": "cosin"}, "cosine"),
        ({"steps": 5, "learning_rate": 1.0}, "Extra"),
    ],
)
def test_settings_refuse(bad, message):
    with pytest.raises(ValidationError, match=message):
        TrainSettings(**bad)


def test_how_long_a_run_is():
    assert TrainSettings(steps=7).total_steps(10) == 7
    assert TrainSettings(epochs=2.5).total_steps(10) == 25
    assert TrainSettings(minutes=1).total_steps(10) is None
    with pytest.raises(ConfigError, match=r"train\.steps"):
        TrainSettings().total_steps(10)
    assert TrainSettings(steps=50, warmup=0.1).warmup_steps(50) == 5
    with pytest.raises(ConfigError, match="leaves none"):
        TrainSettings(minutes=1, warmup=100).warmup_steps(60)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule": "constant", "warmup": 0}, {0: 1, 5: 1, 9: 1}),
        ({"schedule": "constant", "warmup": 4}, {0: 0.2, 3: 0.8, 4: 1, 9: 1}),
        ({"schedule": "linear", "warmup": 2, "min_lr": 0.2}, {2: 1, 6: 0.6, 9: 0.3}),
        ({"schedule": "cosine", "warmup": 0, "min_lr": 0.1}, {0: 1, 5: 0.55, 9: 0.1 + 0.45 * (1 + math.cos(0.9 * math.pi))}),
        ({"schedule": "constant-then-decay", "warmup": 0, "cooldown": 0.4}, {0: 1, 6: 1, 7: 0.75, 9: 0.25}),
        ({"schedule": "zaremba", "warmup": 0, "hold_epochs": 2}, {0: 1, 3: 1, 4: 0.5, 5: 0.5, 6: 0.25, 9: 0.125}),
    ],
)  # fmt: skip
def test_schedules_by_hand(changes, expected):
    chosen = TrainSettings(steps=10, lr=1.0, **changes)
    assert {step: learning_rate(chosen, step, 10, 2) for step in expected} == pytest.approx(expected)


def test_weight_decay_is_for_matrices_only():
    model = Bag()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    chosen = settings(weight_decay=0.5, lr=0.1)
    optimizer = optimizers.make_optimizer(named_parameters(model, None), chosen)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if parameter.ndim >= 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor, msg=name)


def test_tied_parameters_are_learned_once_and_frozen_ones_not():
    model = Bag()
    model.head.weight = model.embed.weight
    model.head.bias.requires_grad_(False)
    parameters = named_parameters(model, nn.Linear(2, 2))
    assert list(parameters) == ["embed.weight", "norm.weight", "norm.bias", "pretext.weight", "pretext.bias"]
    groups = optimizers.make_optimizer(parameters, settings()).param_groups
    assert [len(group["params"]) for group in groups] == [2, 3]


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_run_is_the_plain_loop(kind):
    """Against a loop written out here with torch's unfused optimizer and its clipping."""
    chosen = settings(optimizer=kind, clip=0.5, steps=6, lr=0.05, warmup=2)
    ours, theirs = Bag(), Bag()
    cut = pretext(StubStore.random())
    matrices = [p for p in theirs.parameters() if p.ndim >= 2]
    vectors = [p for p in theirs.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    if kind == "adamw":
        reference = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.99), eps=1e-8, foreach=False, fused=False)
    else:
        reference = torch.optim.SGD(groups, lr=1.0)
    for index, step in enumerate(Trainer(ours, cut, chosen)):
        (batch,) = cut.micro_batches(index)
        loss = nn.functional.cross_entropy(theirs.logits(theirs(batch.tokens).states), batch.targets["causal"].value)
        reference.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        for group in reference.param_groups:
            group["lr"] = [0.05 / 3, 0.1 / 3, 0.05][min(index, 2)]
        reference.step()
        assert step.loss == pytest.approx(float(loss.detach()), rel=1e-5)
        assert step.grad_norm == pytest.approx(float(norm), rel=1e-5)
        assert step.lr == pytest.approx(reference.param_groups[0]["lr"])
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "order"), [(Bag, "shuffled"), (Bag, "documents"), (Recurrent, "carried")])
def test_accumulation_is_exactly_the_large_batch(kind, order):
    """Sequences of unequal lengths: a mean of means would differ."""

    def run(micro):
        model = kind().double()
        work = trainer(model, order, micro=micro)
        found = []
        for index in range(5):
            loss, _, tokens = work._gradients(index)
            found.append((loss, tokens, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
            work.optimizer.zero_grad()
        return found

    whole = run(8)
    for micro in (4, 3, 1):
        for (loss, tokens, gradients), (loss_1, tokens_1, gradients_1) in zip(whole, run(micro), strict=True):
            assert tokens == tokens_1
            assert loss == pytest.approx(loss_1, abs=1e-12)
            for gradient, gradient_1 in zip(gradients, gradients_1, strict=True):
                torch.testing.assert_close(gradient, gradient_1, rtol=0, atol=1e-12)


def test_accumulated_runs_end_with_the_same_parameters():
    ends = []
    for micro in (8, 2, 1):
        model = Bag()
        losses = [step.loss for step in trainer(model, "documents", micro=micro)]
        ends.append((losses, [parameter.detach() for parameter in model.parameters()]))
    for losses, parameters in ends[1:]:
        assert losses == pytest.approx(ends[0][0], abs=1e-6)
        for one, other in zip(parameters, ends[0][1], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=2e-6)


class TwoTerms:
    """Two losses with different counts and weights, on top of a pretext's batches."""

    names = ("causal", "odd")

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def micro_batches(self, *place):
        batches = self.inner.micro_batches(*place)
        for batch in batches:
            target = batch.targets["causal"]
            rows = batch.tokens.positions % 2 == 1
            batch.targets["odd"] = type(target)(target.at[rows], target.value[rows], int(rows.sum()))
        return batches

    def terms(self, model, batch, state):
        hidden = model(batch.tokens)
        made = {}
        for name, weight in (("causal", 1.0), ("odd", 0.25)):
            target = batch.targets[name]
            made[name] = Term(
                -model.target_log_probs(hidden.states, target.at, target.value).sum(), target.count, weight
            )
        return made, None


def test_each_term_is_divided_by_its_own_count_once():
    found = []
    for micro in (8, 2):
        model = Bag()
        cut = TwoTerms(pretext(StubStore.random(), "documents", micro=micro))
        work = Trainer(model, cut, settings(micro=micro))
        loss, terms, _ = work._gradients(0)
        assert loss == pytest.approx(terms["causal"] + 0.25 * terms["odd"], rel=1e-6)
        found.append((loss, terms["odd"], model.head.weight.grad.clone()))
    assert found[0][:2] == pytest.approx(found[1][:2], abs=1e-6)
    torch.testing.assert_close(found[0][2], found[1][2], rtol=0, atol=1e-6)


def test_randomness_belongs_to_the_step():
    """What others draw between steps changes nothing; another seed does."""

    def losses(noise, **changes):
        found = []
        for step in trainer(Bag(dropout=0.3), **changes):
            torch.rand(noise)
            found.append(step.loss)
        return found

    assert losses(0) == losses(7)
    assert losses(0) != losses(0, seed=1)


class Drawing(Bag):
    """Notes what dropout would draw in each forward pass."""

    def __init__(self):
        super().__init__()
        self.drawn = []

    def forward(self, *arguments, **named):
        self.drawn.append(torch.rand(1).item())
        return super().forward(*arguments, **named)


def test_every_step_micro_batch_and_rank_draws_its_own_numbers(monkeypatch):
    for name in ("_sum", "share", "sum_gradients"):  # ranks that meet nobody
        monkeypatch.setattr(Ranks, name, lambda self, values: values)
    drawn = []
    for rank in (0, 1):
        model = Drawing()
        work = Trainer(model, pretext(StubStore.random(), micro=2), settings(micro=2, steps=4), Ranks(rank, 2))
        list(work)
        assert len(model.drawn) == 8
        drawn += model.drawn
    assert len(set(drawn)) == 16


class Broken(Bag):
    """Its loss, or only its gradient, stops being finite at a given call."""

    def __init__(self, at, only_gradient=False):
        super().__init__()
        self.calls, self.at, self.only_gradient = 0, at, only_gradient

    def target_log_probs(self, states, at, ids):
        self.calls += 1
        found = super().target_log_probs(states, at, ids)
        if self.calls != self.at:
            return found
        if self.only_gradient:  # sqrt(0) has the value 0 and an infinite slope
            return found + torch.sqrt((self.head.bias.sum() * 0).clamp(min=0))
        return found * float("nan")


@pytest.mark.parametrize("only_gradient", [False, True])
def test_a_loss_that_is_not_finite_stops_before_the_update(only_gradient):
    model = Broken(4, only_gradient)
    work = trainer(model, steps=9)
    steps = iter(work)
    for _ in range(3):
        next(steps)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with pytest.raises(TrainingError, match="Step 4: the " + ("gradient" if only_gradient else "loss")):
        next(steps)
    assert work.done == 3
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_algorithms_are_deterministic_only_while_training():
    work = trainer()
    assert not torch.are_deterministic_algorithms_enabled()
    for step in work:
        assert torch.are_deterministic_algorithms_enabled()
        if step.step == 2:
            work.stop("enough")
    assert not torch.are_deterministic_algorithms_enabled()
    assert work.done == 2


def test_bf16_keeps_parameters_and_memory_in_fp32_and_learns_the_same():
    runs = {}
    for dtype in ("fp32", "bf16"):
        model = Bag()
        work = trainer(model, dtype=dtype, steps=30)
        runs[dtype] = [step.loss for step in work]
        kinds = {tensor.dtype for tensor in optimizers.optimizer_tensors(work.optimizer, work.parameters).values()}
        assert {parameter.dtype for parameter in model.parameters()} | kinds == {torch.float32}
    assert runs["bf16"] == pytest.approx(runs["fp32"], abs=0.03)
    assert runs["bf16"] != runs["fp32"]


def test_optimizer_memory_goes_there_and_back():
    work = trainer(steps=3)
    list(work)
    tensors = optimizers.optimizer_tensors(work.optimizer, work.parameters)
    assert len(tensors) == 3 * len(work.parameters)
    other = trainer(steps=3)
    optimizers.restore_optimizer(other.optimizer, other.parameters, tensors)
    again = optimizers.optimizer_tensors(other.optimizer, other.parameters)
    assert tensors.keys() == again.keys()
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)
    with pytest.raises(CheckpointError, match="doesn't have"):
        optimizers.restore_optimizer(other.optimizer, other.parameters, {"exp_avg/none": torch.zeros(3)})


def test_calibration_changes_nothing():
    model = Recurrent(dropout=0.2)
    work = trainer(model, "carried")
    before = [parameter.clone() for parameter in model.parameters()]
    assert work.calibrate(seconds=0.05) > 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not work.optimizer.state
    assert [step.loss for step in work] == [step.loss for step in trainer(Recurrent(dropout=0.2), "carried")]


def test_plan_counts_and_measures():
    store = StubStore.random(60)
    found = plan(trainer(store=store, epochs=3, steps=None))
    sizes = sum(parameter.numel() for parameter in Bag().parameters())
    assert (found.parameters, found.memory.parameters, found.memory.optimizer) == (sizes, 4 * sizes, 8 * sizes)
    assert found.tokens_per_epoch == len(store.tokens)
    assert found.epochs == 3
    assert found.steps == 3 * math.ceil(math.ceil(len(store.tokens) / 8) / 8)
    assert found.seconds == pytest.approx(found.steps * found.seconds_per_step)
    assert plan(trainer(minutes=1, steps=None)).steps > 60


def test_activations_are_those_that_autograd_keeps():
    """A linear layer keeps its input; nothing else here needs a backward pass."""

    class Linear:
        names, batch, tokens, steps_per_epoch = ("causal",), 8, 64, 1

        def __getattr__(self, name):
            return getattr(pretext(StubStore.random()), name)

        def modules(self):
            return None

        def terms(self, model, batch, state):
            inputs = torch.ones(batch.tokens.fences.total, 16)
            return {"causal": Term(model(inputs).sum(), batch.tokens.fences.total)}, None

    assert activation_bytes(Trainer(nn.Linear(16, 4), Linear(), settings())) == 64 * 16 * 4


def test_carried_state_of_any_shape_keeps_its_shape():
    tree = {"a": [Memory((torch.ones(2), torch.zeros(1))), None], "b": (3, torch.full((1,), 5.0))}
    tensors = tensors_of(tree)
    assert [tensor.tolist() for tensor in tensors] == [[1, 1], [0], [5]]
    doubled = map_tensors(lambda tensor: tensor * 2, tree)
    again = rebuild(tree, iter(tensors_of(doubled)))
    assert isinstance(again["a"][0], Memory)
    assert again["b"][0] == 3
    assert [tensor.tolist() for tensor in tensors_of(again)] == [[2, 2], [0], [10]]


def test_gradients_do_not_flow_into_the_previous_step():
    work = trainer(Recurrent(), "carried", steps=3)
    for _ in work:
        assert all(not tensor.requires_grad for tensor in tensors_of(work.carried))

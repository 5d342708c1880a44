"""Learning-rate schedules (torch.optim.lr_scheduler).

Most are written in torch's chainable form, the new rate from the group's present one, so that a rate changed
by hand or by another schedule is carried on; the closed forms serve `SequentialLR`.
"""

from __future__ import annotations

import math
import types
import warnings
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from .optimizer import Optimizer


class LRScheduler:
    """Base of the schedules: sets `group["lr"]` of every parameter group of `optimizer` at each `step()`.

    A subclass defines `get_lr()`, the rates for `self.last_epoch` in the order of the groups, and sets its
    own attributes before it calls this constructor, which makes the first step. Epochs are calls of `step`.
    `last_epoch` other than -1 continues a schedule and needs "initial_lr" in every group (KeyError).
    """

    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: {type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"{type(self).__name__}: param_groups[{i}] has no 'initial_lr'; load the "
                               f"optimizer's state before continuing from last_epoch={last_epoch}")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        self.step()
        self._is_initial = False

    def get_lr(self) -> list[float]:
        """The rates for `last_epoch`; to read the present ones use `get_last_lr`."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_lr")

    def get_last_lr(self) -> list[float]:
        """The rates set by the latest step, one per parameter group."""
        return self._last_lr

    def step(self) -> None:
        """Go to the next epoch; called before `optimizer.step()` it skips the first rate (and warns)."""
        if self._step_count == 1 and not _has_stepped(self.optimizer):
            warnings.warn("lr_scheduler.step() was called before optimizer.step(); in this order the first "
                          "value of the schedule is skipped", UserWarning, stacklevel=2)
        self._step_count += 1
        self._move_to(self.last_epoch + 1, self.get_lr)

    def _restart(self) -> None:
        """Go to epoch 0 (a milestone of SequentialLR), by the closed form where there is one."""
        self._move_to(0, getattr(self, "_get_closed_form_lr", self.get_lr))

    def _move_to(self, epoch: int, rates: Callable[[], list[float]]) -> None:
        self.last_epoch = epoch
        for group, lr in zip(self.optimizer.param_groups, rates()):
            group["lr"] = lr
        self._last_lr = self._current()

    def _current(self, factor: float = 1.0) -> list[float]:
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer (save that too: it holds the rates)."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict()`."""
        self.__dict__.update(state_dict)


def _has_stepped(optimizer: Optimizer) -> bool:
    overridden = type(optimizer).step is not Optimizer.step  # then nobody counted
    return overridden or optimizer._steps_taken > 0


def _positive_int(owner: str, name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError(f"{owner}: {name} must be a positive integer, got {value!r}")
    return value


class LambdaLR(LRScheduler):
    """lr = initial lr · lr_lambda(epoch); one function, or a list with one for each group."""

    def __init__(self, optimizer: Optimizer,
                 lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
                 last_epoch: int = -1) -> None:
        self.lr_lambdas = _per_group("LambdaLR", "lr_lambda", optimizer, lr_lambda)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * function(self.last_epoch) for base, function in zip(self.base_lrs, self.lr_lambdas)]

    def state_dict(self) -> dict[str, Any]:
        """Functions are not saved; of other callables their attributes are."""
        functions = [None if isinstance(function, types.FunctionType) else function.__dict__.copy()
                     for function in self.lr_lambdas]
        return {**super().state_dict(), "lr_lambdas": functions}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict()`."""
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "lr_lambdas"})
        for function, attributes in zip(self.lr_lambdas, state_dict["lr_lambdas"]):
            if attributes is not None:
                function.__dict__.update(attributes)


class StepLR(LRScheduler):
    """lr is multiplied by `gamma` every `step_size` epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1,
                 last_epoch: int = -1) -> None:
        self.step_size = _positive_int("StepLR", "step_size", step_size)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        due = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return self._current(self.gamma if due else 1.0)

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma ** (self.last_epoch // self.step_size) for base in self.base_lrs]


class MultiStepLR(LRScheduler):
    """lr is multiplied by `gamma` at each of the epochs `milestones` (one given twice counts twice)."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1,
                 last_epoch: int = -1) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._current(self.gamma ** self.milestones.count(self.last_epoch))

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma ** bisect_right(self.milestones, self.last_epoch) for base in self.base_lrs]


class ConstantLR(LRScheduler):
    """lr is multiplied by `factor` for the first `total_iters` epochs."""

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5,
                 last_epoch: int = -1) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"ConstantLR: factor must be in [0, 1], got {factor}")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return self._current(self.factor)
        if self.last_epoch != self.total_iters:
            return self._current()
        return self._current(1.0 / self.factor) if self.factor else list(self.base_lrs)

    def _get_closed_form_lr(self) -> list[float]:
        factor = 1.0 if self.last_epoch >= self.total_iters else self.factor
        return [base * factor for base in self.base_lrs]


class LinearLR(LRScheduler):
    """lr times a factor that goes linearly from `start_factor` to `end_factor` in `total_iters` epochs."""

    def __init__(self, optimizer: Optimizer, start_factor: float = 1.0 / 3, end_factor: float = 1.0,
                 total_iters: int = 5, last_epoch: int = -1) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"LinearLR: start_factor must be in (0, 1], got {start_factor}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"LinearLR: end_factor must be in [0, 1], got {end_factor}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch: int) -> float:
        share = min(epoch, self.total_iters) / self.total_iters if self.total_iters else 1.0
        return self.start_factor + (self.end_factor - self.start_factor) * share

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return self._current(self.start_factor)
        if self._is_initial or self.last_epoch > self.total_iters:
            return self._current()
        return self._current(self._factor(self.last_epoch) / self._factor(self.last_epoch - 1))

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self._factor(self.last_epoch) for base in self.base_lrs]


class ExponentialLR(LRScheduler):
    """lr is multiplied by `gamma` at every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._current(1.0 if self._is_initial else self.gamma)

    def _get_closed_form_lr(self) -> list[float]:
        return [base * self.gamma**self.last_epoch for base in self.base_lrs]


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (initial lr - eta_min) · (1 + cos(pi · epoch / T_max)) / 2 (Loshchilov and Hutter 2017).

    Past T_max the cosine goes on, so the rate rises again.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max = _positive_int("CosineAnnealingLR", "T_max", T_max)
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def _height(self, epoch: int) -> float:
        return 1 + math.cos(math.pi * epoch / self.T_max)

    def get_lr(self) -> list[float]:
        if self._is_initial:
            return self._current()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # leaving the bottom: a factor is 0/0
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [lr + (base - self.eta_min) * rise for lr, base in zip(self._current(), self.base_lrs)]
        factor = self._height(self.last_epoch) / self._height(self.last_epoch - 1)
        return [factor * (lr - self.eta_min) + self.eta_min for lr in self._current()]

    def _get_closed_form_lr(self) -> list[float]:
        height = self._height(self.last_epoch) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]


class SequentialLR(LRScheduler):
    """`schedulers` one after the other: the next one begins, at its epoch 0, at each of `milestones`."""

    def __init__(self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int],
                 last_epoch: int = -1) -> None:
        _check_sequence(optimizer, schedulers, milestones)
        self.optimizer = optimizer
        self._schedulers = schedulers
        self._milestones = milestones
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self._undo_first_step()
        first = schedulers[bisect_right(milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def _undo_first_step(self) -> None:
        # Every schedule stepped when it was made; only the first one's turn has come.
        for scheduler in self._schedulers:
            if isinstance(scheduler, SequentialLR):
                scheduler._undo_first_step()
            else:
                scheduler.last_epoch -= 1

    def step(self) -> None:
        """Go to the next epoch of the schedule whose turn it is."""
        self.last_epoch += 1
        turn = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[turn]
        if turn > 0 and self._milestones[turn - 1] == self.last_epoch:
            scheduler._restart()
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """The states of the schedules and whose turn it is."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict()`."""
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "_schedulers"})
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"]):
            scheduler.load_state_dict(state)


def _check_sequence(optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int]) -> None:
    if not schedulers:
        raise ValueError("SequentialLR: needs at least one scheduler")
    for i, scheduler in enumerate(schedulers):
        if not isinstance(scheduler, LRScheduler):
            raise TypeError(f"SequentialLR: number {i} is no scheduler but {type(scheduler).__name__}")
        if scheduler.optimizer is not optimizer:
            raise ValueError(f"SequentialLR: number {i} ({type(scheduler).__name__}) has another optimizer")
    if len(milestones) != len(schedulers) - 1:
        raise ValueError(f"SequentialLR: {len(schedulers)} schedulers need {len(schedulers) - 1} milestones, "
                         f"got {len(milestones)}")


class OneCycleLR(LRScheduler):
    """One rise and one fall of the rate in `total_steps` steps, one step per batch (Smith and Topin 2018).

    The rate goes from max_lr / div_factor up to max_lr at step pct_start · total_steps - 1 and down to
    max_lr / div_factor / final_div_factor at step total_steps - 1, along a cosine or a line; `three_phase`
    first mirrors the rise. With `cycle_momentum` the momentum (or beta1) goes the other way, from
    max_momentum to base_momentum and back. `total_steps` may be given as `epochs` and `steps_per_epoch`.
    Raises ValueError at step total_steps + 1.
    """

    def __init__(self, optimizer: Optimizer, max_lr: float | Sequence[float], total_steps: int | None = None,
                 epochs: int | None = None, steps_per_epoch: int | None = None, pct_start: float = 0.3,
                 anneal_strategy: str = "cos", cycle_momentum: bool = True,
                 base_momentum: float | Sequence[float] = 0.85, max_momentum: float | Sequence[float] = 0.95,
                 div_factor: float = 25.0, final_div_factor: float = 1e4, three_phase: bool = False,
                 last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"OneCycleLR: {type(optimizer).__name__} is not an Optimizer")
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start must be a float between 0 and 1, got {pct_start!r}")
        if anneal_strategy not in _ANNEALING:
            raise ValueError(f"OneCycleLR: anneal_strategy is 'cos' or 'linear', not {anneal_strategy!r}")
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        self._anneal_func_type = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self.use_beta1 = "betas" in optimizer.defaults
        self._schedule_phases = _phases(self.total_steps, pct_start, three_phase)
        if cycle_momentum and not self.use_beta1 and "momentum" not in optimizer.defaults:
            raise ValueError(f"OneCycleLR: {type(optimizer).__name__} has neither momentum nor betas; "
                             "use cycle_momentum=False")
        rates = _per_group("OneCycleLR", "max_lr", optimizer, max_lr)
        high = _per_group("OneCycleLR", "max_momentum", optimizer, max_momentum)
        low = _per_group("OneCycleLR", "base_momentum", optimizer, base_momentum)
        if last_epoch == -1:
            for group, rate, top, bottom in zip(optimizer.param_groups, rates, high, low):
                start = rate / div_factor
                group.update(initial_lr=start, max_lr=rate, min_lr=start / final_div_factor)
                if cycle_momentum:
                    group.update(max_momentum=top, base_momentum=bottom)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ValueError(f"OneCycleLR: step {self.last_epoch} of a schedule of {self.total_steps} steps")
        phase, progress = self._phase()
        anneal = _ANNEALING[self._anneal_func_type]
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(anneal(group[phase["start_lr"]], group[phase["end_lr"]], progress))
            if self.cycle_momentum:
                self._set_momentum(
                    group, anneal(group[phase["start_momentum"]], group[phase["end_momentum"]], progress))
        return rates

    def _phase(self) -> tuple[dict[str, Any], float]:
        """The phase that the present step lies in, and how much of it is done (above 1 after the last)."""
        start = 0.0
        for phase in self._schedule_phases[:-1]:
            if self.last_epoch <= phase["end_step"]:
                break
            start = phase["end_step"]
        else:
            phase = self._schedule_phases[-1]
        length = phase["end_step"] - start
        return phase, (self.last_epoch - start) / length if length else 1.0

    def _set_momentum(self, group: dict[str, Any], momentum: float) -> None:
        if self.use_beta1:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))


def _line(start: float, end: float, progress: float) -> float:
    return start + (end - start) * progress


_ANNEALING = {"cos": _cosine, "linear": _line}


def _total_steps(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total_steps is not None:
        return _positive_int("OneCycleLR", "total_steps", total_steps)
    if epochs is None or steps_per_epoch is None:
        raise ValueError("OneCycleLR: give total_steps, or both epochs and steps_per_epoch")
    return (_positive_int("OneCycleLR", "epochs", epochs)
            * _positive_int("OneCycleLR", "steps_per_epoch", steps_per_epoch))


def _phases(total_steps: int, pct_start: float, three_phase: bool) -> list[dict[str, Any]]:
    peak, last = pct_start * total_steps - 1, float(total_steps - 1)
    corners = [(peak, "max_lr", "base_momentum"), (last, "min_lr", "max_momentum")]
    if three_phase:
        corners.insert(1, (2 * pct_start * total_steps - 2, "initial_lr", "max_momentum"))
    phases = []
    start_lr, start_momentum = "initial_lr", "max_momentum"
    for end_step, end_lr, end_momentum in corners:
        phases.append({"end_step": end_step, "start_lr": start_lr, "end_lr": end_lr,
                       "start_momentum": start_momentum, "end_momentum": end_momentum})
        start_lr, start_momentum = end_lr, end_momentum
    return phases


def _per_group(owner: str, name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * groups
    if len(value) != groups:
        raise ValueError(f"{owner}: {name} has {len(value)} values for {groups} parameter groups")
    return list(value)

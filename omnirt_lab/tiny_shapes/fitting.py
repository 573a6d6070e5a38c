"""Training that any number of processes does alike, step for step, and that goes on where it was stopped.

1. All parameters live in one flat tensor, so a step has one gradient to average and one tensor to update.
2. A batch is made of `shards`. Each shard draws its samples from a generator seeded by (seed, step, shard) and by
   nothing else; process number r computes the shards r, r + P, r + 2P ... of P processes.
3. Gradients are summed over processes; then every process makes the same update.
4. Every `save_every` steps the first process replaces the checkpoint in one move.
"""

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import torch
import torch.distributed as dist
from torch import Tensor, nn

Loss = Callable[[torch.Generator], Tensor]
"""Draws one shard with the generator and returns its mean loss, a scalar."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how fast to train."""

    name: str
    steps: int
    shards: int = 2
    learning_rate: float = 1e-3
    warm_up: int = 200

    tail: float = 0.4
    """Share of the steps in which the learning rate falls to nothing, along half a cosine."""

    average: float = 0.999
    """Decay of the exponential moving average whose weights are the result."""

    seed: int = 1
    save_every: int = 250


class FlatWeights:
    """The parameters of several modules as views of one tensor, so that one operation updates them all."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        self.values = torch.cat([p.detach().flatten() for p in parameters])
        self.gradient = torch.zeros_like(self.values)
        start = 0
        for parameter in parameters:
            span = slice(start, start + parameter.numel())
            parameter.data = self.values[span].view_as(parameter)
            parameter.grad = self.gradient[span].view_as(parameter)
            start = span.stop


class Trainer:
    """One process's part in fitting some modules; `fit` leaves the averaged weights in them."""

    def __init__(self, plan: Plan, modules: Iterable[nn.Module], folder: Path) -> None:
        self.plan = plan
        self.weights = FlatWeights(modules)
        self.average = self.weights.values.clone()
        parameter = nn.Parameter(self.weights.values)
        parameter.grad = self.weights.gradient
        self.optimizer = torch.optim.AdamW([parameter], lr=plan.learning_rate, weight_decay=0.0, fused=True)
        self.checkpoint = folder / f"{plan.name}.pt"
        self.step = 0

    def fit(self, loss: Loss, *, until: int | None = None) -> None:
        """Train from the checkpoint, if there is one, to the plan's end; `until` stops at an earlier step."""
        self._load()
        started, first, total = time.monotonic(), self.step, 0.0
        last = self.plan.steps if until is None else until
        while self.step < last:
            total += self._advance(loss)
            if self.step % self.plan.save_every == 0 or self.step == last:
                self._report(total / self.plan.save_every, (time.monotonic() - started) / (self.step - first))
                self._save()
                total = 0.0
        self.weights.values.copy_(self.average)

    def restore(self) -> None:
        """Leave the averaged weights of the checkpoint in the modules, or their own where there is no checkpoint."""
        self._load()
        self.weights.values.copy_(self.average)

    def _advance(self, loss: Loss) -> float:
        """Make one step; return the mean loss of the process's own shards."""
        rank, processes = _place()
        self.weights.gradient.zero_()
        total = 0.0
        for shard in range(rank, self.plan.shards, processes):
            value = loss(self._generator(shard)) / self.plan.shards
            torch.autograd.backward(value)
            total += value.item() * processes
        if processes > 1:
            dist.all_reduce(self.weights.gradient)
        self._update()
        return total

    def _update(self) -> None:
        nn.utils.clip_grads_with_norm_(
            self.optimizer.param_groups[0]["params"], 1.0, torch.linalg.vector_norm(self.weights.gradient)
        )
        factor = cosine_tail(self.step, self.plan)
        self.optimizer.param_groups[0]["lr"] = self.plan.learning_rate * factor
        self.optimizer.step()
        self.step += 1
        decay = min(self.plan.average, self.step / (self.step + 10))
        self.average.lerp_(self.weights.values, 1 - decay)

    def _generator(self, shard: int) -> torch.Generator:
        number = (self.plan.seed * 10_000_000 + self.step) * self.plan.shards + shard
        return torch.Generator().manual_seed(number)

    def _load(self) -> None:
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        self.weights.values.copy_(state["values"])
        self.average.copy_(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def _save(self) -> None:
        if _place()[0] != 0:
            return
        state = {
            "values": self.weights.values,
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        save_in_one_move(state, self.checkpoint)

    def _report(self, loss: float, pace_s: float) -> None:
        if _place()[0] == 0:
            left_min = (self.plan.steps - self.step) * pace_s / 60
            line = f"{self.plan.name} {self.step}/{self.plan.steps} loss {loss:.4f} {pace_s:.3f} s/step"
            print(f"{line} {left_min:.0f} min left", flush=True)


def cosine_tail(step: int, plan: Plan) -> float:
    """Return the learning rate's factor: a linear warm-up, a plateau, and half a cosine over the plan's tail."""
    start = plan.steps * (1 - plan.tail)
    if step < plan.warm_up:
        return (step + 1) / plan.warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - start) / (plan.steps - start))) if step > start else 1.0


def save_in_one_move(state: object, path: Path) -> None:
    """Write with `torch.save` so that the file is the old one or the new one, never half of it."""
    scratch = path.with_suffix(".tmp")
    torch.save(state, scratch)
    scratch.replace(path)


def _place() -> tuple[int, int]:
    """Return this process's number and the number of processes."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)

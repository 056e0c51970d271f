"""The processes of a run: who I am among them, and what all of them must know.

Every process ("rank") holds the same run and goes through the same steps. What is expensive is
dealt out: each rank plays its own tasks and scores its own part of a batch. What comes of it is
exchanged before anything is decided, so all decide alike, and no number depends on how many there
are, but for rounding. The processes are started by `torchrun`, which says in the environment who is
who.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from turnhalle.envs.errors import ConfigError, RankError

if TYPE_CHECKING:
    import torch

PATIENCE = timedelta(minutes=30)
"""Longest wait for the others, whose rollouts may take that much longer than ours."""

Value = TypeVar("Value")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class World:
    """This process among those of its run; without arguments it is alone."""

    rank: int = 0
    """From 0 to size - 1. The first one writes the store and the checkpoints, and shows the run."""
    size: int = 1
    group: Any = None
    """The `torch.distributed` group that they talk in."""

    @property
    def is_first(self) -> bool:
        """Whether this one writes and shows."""
        return self.rank == 0

    def another(self) -> World:
        """The same ranks on a line of their own, for what runs in a thread beside."""
        if self.size == 1:
            return self
        import torch.distributed as dist

        return World(self.rank, self.size, dist.new_group(timeout=PATIENCE))

    def exchange(self, value: Value) -> list[Value]:
        """What every rank has, in their order. Values are pickled: ranks trust one another.

        Raises:
            RankError: Another one ended, or did not come within `PATIENCE`.
        """
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        with self.listening():
            dist.all_gather_object(values, value, self.group)
        return values

    def together(self, work: Callable[[], Value]) -> list[Value]:
        """What some work comes to on every rank; it may fail, but must not wait for another one.

        Raises:
            Exception: Of the first rank where it failed, raised on all of them.
            RankError: Another one ended, or its error cannot be sent.
        """
        if self.size == 1:
            return [work()]
        error: Exception | None = None
        outcome: tuple[Any, Exception | None]
        try:
            outcome = (work(), None)
        except Exception as raised:  # told to the others, then raised
            error = raised
            outcome = (None, self._told(raised))
        outcomes = self.exchange(outcome)
        for rank, (_, told) in enumerate(outcomes):
            if told is not None:
                raise error if error is not None and rank == self.rank else told
        values: list[Any] = [value for value, _ in outcomes]
        return values

    def spread(
        self, items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Value]]
    ) -> list[Value]:
        """Let every rank do some of the items; all results, in the order of the items."""
        shares = [items[rank :: self.size] for rank in range(self.size)]
        mine = shares[self.rank]
        done = self.together(lambda: list(work(mine)) if mine else [])
        return [done[i % self.size][i // self.size] for i in range(len(items))]

    def first(self, work: Callable[[], Value]) -> Value:
        """What work comes to that only the first rank can do."""
        values: list[Any] = self.together(lambda: work() if self.is_first else None)
        value: Value = values[0]
        return value

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        """Add up tensors over the ranks, in place: all ranks get the same bits."""
        if self.size == 1 or not tensors:
            return
        import torch
        import torch.distributed as dist

        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self.listening():
            dist.all_reduce(flat, group=self.group)
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Name the error of a block in which ranks wait for one another."""
        try:
            yield
        except RuntimeError as error:
            if not _is_of_the_line(error):
                raise
            raise RankError(
                f"one of the {self.size} processes of the run ended, or did not answer within "
                f"{PATIENCE.seconds // 60} minutes (this is rank {self.rank}); its own message "
                "says why. The run goes on from its last checkpoint with --resume, with any "
                "number of processes"
            ) from error

    def _told(self, error: Exception) -> Exception:
        """The error as others can read it."""
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # whatever keeps it from being sent
            return RankError(f"rank {self.rank} failed: {type(error).__name__}: {error}")
        return error


ALONE = World()


def deal(costs: Sequence[int], size: int) -> list[list[int]]:
    """Deal parts to ranks: the most expensive first, each to whoever has least; in order."""
    hands: list[list[int]] = [[] for _ in range(size)]
    sums = [0] * size
    for part in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        least = sums.index(min(sums))
        hands[least].append(part)
        sums[least] += costs[part]
    return [sorted(hand) for hand in hands]


@contextmanager
def open_world(device: str) -> Iterator[World]:
    """Join the processes that `torchrun` started; alone where it did not.

    Args:
        device: The model's, as options name it. On CUDA each process takes the GPU of its number.

    Raises:
        ConfigError: More processes than GPUs, or all of them on one.
        RankError: The others do not come.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    is_cuda = device != "cpu" and torch.cuda.is_available()
    if is_cuda:
        _take_gpu(device)
    world = World(int(os.environ["RANK"]), size)
    with world.listening():
        dist.init_process_group("cpu:gloo,cuda:nccl" if is_cuda else "gloo", timeout=PATIENCE)
    try:
        yield world
        # Nobody hangs up while another one still talks.
        world.exchange(None)
    finally:
        dist.destroy_process_group()


def _take_gpu(device: str) -> None:
    import torch

    local, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if device not in ("auto", "cuda"):
        raise ConfigError(
            f"model.device = {device!r} with several processes: they take a GPU each, "
            'so give "cuda"'
        )
    if local >= count:
        raise ConfigError(
            f"more processes than GPUs on this machine ({count}); start torchrun with "
            f'--nproc-per-node {count}, or train on the CPU with --set model.device="cpu"'
        )
    torch.cuda.set_device(local)


def _is_of_the_line(error: RuntimeError) -> bool:
    """Is it the connection that failed? gloo's errors are plain, known by where they come from."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or any(
        word in str(error) for word in ("gloo", "Gloo", "NCCL", "Broken pipe")
    )

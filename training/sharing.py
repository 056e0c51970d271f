"""How ranks compute an update together: parts by tokens, gradients added up, layers by FSDP2.

Every rank has the whole batch, scores its own parts of it, and then has the gradient of all of it.

With `learn.shard` the decoder's layers lie apart, a part a rank, while gradients are computed: only
then, where activations are large, is the memory needed. Each layer is gathered while it computes.
In between every rank has the model whole, and samples and scores without a word to the others.
Embeddings, the last norm and the head stay whole, and so does an adapter: it is small.

Weights in 4 bits cannot be sharded: FSDP2 makes plain tensors of its shards, and with its class a
`Params4bit` of bitsandbytes 0.50 loses its scales (accelerate issue 3983, bitsandbytes issue 1945).
Each rank holds the whole 4-bit base then, a quarter of its size in 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.ranks import World, deal
from turnhalle.envs.errors import ConfigError

from .options import TrainOptions
from .packing import Packing

Value = TypeVar("Value")


class Sharing:
    """The ranks of an update, and who has what of it."""

    def __init__(self, lm: LanguageModel, world: World, is_sharded: bool) -> None:
        """Cut the layers where that is asked for; they are whole until `apart`.

        Raises:
            ConfigError: The base is held in 4 bits.
        """
        self._lm, self._world = lm, world
        self._layers: list[Any] = _cut(lm, world) if is_sharded and world.size > 1 else []
        self.is_in_step: bool
        """Whether ranks wait for one another in every pass: an error of one cannot be told."""
        self._gather()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """While this is open the layers lie apart, where they are cut."""
        for layer in self._layers:
            layer.reshard()
            layer.set_reshard_after_forward(True)
        self.is_in_step = bool(self._layers)
        try:
            yield
        finally:
            self._gather()

    def parts(
        self, sequences: Sequence[NDArray[np.int64]], packing: Packing, max_tokens: int
    ) -> list[list[int]]:
        """The parts of a batch that this rank computes: about as many tokens as every other's.

        In step all have equally many; an empty one is for `keep_step`.
        """
        size = self._world.size
        if size > 1:
            # A few parts a rank, so that they can be dealt out evenly.
            max_tokens = min(max_tokens, -(-sum(map(len, sequences)) // (2 * size)))
        parts = packing.parts(sequences, max_tokens)
        hands = deal([sum(len(sequences[i]) for i in part) for part in parts], size)
        own = [parts[i] for i in hands[self._world.rank]]
        return own + [[]] * (max(map(len, hands)) - len(own)) * self.is_in_step

    def keep_step(self) -> None:
        """Take part in a pass of the others, with nothing of one's own."""
        token = torch.zeros(1, 1, dtype=torch.long, device=self._lm.device)
        (self._lm.hidden_states(token).sum() * 0.0).backward()

    def compute(self, work: Callable[[], Value]) -> list[Value]:
        """What passes over `parts` come to on every rank.

        Raises:
            Exception: Of one rank, on all of them; in step it ends its own, and that the others.
            RankError: Another rank ended.
        """
        if not self.is_in_step:
            return self._world.together(work)
        with self._world.listening():
            value = work()
        return self._world.exchange(value)

    def add_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Add up the gradients of all ranks; those of shards FSDP2 has added up already."""
        if self._world.size == 1:
            return
        gradients: list[torch.Tensor] = []
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            if not is_shard(parameter):
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        self._world.add(gradients)

    def _gather(self) -> None:
        self.is_in_step = False
        for layer in self._layers:
            layer.set_reshard_after_forward(False)
            layer.unshard()


def check_ranks(options: TrainOptions, world: World) -> None:
    """Refuse what several processes cannot do.

    Raises:
        ConfigError: Says what, and the fix.
    """
    if world.size > 1 and options.engine.name == "vllm":
        raise ConfigError(
            'engine.name = "vllm" samples in a run of one process, and this one has '
            f'{world.size}; leave torchrun out, or set engine.name = "transformers"'
        )
    if world.size > 1 and options.learn.shard and options.rollout.lookahead:
        raise ConfigError(
            "learn.shard takes the layers apart while an update runs, and rollout.lookahead = 1 "
            "samples from them meanwhile; leave one of the two out"
        )
    if world.size > 1 and options.learn.shard and options.model.compile:
        raise ConfigError(
            "learn.shard takes the layers apart, and model.compile was never tried on such layers; "
            "leave one of the two out"
        )


def is_shard(tensor: torch.Tensor) -> bool:
    """Whether it is a part of one that lies apart."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def by_kind(parameters: Sequence[torch.nn.Parameter]) -> list[list[torch.nn.Parameter]]:
    """Whole ones and shards: what works on many tensors at a time takes no mixture of them."""
    kinds = [[p for p in parameters if is_shard(p) is apart] for apart in (False, True)]
    return [kind for kind in kinds if kind]


def clip_gradient(parameters: Sequence[torch.nn.Parameter], bound: float) -> float:
    """Clip the gradient of parameters, whole ones and shards alike; its norm before that."""
    kinds = by_kind(parameters)
    norms = [
        torch.nn.utils.get_total_norm([p.grad for p in kind if p.grad is not None])
        for kind in kinds
    ]
    norm = torch.linalg.vector_norm(torch.stack([_whole(norm) for norm in norms]))
    for kind in kinds:
        torch.nn.utils.clip_grads_with_norm_(kind, bound, norm)
    return float(norm)


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _cut(lm: LanguageModel, world: World) -> list[Any]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    layers: list[Any] = list(lm.model.get_decoder().layers)
    if not all(p.is_floating_point() for layer in layers for p in layer.parameters()):
        raise ConfigError(
            "learn.shard needs a base in floats: FSDP2 cannot cut 4-bit weights. Leave it out "
            '(every process holds the 4-bit base), or set model.precision = "bf16"'
        )
    mesh = init_device_mesh(lm.device.type, (world.size,))
    whole = set() if lm.peft is None else set(lm.trainable().values())
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params=whole)
        # The losses of the ranks are parts of one sum.
        layer.set_gradient_divide_factor(1.0)
        layer.set_force_sum_reduction_for_comms(True)
    return layers

"""A causal transformers model as Turnhalle uses it: hidden states, head, adapter, one device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from turnhalle.envs.errors import ModelError
from turnhalle.kernels.head import LinearHead
from turnhalle.kernels.tree_attention import Tree

from .attention import install, reach
from .engines.attention import can_group, grouping

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from .engines.cache import SlotCache

_HEAD_TOLERANCE = 1e-3
"""Relative to the largest logit; a head that we compute otherwise than the model differs by far."""


class LanguageModel:
    """A model; LoRA layers, where there are any, are injected in place."""

    def __init__(self, model: PreTrainedModel, peft: PeftModel | None = None) -> None:
        self.model = model
        self.peft = peft
        self.config: Any = model.config.get_text_config()
        self._decoder: Any = model.get_decoder()
        self.head = LinearHead(
            model.get_output_embeddings(), getattr(self.config, "final_logit_softcapping", None)
        )
        """Logits `[..., V]` of hidden states `[..., H]`."""
        self._checkpointing: list[Any] = [
            module for module in model.modules() if hasattr(module, "gradient_checkpointing")
        ]
        self._windowed = _sliding_layers(self.config)
        self._can_group = can_group(self.config)
        self.notes: list[str] = []
        """What was done to the model to make it faster, for people."""
        self.no_trees = install(model, self.config)
        """Why `tree_states` cannot be asked of this architecture; empty where it can."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def num_layers(self) -> int:
        """Number of decoder layers."""
        return int(self.config.num_hidden_layers)

    @property
    def max_context(self) -> int:
        """Most positions that the model knows."""
        return int(self.config.max_position_embeddings)

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory of one token's keys and values over all layers."""
        heads: int = self.config.num_key_value_heads
        return 2 * self.num_layers * heads * self._head_dim * self.model.dtype.itemsize

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the base model, adapters left out."""
        return int(self.model.num_parameters(exclude_embeddings=False))

    @property
    def attention_width(self) -> int:
        """Numbers of a token's queries: all heads of a layer."""
        heads: int = self.config.num_attention_heads
        return heads * self._head_dim

    @property
    def layer_parameters(self) -> int:
        """Number of parameters of a decoder layer, on average."""
        return int(self.model.num_parameters(exclude_embeddings=True)) // self.num_layers

    @property
    def _head_dim(self) -> int:
        dim: int = getattr(self.config, "head_dim", None) or (
            self.config.hidden_size // self.config.num_attention_heads
        )
        return dim

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that training changes, by name, in a fixed order."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def hidden(
        self, token_ids: torch.Tensor, positions: torch.Tensor, cache: SlotCache, span: int
    ) -> torch.Tensor:
        """Hidden states `[B, Q, H]` of tokens appended to a cache.

        Args:
            token_ids: `[B, Q]`.
            positions: `[B, Q]` position of each token in its row.
            cache: Told by `select` which rows these are.
            span: Number of leading cache positions to attend to.
        """
        # transformers drops the cache wherever gradients are checkpointed.
        checkpointed = [m for m in self._checkpointing if m.gradient_checkpointing]
        # PyTorch's CUDA kernels take no mask with heads that share keys.
        is_single = token_ids.shape[1] == 1
        is_grouped = self._can_group and (is_single or self.device.type == "cpu")
        mask = self._mask(positions, span, is_added=is_grouped)
        try:
            for module in checkpointed:
                module.gradient_checkpointing = False
            with grouping(self.config) if is_grouped else nullcontext():
                output = self._decoder(
                    input_ids=token_ids,
                    position_ids=positions,
                    attention_mask=mask,
                    past_key_values=cache,
                    use_cache=True,
                )
        finally:
            for module in checkpointed:
                module.gradient_checkpointing = True
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    def hidden_states(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Hidden states `[B, T, H]` of right-padded sequences `[B, T]`, without a cache.

        No mask is needed: attention is causal, so no token sees the padding behind it.
        """
        hidden: torch.Tensor = self._decoder(input_ids=token_ids, use_cache=False).last_hidden_state
        return hidden

    def tree_states(self, token_ids: torch.Tensor, tree: Tree) -> torch.Tensor:
        """Hidden states `[N, H]` of a tree of tokens `[N]`: every branch's, each node once."""
        assert not self.no_trees, self.no_trees
        hidden: torch.Tensor = self._decoder(
            input_ids=token_ids[None],
            position_ids=tree.depth[None],
            attention_mask=self._by_layer(reach),
            tree=tree,
            use_cache=False,
        ).last_hidden_state
        return hidden[0]

    @torch.no_grad()
    def check_head(self) -> None:
        """Make sure that `head` is what the model itself does to its hidden states.

        Raises:
            ModelError: The architecture scales or changes its logits in a way unknown to us.
        """
        ids = torch.arange(8, device=self.device)[None] % self.config.vocab_size
        theirs = self.model(input_ids=ids, use_cache=False).logits.float()
        ours = self.head(self.hidden_states(ids)).float()
        if (theirs - ours).abs().max() > _HEAD_TOLERANCE * theirs.abs().max().clamp(min=1.0):
            raise ModelError(
                f"{type(self.model).__name__} computes its logits in a way that Turnhalle does not "
                "know (scaled or several heads?); its log-probs would be wrong"
            )

    def _mask(self, positions: torch.Tensor, span: int, is_added: bool) -> Any:
        """What each new token attends to, as booleans or as what is added to the scores."""
        keys = torch.arange(span, device=positions.device)
        full = keys[None, None, :] <= positions[:, :, None]

        def within(window: int | None) -> torch.Tensor:
            if window is None:
                return self._as_mask(full, is_added)
            inside = keys[None, None, :] > positions[:, :, None] - window
            return self._as_mask(full & inside, is_added)

        return self._by_layer(within)

    def _by_layer(self, mask: Callable[[int | None], Any]) -> Any:
        """Masks for windows, in the shape that the architecture takes."""
        if not self._windowed:
            return mask(None)
        if self._windowed == "all":
            return mask(self.config.sliding_window)
        return {
            "full_attention": mask(None),
            "sliding_attention": mask(self.config.sliding_window),
        }

    def _as_mask(self, allowed: torch.Tensor, is_added: bool) -> torch.Tensor:
        allowed = allowed[:, None]
        if not is_added and self.config._attn_implementation != "eager":
            return allowed
        floats = torch.zeros_like(allowed, dtype=self.model.dtype)
        return floats.masked_fill_(~allowed, torch.finfo(self.model.dtype).min)


def _sliding_layers(config: Any) -> str:
    """Which layers attend to a window only: "" for none, "some", or "all".

    Raises:
        ModelError: The architecture has layers that are no plain attention.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    if unknown := kinds - {"full_attention", "sliding_attention"}:
        raise ModelError(
            f"{config.model_type} has layers of kind {', '.join(sorted(unknown))}; "
            "the transformers engine knows full and sliding attention"
        )
    if kinds:
        return "some" if "sliding_attention" in kinds else ""
    return "all" if getattr(config, "sliding_window", None) else ""

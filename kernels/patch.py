"""Put the kernels into a transformers model, see what was replaced, and take them out again.

Only instances are changed, never a class: other models are untouched. A module is recognised by
what it computes, not by its name alone, and the patched model is compared with itself unpatched,
outputs and gradients, before it is handed back.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import torch

from .adapter import adapter_of
from .lora_linear import Layer, lora_linear
from .nf4 import Packed, packed
from .probe import Probe, difference, probe
from .rms_norm import add_rms_norm, rms_norm
from .rope import HeadNorm, rope
from .swiglu import Activation, swiglu, swiglu_reference

ARCHITECTURES = (
    "gemma", "gemma3_text", "llama", "mistral", "mixtral", "phi3", "qwen2", "qwen3", "qwen3_moe",
    "smollm3",
)  # fmt: skip
"""Values of `config.model_type` that were tried; a new one needs a look at its attention."""

HEAD_NORMS = ("q_norm", "k_norm")
"""What Qwen3 and Gemma 3 call the norms of their heads."""


class Patched:
    """What was replaced in a model, and the way back."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.replaced: dict[str, int] = {}
        """Number of modules by what they became."""
        self.left: dict[str, str] = {}
        """Parts of the decoder layers, and norms, that were left alone, with the reason."""
        self._modules: list[torch.nn.Module] = []

    def replace(self, module: torch.nn.Module, kind: str, forward: Callable[..., Any]) -> None:
        """Give one module another forward pass, which `torch.compile` calls and does not trace."""
        module.forward = MethodType(torch.compiler.disable(forward), module)
        self._modules.append(module)
        self.replaced[kind] = self.replaced.get(kind, 0) + 1

    def undo(self) -> None:
        """Take everything out again."""
        for module in self._modules:
            del module.forward
        self._modules.clear()
        self.replaced.clear()
        self.left.clear()

    def __str__(self) -> str:
        parts = [f"{count} x {kind}" for kind, count in sorted(self.replaced.items())]
        alike = Counter((name.rpartition(".")[2], why) for name, why in self.left.items())
        parts += [f"left {count} x {name} ({why})" for (name, why), count in alike.items()]
        return ", ".join(parts) or "nothing replaced"


def apply(model: Any, *, check: bool = True) -> Patched:
    """Replace norms, attention, MLPs and 4-bit layers with adapters by the ops of this package.

    Args:
        model: A causal transformers model, adapters already on it, its norms frozen.
        check: Compare outputs and gradients with the unpatched model, on 16 tokens.

    Raises:
        ValueError: The architecture is not known here, or the model is patched already.
        RuntimeError: The check failed; the model is as it was.
    """
    kind = model.config.get_text_config().model_type
    if kind not in ARCHITECTURES:
        raise ValueError(f"no kernels for {kind!r}; known are {', '.join(ARCHITECTURES)}")
    if any("forward" in vars(module) for module in model.modules()):
        raise ValueError("a module's forward is replaced already: patched before, or by hooks")
    before = probe(model) if check else None
    patched = Patched(model)
    for name, module in model.named_modules():
        _patch(patched, name, module, lambda: bool(model.is_gradient_checkpointing))
    _name_the_rest(patched, model)
    if before is not None and (wrong := _wrong_with(model, before)):
        patched.undo()
        raise RuntimeError(
            f"the kernels {wrong}; nothing was replaced. Please report it, with the GPU's name"
        )
    return patched


def _wrong_with(model: Any, before: Probe) -> str:
    """What a patched model does not do as before; empty where it does."""
    try:
        after = probe(model, before.scale)
    except Exception as error:  # of layers that are called in a way we do not know, anything
        return f"do not fit the model ({type(error).__name__}: {error})"
    differs = difference(before, after, model.get_input_embeddings().weight.dtype)
    return differs and f"change the model's {differs}"


def _name_the_rest(patched: Patched, model: Any) -> None:
    """Parts of the decoder layers that are still as they were, and nobody said why."""
    names = {module: name for name, module in model.named_modules()}
    for layer in model.get_decoder().layers:
        for part in layer.children():
            is_known = "forward" in vars(part) or names[part] in patched.left
            if not is_known and any(True for _ in part.parameters()):
                patched.left[names[part]] = f"{type(part).__name__} is not known"


def _patch(
    patched: Patched, name: str, module: torch.nn.Module, keep_weights: Callable[[], bool]
) -> None:
    if all(hasattr(module, part) for part in ("q_proj", "k_proj", "v_proj", "o_proj")):
        norms = [_norm_of(getattr(module, part, None)) for part in HEAD_NORMS]
        for part, norm in zip(HEAD_NORMS, norms, strict=True):
            if hasattr(module, part) and (norm is None or norm.weight.requires_grad):
                patched.left[name] = f"its {part} learns, or is no root-mean-square norm"
                return
        inputs = Stack(("q_proj", "k_proj", "v_proj"), keep_weights)
        outputs = Stack(("o_proj",), keep_weights)
        patched.replace(module, "attention", _attention(inputs, outputs, norms))
    elif all(hasattr(module, part) for part in ("gate_proj", "up_proj", "down_proj")):
        activation = _activation_of(module.act_fn)
        if activation is None:
            patched.left[name] = "its activation is neither silu nor gelu_tanh"
            return
        inputs = Stack(("gate_proj", "up_proj"), keep_weights)
        outputs = Stack(("down_proj",), keep_weights)
        patched.replace(module, "MLP", _mlp(inputs, outputs, activation))
    elif (norm := _norm_of(module)) is not None and not name.endswith(HEAD_NORMS):
        if norm.weight.requires_grad:
            patched.left[name] = "its weight learns"
            return
        patched.replace(module, "norm", lambda self, x: rms_norm(x, *_current(self, norm)))
    elif (second := _norm_after_attention(module)) is not None:
        patched.replace(module, "residual sum", _decoder_layer(second))


def _current(module: Any, norm: HeadNorm) -> HeadNorm:
    """The norm with the module's weight as it is now, which may have moved to a device."""
    return norm._replace(weight=module.weight)


class Stack:
    """Linear layers with the same input; one product of those that have an adapter.

    Their base must be in 4 bits, or on a CPU in floats.
    """

    def __init__(self, names: Sequence[str], keep_weights: Callable[[], bool]) -> None:
        self.names = names
        self.keep_weights = keep_weights
        self._bases: dict[str, tuple[Any, int, Packed]] = {}

    def __call__(self, owner: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Outputs of the owner's layers. Without gradients bitsandbytes and peft know best."""
        # Asked for at every call: an adapter may have come since.
        modules = {name: getattr(owner, name) for name in self.names}
        if not torch.is_grad_enabled():
            return tuple(module(x) for module in modules.values())
        found = {name: self._layer(name, m) for name, m in modules.items()}
        known = {name: layer for name, layer in found.items() if layer is not None}
        if not known:
            return tuple(module(x) for module in modules.values())
        outputs = lora_linear(x, list(known.values()), keep_weights=self.keep_weights())
        ours = dict(zip(known, outputs, strict=True))
        return tuple(ours[n] if n in ours else module(x) for n, module in modules.items())

    def _layer(self, name: str, module: Any) -> Layer | None:
        """What a peft layer on a frozen base computes; None if it computes anything else."""
        adapter = adapter_of(module)
        base = None if adapter is None else self._base(name, module.base_layer)
        if adapter is None or base is None:
            return None
        return Layer(base, *adapter, module.base_layer.bias)

    def _base(self, name: str, base: Any) -> Packed | torch.Tensor | None:
        """The weights of a frozen layer; None of one that the op does not know."""
        weight = base.weight
        if base.bias is not None and base.bias.requires_grad:
            return None
        if type(base) is torch.nn.Linear:
            floats: torch.Tensor = weight
            return None if floats.is_cuda or floats.requires_grad else floats
        if type(base).__name__ != "Linear4bit":
            return None
        if base.compute_dtype not in (None, weight.quant_state.dtype):
            return None
        where = weight.data_ptr()
        known = self._bases.get(name)
        if known is None or known[0] is not weight or known[1] != where:
            known = self._bases[name] = (weight, where, packed(weight))
        return known[2]


def _attention(inputs: Stack, outputs: Stack, norms: list[HeadNorm | None]) -> Callable[..., Any]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def forward(
        self: Any,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: Any = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, Any]:
        """As transformers, with heads turned before they are transposed."""
        shape = hidden_states.shape[:-1]
        heads = [t.view(*shape, -1, self.head_dim) for t in inputs(self, hidden_states)]
        if getattr(self, "use_rope", True):  # SmolLM3 has layers without positions
            for i, (part, norm) in enumerate(zip(HEAD_NORMS, norms, strict=True)):
                current = _current(getattr(self, part), norm) if norm is not None else None
                heads[i] = rope(heads[i], *position_embeddings, current)
        query, key, value = (t.transpose(1, 2) for t in heads)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        eager = sys.modules[type(self).__module__].eager_attention_forward
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager)
        window = getattr(self, "sliding_window", getattr(self.config, "sliding_window", None))
        dropout = self.attention_dropout if self.training else 0.0
        out, weights = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling,
            sliding_window=window, **kwargs,
        )  # fmt: skip
        (projected,) = outputs(self, out.reshape(*shape, -1))
        return projected, weights

    return forward


def _mlp(inputs: Stack, outputs: Stack, activation: Activation) -> Callable[..., Any]:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        gate, up = inputs(self, x)
        return outputs(self, swiglu(gate, up, activation))[0]

    return forward


def _decoder_layer(norm: HeadNorm) -> Callable[..., torch.Tensor]:
    """Two norms; the sum before the second is taken with it."""

    def forward(self: Any, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
        current = _current(self.post_attention_layernorm, norm)
        normal, total = add_rms_norm(attended, hidden_states, *current)
        out: torch.Tensor = total + self.mlp(normal)
        return out

    return forward


# ------------------------------------------------------------------------------- recognising


def _norm_after_attention(module: torch.nn.Module) -> HeadNorm | None:
    """The second norm of Llama's decoder layer; Gemma 3's has four norms and sums elsewhere."""
    names = {name for name, _ in module.named_children()}
    if names != {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}:
        return None
    norm = _norm_of(module.post_attention_layernorm)
    return None if norm is None or norm.weight.requires_grad else norm


def _norm_of(module: Any) -> HeadNorm | None:
    """Weight, eps and offset of a root-mean-square norm, found by trying it, or None."""
    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not isinstance(weight, torch.Tensor) or weight.ndim != 1 or eps is None:
        return None
    x = torch.linspace(-1.0, 2.0, len(weight), device=weight.device, dtype=weight.dtype)[None]
    with torch.no_grad():
        theirs = type(module).forward(module, x).float()
        for offset in (0.0, 1.0):
            ours = rms_norm(x, weight.detach(), eps, offset).float()
            if (ours - theirs).norm() <= 0.01 * theirs.norm():
                return HeadNorm(weight, eps, offset)
    return None


def _activation_of(function: Any) -> Activation | None:
    x = torch.linspace(-4.0, 4.0, 33)
    names: tuple[Activation, ...] = ("silu", "gelu_tanh")
    for name in names:
        if torch.allclose(function(x), swiglu_reference(x, torch.ones(33), name), atol=1e-6):
            return name
    return None

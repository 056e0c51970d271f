"""The model that is primed: where it begins, what of it is trained, and how it is saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from turnhalle.agents import adapters
from turnhalle.agents.chat import Chat, ChatOptions, load_chat
from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import SETTINGS_FILE, ModelOptions, Precision, load_model
from turnhalle.agents.quiet import Quiet
from turnhalle.envs.errors import ConfigError
from turnhalle.envs.seeding import derive_seed
from turnhalle.envs.tools.formats import from_canonical

from .demos import Demonstration
from .scratch import ScratchOptions, new_model, new_tokenizer
from .unused import refuse_unused


class AdapterOptions(BaseModel):
    """An adapter that is trained in the place of all weights."""

    model_config = ConfigDict(extra="forbid")

    rank: int | None = Field(None, ge=1)
    """LoRA's rank; None trains all weights."""
    alpha: int = Field(32, ge=1)
    """The adapter's update is scaled by alpha / rank."""
    precision: Precision = "auto"
    """How the frozen base is held; as `model.precision` of training."""
    start_from: str | None = None
    """Folder of an adapter to go on from, such as an earlier priming; None is a fresh one."""


class StartOptions(BaseModel):
    """What a priming begins with."""

    model_config = ConfigDict(extra="forbid")

    scratch: ScratchOptions | None = None
    """Make the model from nothing; None starts from `model`."""
    model: str = "tiny"
    """Folder or Hugging Face name of the model to start from."""
    adapter: AdapterOptions = AdapterOptions()
    """What is trained: by default all weights."""
    device: str = "auto"
    chat: ChatOptions = ChatOptions()
    seed: int = Field(0, ge=0)

    @property
    def start(self) -> Path | None:
        """The adapter to go on from."""
        return None if self.adapter.start_from is None else Path(self.adapter.start_from)

    @property
    def held(self) -> ModelOptions:
        """The model as it is trained."""
        adapter = self.adapter
        ranks = {} if adapter.rank is None else {"lora_rank": adapter.rank}
        precision: Precision = "fp32" if adapter.rank is None else adapter.precision
        return ModelOptions(
            name=self.model,
            precision=precision,
            device=self.device,
            lora_alpha=adapter.alpha,
            **ranks,
        )

    def check_start(self) -> None:
        """Refuse what does not go together.

        Raises:
            ConfigError: Says what, and the fix.
        """
        if self.adapter.rank is None:
            refuse_unused("adapter", self.adapter, set(), "adapter.rank unset")
        elif self.scratch is not None:
            raise ConfigError(
                "an adapter on a model of random weights learns little: leave adapter.rank out, or "
                "scratch"
            )


def begin(options: StartOptions, played: Sequence[Demonstration]) -> tuple[LanguageModel, Chat]:
    """The model to train, read or made from nothing, and how it is spoken to."""
    if options.scratch is None:
        chat = load_chat(options.model, options.chat)
        seed = None if options.adapter.rank is None else derive_seed("lora", options.seed)
        return load_model(options.held, adapter=options.start, lora_seed=seed), chat
    texts = [text for demo in played for text in _texts(demo, options.chat)]
    tokenizer = new_tokenizer(texts, options.scratch.vocabulary)
    seed = derive_seed("model", options.seed) % 2**31
    model = new_model(options.scratch, tokenizer, seed).eval()
    return LanguageModel(model), Chat(tokenizer, options.chat)


def save(lm: LanguageModel, chat: Chat, folder: Path) -> None:
    """Save the model, or the adapter on it."""
    folder.mkdir(parents=True, exist_ok=True)
    with Quiet():
        if lm.peft is not None:
            adapters.save(lm, folder)
            return
        lm.model.save_pretrained(folder)
        chat.tokenizer.save_pretrained(folder)
    settings = chat.options.model_dump_json(exclude={"chat_template"}, exclude_none=True, indent=2)
    (folder / SETTINGS_FILE).write_text(settings + "\n", encoding="utf-8")
    # Sampling is the business of whoever samples; a default of the model's would surprise.
    (folder / "generation_config.json").unlink(missing_ok=True)


def load_saved(options: StartOptions, folder: Path) -> tuple[LanguageModel, Chat]:
    """What was saved, held as training will hold it: a model in NF4, an adapter on its base."""
    if options.adapter.rank is not None:
        return load_model(options.held, adapter=folder), load_chat(options.model, options.chat)
    held = ModelOptions(name=str(folder), precision="nf4", device=options.device)
    return load_model(held), load_chat(str(folder), ChatOptions())


def _texts(demo: Demonstration, chat: ChatOptions) -> list[str]:
    texts = [message.content for message in demo.opening if message.role != "system"]
    for exchange in demo.exchanges:
        format = chat.tool_format or "hermes"
        texts.append(from_canonical(exchange.action, format, demo.tools))
        texts += [message.content for message in exchange.answer]
    return texts

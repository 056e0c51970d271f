"""The policy that training started from: the base, or a frozen copy of the starting adapter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from turnhalle.agents.lm import LanguageModel

_NAME = "reference"


class Reference:
    """The same base without its adapter, or with the one that training started from."""

    def __init__(self, lm: LanguageModel, start: Path | None) -> None:
        """Prepare the reference.

        Args:
            lm: The model that is trained.
            start: Folder of the adapter that training started from; None is the bare base.
        """
        assert lm.peft is not None
        self._peft = lm.peft
        self._trained = str(lm.peft.active_adapter)
        self._has_adapter = start is not None
        if start is not None:
            lm.peft.load_adapter(str(start), _NAME, is_trainable=False)
            lm.peft.set_adapter(self._trained)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Within the block the model is the reference."""
        if not self._has_adapter:
            with self._peft.disable_adapter():
                yield
            return
        self._peft.set_adapter(_NAME)
        try:
            yield
        finally:
            self._peft.set_adapter(self._trained)

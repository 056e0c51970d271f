"""Keeps libraries from talking over the run."""

from __future__ import annotations

import logging

from transformers.utils import logging as transformers_logging

_TALKATIVE = ("bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions")
"""Loggers that warn of what does not concern us: bitsandbytes misses an optional CPU kernel, and
says at every int8 layer that it rounds."""


class Quiet:
    """Silences progress bars and advice while models are read and written."""

    def __enter__(self) -> None:
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._level = transformers_logging.get_verbosity()
        self._bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        transformers_logging.set_verbosity(self._level)
        if self._bars:
            transformers_logging.enable_progress_bar()

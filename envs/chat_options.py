"""Options of an OpenAI-compatible endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .errors import ConfigError


class ChatOptions(BaseModel):
    """Which endpoint, and how patiently it is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    """The base URL, up to and with the version: `http://localhost:8000/v1`."""
    model: str
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; a key itself is never configuration."""
    timeout_s: float = Field(60.0, gt=0)
    """Most seconds that one attempt may take, even if the server dribbles its reply."""
    retries: int = Field(5, ge=0, le=20)
    backoff_s: float = Field(0.5, ge=0)
    """Seconds before the first retry; twice as long before each further one, up to 30, and at
    least what the server asks for (`Retry-After`)."""
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(512, ge=1)
    cache: Path | None = None
    """Folder of replies to equal requests; None asks anew each time."""
    schema_fallback: bool = False
    """Put the schema into the prompt where the endpoint refuses `response_format`."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("an endpoint's url begins with http:// or https://")
        return url.rstrip("/")

    @classmethod
    def of(cls, **options: Any) -> ChatOptions:
        """Options from keywords.

        Raises:
            ConfigError: One is missing, unknown or out of its range.
        """
        try:
            return cls(**options)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            known = ", ".join(cls.model_fields)
            raise ConfigError(
                f"endpoint option {name!r}: {first['msg']}, got {first['input']!r}. Known: {known}"
            ) from error

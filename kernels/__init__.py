"""Arithmetic: one op a file; `apply` puts them into a transformers model."""

from .patch import Patched, apply

__all__ = ["Patched", "apply"]

"""Worlds: the environment contract, the registry, and the built-in families."""

"""Arithmetic: one op a file."""

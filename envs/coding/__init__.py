"""Coding tasks: code is tried in a sandbox, and graded here."""

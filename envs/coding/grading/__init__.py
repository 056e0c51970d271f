"""Grading in the host: a sandbox gives data, and what they are worth is decided here."""

"""Losses: functions of the loss rows and of nothing else; one idea a file.

Symbols of this package: M loss rows, one a sampled token.
"""

"""Readable code, as a real linter sees it: ruff.

Paid only to code that passes, so that no prettiness makes up for a wrong result. What ruff finds
is counted, not divided by the length: padding dilutes nothing. Comments that switch rules off are
ignored. Ruff reads the code and never runs it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess

from ..errors import ConfigError, RewardError
from .base import Fixture, Reward, Sample, Score

_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)
_RULES = "E,W,F,N,B,SIM,C4,C90,RET,PIE,UP,PLR0911,PLR0912,PLR0913,PLR0915,PLR1714,PLR5501"
_ALLOWANCE = 10
"""So many findings and nothing is left."""
_MAX_CHARACTERS = 100_000
_TIMEOUT_S = 10.0


class Readability(Reward):
    """1 for code in which ruff finds nothing, 0.1 less for each finding.

    The code is the action, or its last fenced block. Reads `info["passed"]`: did the code pass its
    tests? 0 where it did not; silent where nobody knows. Needs `pip install 'turnhalle[rewards]'`.
    """

    name = "readability"

    def score(self, sample: Sample) -> Score:
        """From 0 to 1."""
        if "passed" not in sample.info:
            return None
        code = code_of(sample.action)
        if sample.info["passed"] is not True or not code.strip() or len(code) > _MAX_CHARACTERS:
            return 0.0
        try:
            data = code.encode()
        except UnicodeEncodeError:
            return 0.0
        findings = lint(data)
        if "invalid-syntax" in findings:
            return 0.0
        return max(0.0, 1 - len(findings) / _ALLOWANCE)

    def fixtures(self) -> list[Fixture]:
        """Clean, ugly, clean but failing, no code, and nobody knows whether it passes."""
        passed, clean = {"passed": True}, "def double(value):\n    return 2 * value\n"
        ugly = "import os, sys;l=1\n" * 6
        return [
            Fixture.of("full", Sample(clean, info=passed), 1.0),
            Fixture.of("full", Sample(f"Here:\n```python\n{clean}```", info=passed), 1.0),
            Fixture.of("zero", Sample(ugly, info=passed), 0.0),
            Fixture.of("zero", Sample("# ruff: noqa\n" + ugly, info=passed), 0.0),
            Fixture.of("zero", Sample(clean, info={"passed": False}), 0.0),
            Fixture.of("malformed", Sample("Sorry, I cannot.", info=passed), 0.0),
            Fixture.of("malformed", Sample(clean), None),
        ]


def code_of(text: str) -> str:
    """The last fenced block, or all of the text."""
    blocks = _FENCE.findall(text)
    return str(blocks[-1]) if blocks else text


def lint(code: bytes) -> list[str]:
    """The rules that ruff finds broken, one entry a finding.

    Raises:
        ConfigError: Ruff is not installed.
        RewardError: Ruff failed.
    """
    command = [_ruff(), "check", "--isolated", "--no-cache", "--ignore-noqa", "--quiet"]
    command += ["--target-version", "py311", "--line-length", "100", "--select", _RULES]
    command += ["--output-format", "json", "--stdin-filename", "answer.py", "-"]
    try:
        done = subprocess.run(command, input=code, capture_output=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise RewardError(f"ruff took more than {_TIMEOUT_S:g} s") from error
    if done.returncode not in (0, 1):
        raise RewardError(f"ruff failed: {done.stderr.decode(errors='replace').strip()[:300]}")
    return [str(finding["code"]) for finding in json.loads(done.stdout)]


def _ruff() -> str:
    if importlib.util.find_spec("ruff") is None:
        raise ConfigError("readability needs ruff: pip install 'turnhalle[rewards]'")
    from ruff import find_ruff_bin

    return str(find_ruff_bin())

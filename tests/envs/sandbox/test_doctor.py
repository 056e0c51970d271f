"""The doctor sees what is broken: walls are taken away, and their attacks must find the hole."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from typer.testing import CliRunner

from turnhalle.envs.sandbox import bubblewrap
from turnhalle.envs.sandbox.doctor import Examination, Finding, examine
from turnhalle.envs.sandbox.options import SandboxOptions, TierName
from turnhalle.envs.sandbox.pool import PooledSandbox
from turnhalle.envs.sandbox.properties import PROPERTIES

OPTIONS = SandboxOptions()


def broken(found: Examination) -> set[str]:
    assert not found.unavailable, found.unavailable
    return {each.property for each in found.findings if each.verdict == "BROKEN"}


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Leave only the properties named, so that an attack that would succeed is one of those."""

    def choose(*names: str) -> None:
        chosen = tuple(each for each in PROPERTIES if each.name in names)
        assert len(chosen) == len(names)
        monkeypatch.setattr("turnhalle.envs.sandbox.doctor.PROPERTIES", chosen)

    return choose


@pytest.mark.parametrize("tier", ["bubblewrap", "landlock"])
def test_every_property_that_a_tier_claims_holds(tier: TierName, need_tier: Any) -> None:
    need_tier(tier)
    found = examine(tier, OPTIONS)
    assert broken(found) == set(), found
    assert found.is_sound
    claimed = {each.property for each in found.findings if each.verdict == "holds"}
    assert {"no network", "no files of the host", "no forbidden system calls"} <= claimed
    if tier == "bubblewrap" and not found.gaps:
        assert len(claimed) == len(PROPERTIES)


def test_a_filter_that_is_missing_is_found(
    only: Any, monkeypatch: pytest.MonkeyPatch, need_tier: Any
) -> None:
    need_tier("bubblewrap")
    only("no forbidden system calls", "nobody's rights")
    real = bubblewrap.guest_config
    monkeypatch.setattr(
        bubblewrap, "guest_config", lambda **config: real(**config | {"seccomp": None})
    )
    assert broken(examine("bubblewrap", OPTIONS)) == {
        "no forbidden system calls",
        "nobody's rights",
    }


def test_capabilities_that_are_kept_are_found(
    only: Any, monkeypatch: pytest.MonkeyPatch, need_tier: Any
) -> None:
    need_tier("bubblewrap")
    only("nobody's rights", "no rights to be had", "no network")
    real = bubblewrap.guest_config
    monkeypatch.setattr(
        bubblewrap,
        "guest_config",
        lambda **config: real(**config | {"drop_capabilities": False}),
    )
    assert broken(examine("bubblewrap", OPTIONS)) == {"nobody's rights", "no rights to be had"}


def test_namespaces_that_are_shared_are_found(
    only: Any, monkeypatch: pytest.MonkeyPatch, need_tier: Any
) -> None:
    need_tier("bubblewrap")
    only("nothing is left for the next run")
    real = bubblewrap.guest_config
    monkeypatch.setattr(
        bubblewrap,
        "guest_config",
        lambda **config: real(**config | {"namespaces": False, "seccomp": None}),
    )
    # What is left makes the pool replace the box, which would be enough: not this time.
    discard = PooledSandbox._discard
    monkeypatch.setattr(
        PooledSandbox,
        "_discard",
        lambda sandbox, slot: discard(sandbox, slot) if sandbox._is_closed else None,
    )
    assert broken(examine("bubblewrap", OPTIONS)) == {"nothing is left for the next run"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can forget to become somebody else")
def test_a_box_of_roots_is_found(
    only: Any, monkeypatch: pytest.MonkeyPatch, need_tier: Any
) -> None:
    need_tier("bubblewrap")
    only("nobody's rights")
    monkeypatch.setattr("turnhalle.envs.sandbox.bubblewrap.os.geteuid", lambda: 1)
    assert broken(examine("bubblewrap", OPTIONS)) == {"nobody's rights"}


def test_a_root_that_is_the_hosts_is_found(
    only: Any, monkeypatch: pytest.MonkeyPatch, need_tier: Any
) -> None:
    need_tier("bubblewrap")
    only("no files of the host")
    real = bubblewrap.BubblewrapTier.argv

    def argv(tier: bubblewrap.BubblewrapTier, uid: int | None) -> list[str]:
        walls = real(tier, uid)
        end = walls.index("--remount-ro")
        return [*walls[:end], "--ro-bind", "/tmp", "/tmp", *walls[end + 2 :]]

    monkeypatch.setattr(bubblewrap.BubblewrapTier, "argv", argv)
    real_config = bubblewrap.guest_config
    monkeypatch.setattr(
        bubblewrap, "guest_config", lambda **config: real_config(**config | {"namespaces": False})
    )
    assert broken(examine("bubblewrap", OPTIONS)) == {"no files of the host"}


def test_an_environment_that_leaks_is_found(
    only: Any, monkeypatch: pytest.MonkeyPatch, need_tier: Any
) -> None:
    need_tier("bubblewrap")
    only("no environment of the host")
    real = bubblewrap.BubblewrapTier.argv
    with open("/proc/self/environ", encoding="utf-8") as file:
        name, _, value = max(file.read().split("\0"), key=len).partition("=")

    def argv(tier: bubblewrap.BubblewrapTier, uid: int | None) -> list[str]:
        walls = real(tier, uid)
        end = walls.index("--")
        return [*walls[:end], "--setenv", name, value, *walls[end:]]

    monkeypatch.setattr(bubblewrap.BubblewrapTier, "argv", argv)
    assert broken(examine("bubblewrap", OPTIONS)) == {"no environment of the host"}


def test_the_command_prints_a_table_or_json_and_fails_for_what_is_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from turnhalle.cli import app

    finding = Finding("bubblewrap", "no network", "BROKEN", "a service of the host", 0.1)
    monkeypatch.setattr(
        "turnhalle.envs.sandbox.doctor.examine",
        lambda tier, options: Examination(tier, "", ("a gap",), (finding,)),
    )
    table = CliRunner().invoke(app, ["sandbox", "doctor", "--tier", "bubblewrap"])
    assert table.exit_code == 1
    assert all(text in table.output for text in ("BROKEN", "no network", "a gap", "a service"))
    lines = CliRunner().invoke(app, ["sandbox", "doctor", "--tier", "bubblewrap", "--json"])
    assert lines.exit_code == 1
    assert json.loads(lines.output)["is_sound"] is False
    unknown = CliRunner().invoke(app, ["sandbox", "doctor", "--tier", "bubblewarp"])
    assert "bubblewrap" in str(unknown.exception)

"""Which sandbox is opened, and who is told why none was."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from turnhalle.envs.errors import ConfigError, SandboxUnavailableError
from turnhalle.envs.sandbox import landlock, unsafe
from turnhalle.envs.sandbox import options as options_module
from turnhalle.envs.sandbox.core import PER_PROCESS, Program, Status
from turnhalle.envs.sandbox.options import SandboxOptions, open_sandbox


def without(*names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = options_module.make_tier

    def make(name: Any, options: SandboxOptions) -> Any:
        if name in names:
            raise SandboxUnavailableError(f"{name} was taken away")
        return real(name, options)

    monkeypatch.setattr(options_module, "make_tier", make)


def test_auto_never_goes_down_to_what_does_not_contain(
    monkeypatch: pytest.MonkeyPatch, allow_unsafe: None
) -> None:
    without("bubblewrap", "docker", monkeypatch=monkeypatch)
    with pytest.raises(SandboxUnavailableError) as caught:
        open_sandbox(SandboxOptions(allow_unsafe=True))
    for text in (
        "bubblewrap was taken away",
        "docker was taken away",
        "apt-get install bubblewrap",
    ):
        assert text in str(caught.value)


def test_the_error_for_one_tier_names_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnhalle.envs.sandbox.bubblewrap.shutil.which", lambda name: None)
    with pytest.raises(SandboxUnavailableError, match="bwrap is not installed") as caught:
        open_sandbox(SandboxOptions(tier="bubblewrap"))
    assert "- docker" not in str(caught.value)


def test_an_old_bwrap_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho bubblewrap 0.4.1\n")
    fake.chmod(0o755)
    monkeypatch.setattr("turnhalle.envs.sandbox.bubblewrap.shutil.which", lambda name: str(fake))
    with pytest.raises(SandboxUnavailableError, match=r"0\.4\.1.*0\.5"):
        open_sandbox(SandboxOptions(tier="bubblewrap"))


def test_a_bwrap_that_cannot_make_namespaces_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo bubblewrap 0.8.0 && exit\n"
        "echo no userns >&2\nexit 1\n"
    )
    fake.chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setattr("turnhalle.envs.sandbox.bubblewrap.shutil.which", lambda name: str(fake))
    monkeypatch.setattr("turnhalle.envs.sandbox.bubblewrap.os.geteuid", lambda: 1)
    with pytest.raises(SandboxUnavailableError, match="no userns"):
        open_sandbox(SandboxOptions(tier="bubblewrap"))


def test_an_old_landlock_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnhalle.envs.sandbox.guest.linux.landlock_abi", lambda: 4)
    with pytest.raises(SandboxUnavailableError, match="version 4 of Landlock"):
        open_sandbox(SandboxOptions(tier="landlock"))


@pytest.mark.parametrize(("option", "variable"), [(False, "1"), (True, None), (True, "yes")])
def test_unsafe_needs_option_and_variable(
    option: bool, variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(unsafe.VARIABLE, raising=False)
    if variable:
        monkeypatch.setenv(unsafe.VARIABLE, variable)
    with pytest.raises(ConfigError, match=unsafe.VARIABLE):
        open_sandbox(SandboxOptions(tier="unsafe", allow_unsafe=option))


def test_unsafe_warns_once_and_every_record_says_so(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv(unsafe.VARIABLE, "1")
    monkeypatch.setattr(unsafe, "_has_warned", False)
    for _ in range(2):
        with open_sandbox(SandboxOptions(tier="unsafe", allow_unsafe=True, slots=1)) as sandbox:
            result = sandbox.run(Program("print(1)"))
    assert len([each for each in recwarn if "contains nothing" in str(each.message)]) == 1
    assert result.isolation.tier == "unsafe"
    assert result.isolation.gaps


def test_an_interpreter_that_lacks_what_it_needs_is_named(allow_unsafe: None) -> None:
    with pytest.raises(SandboxUnavailableError, match=r"/bin/false.*python="):
        open_sandbox(SandboxOptions(tier="landlock", python="/bin/false"))


def test_modules_can_be_preloaded(allow_unsafe: None) -> None:
    options = SandboxOptions(tier="unsafe", allow_unsafe=True, slots=1, preload=["wave"])
    with open_sandbox(options) as sandbox:
        result = sandbox.run(Program("import sys; print('wave' in sys.modules)"))
    assert (result.status, result.stdout) == (Status.OK, "True\n")


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValidationError):
        SandboxOptions(slot=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("cgroups", [{}, {"": "/sys/fs/cgroup/own"}])
def test_landlock_says_that_memory_is_limited_per_process_where_there_is_no_cgroup(
    uid: int, cgroups: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnhalle.envs.sandbox.guest.linux.landlock_abi", lambda: landlock.MIN_ABI)
    monkeypatch.setattr(landlock, "homes", lambda: cgroups)
    monkeypatch.setattr("turnhalle.envs.sandbox.landlock.os.geteuid", lambda: uid)
    monkeypatch.setattr(landlock, "Keeper", lambda: None)
    monkeypatch.setattr(landlock, "program", lambda allows_network: b"")
    gaps = landlock.LandlockTier(SandboxOptions()).isolation.gaps
    assert (PER_PROCESS in gaps) is (not cgroups)
    assert ("processes run as your own user, and are counted late" in gaps) is bool(uid)

"""Symbolic equality: right, deterministic, killable, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnhalle.envs.errors import ConfigError
from turnhalle.envs.math import normal, worker
from turnhalle.envs.math.grading import RULES, Verdict, judge
from turnhalle.envs.math.grammar import GrammarError, parse

from .test_grading import ATTACKS

SYMBOLIC = RULES["symbolic"]


def hard(variable: str) -> tuple[str, str]:
    """An answer and a gold that only sympy knows to be equal."""
    return f"abs({variable}^2-1)", f"abs({variable}-1)*abs({variable}+1)"


# Morrie's law: true, but a proof by expansion has 2**14 terms.
HARD = (
    "*".join(f"cos({2**n}x)" for n in range(14)),
    "sin(16384x)/(16384sin(x))",
)


@pytest.fixture(autouse=True, scope="module")
def _closed() -> Iterator[None]:
    yield
    worker.close()
    assert worker.process_id() is None


@pytest.mark.parametrize(
    ("answer", "gold", "is_equal"),
    [
        ("sin(x)^2 + cos(x)^2", "1", True),
        ("sqrt(3+2*sqrt(2))", "1+sqrt(2)", True),
        ("2^(1/3)*2^(2/3)", "2", True),
        ("\\sqrt[3]{8}", "2", True),
        ("\\sin(2x)", "2\\sin(x)\\cos(x)", True),
        ("log(6)", "log(2)+log(3)", True),
        ("sqrt(x^2)", "abs(x)", True),
        ("exp(x)*exp(y)", "exp(x+y)", True),
        ("sin(pi/6)", "1/2", True),
        ("cos(x)+cos(2x)+cos(3x)", "sin(7x/2)/(2sin(x/2))-1/2", True),
        ("sin(32x)^2+cos(32x)^2", "1", True),
        ("sin(x)", "x", False),
        ("sin(x)^2 - cos(x)^2", "1", False),
        ("log(6)", "log(2)*log(3)", False),
        ("log(0)", "1", False),
        ("tan(pi/2)", "1", False),
        ("sqrt(100000000000000000000000001)", "10000000000000", False),
    ],
)
def test_equality_is_that_of_functions(answer: str, gold: str, is_equal: bool) -> None:
    expected = Verdict.RIGHT if is_equal else Verdict.WRONG
    assert judge(f"#### {answer}", gold, SYMBOLIC) is expected


@pytest.mark.parametrize("gold", ["1", "sin(x)"])
def test_attacks_on_the_slow_path_fail_in_time(gold: str) -> None:
    for attack in ATTACKS:
        started, spent = time.monotonic(), time.process_time()
        assert judge(f"\\boxed{{{attack}}}", gold, SYMBOLIC) is not Verdict.RIGHT, attack
        assert time.process_time() - spent < 1, attack
        assert time.monotonic() - started < 30, attack


def test_a_question_that_is_too_hard_ends_the_process_and_the_next_one_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker.close()
    monkeypatch.setattr(worker, "CPU_S", 0.2)
    try:
        assert judge(HARD[0], HARD[1], SYMBOLIC) is Verdict.WRONG
        assert worker.process_id() is None
        assert judge(*hard("y"), SYMBOLIC) is Verdict.RIGHT
    finally:
        worker.close()


def test_a_process_that_died_or_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(*hard("z"), SYMBOLIC) is Verdict.RIGHT
    first = worker.process_id()
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    monkeypatch.setattr(worker, "WALL_S", 0.2)
    assert judge(*hard("t"), SYMBOLIC) is Verdict.WRONG
    monkeypatch.undo()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert judge(*hard("u"), SYMBOLIC) is Verdict.RIGHT


@pytest.mark.parametrize("question", [hard("x"), HARD], ids=["idle", "busy"])
def test_nothing_survives_a_killed_parent(question: tuple[str, str]) -> None:
    code = (
        "import os, signal, threading, time\n"
        "from turnhalle.envs.math import worker\n"
        "from turnhalle.envs.math.grading import RULES, judge\n"
        f"question = {question!r}\n"
        "arguments = (*question, RULES['symbolic'])\n"
        "threading.Thread(target=judge, args=arguments, daemon=True).start()\n"
        "while worker.process_id() is None: time.sleep(0.01)\n"
        "time.sleep(0.8)\n"  # to import sympy, and to begin
        "print(worker.process_id(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    child = int(done.stdout)
    for _ in range(600):
        if not os.path.exists(f"/proc/{child}"):
            return
        time.sleep(0.05)
    pytest.fail(f"process {child} lives on")


def test_a_forked_child_starts_its_own() -> None:
    assert judge(*hard("v"), SYMBOLIC) is Verdict.RIGHT
    ours = worker.process_id()
    code = (
        "import os\n"
        "from turnhalle.envs.math import worker\n"
        "from turnhalle.envs.math.grading import RULES, judge\n"
        "S = RULES['symbolic']\n"
        f"assert judge(*{hard('x')}, S) == 'right'\n"
        "ours = worker.process_id()\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    assert worker.process_id() is None\n"
        f"    assert judge(*{hard('y')}, S) == 'right'\n"
        "    assert worker.process_id() != ours\n"
        "    worker.close()\n"
        "    os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        f"assert judge(*{hard('z')}, S) == 'right'\n"
        "assert worker.process_id() == ours\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    assert worker.process_id() == ours


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("2x+\\cos(x)-\\sin(y)", "cos(x)-sin(y)+2*x"),
        ("sqrt(x)*3", "3x^(1/2)"),
        ("ln(2x+x)/2", "log(3x)*1/2"),
        ("sin((x+1)^2)", "sin(x^2+2x+1)"),
        ("2^x*3", "3*2^x"),
        ("sqrt(10000000000000000000003)+1", "1+sqrt(10000000000000000000003)"),
        ("abs(-x)-abs(-x)+1", "1"),
    ],
)
def test_what_is_the_same_in_other_order_needs_no_process(left: str, right: str) -> None:
    worker.close()
    assert judge(left, right, SYMBOLIC) is Verdict.RIGHT
    assert worker.process_id() is None


def test_a_divisor_that_may_be_zero_is_for_sympy() -> None:
    nothing = "(sin(x)^2+cos(x)^2-1)"
    assert judge(f"7{nothing}/{nothing}", "7", SYMBOLIC) is Verdict.WRONG
    assert judge(f"0/{nothing}", "0", SYMBOLIC) is Verdict.WRONG
    assert judge(f"{nothing}^-1*{nothing}", "1", SYMBOLIC) is Verdict.WRONG
    assert judge("sin(x)/cos(x)", "tan(x)", SYMBOLIC) is Verdict.RIGHT


def test_without_sympy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    worker.close()
    monkeypatch.setattr(worker, "_SCRIPT", "/nowhere/else.py")
    with pytest.raises(ConfigError, match=r"turnhalle\[math\]"):
        judge(*hard("w"), SYMBOLIC)
    assert worker.process_id() is None


LEAVES = st.sampled_from(["x", "y", "2", "3", "sqrt(2)", "sqrt(6)", "pi", "i", "1/3", "sqrt(3/4)"])
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]}){t[1]}({t[2]})"),
        inner.map(lambda text: f"({text})^2"),
    ),
    max_leaves=6,
)


@given(EXPRESSIONS, EXPRESSIONS)
@settings(max_examples=60, deadline=None)
def test_normal_forms_agree_with_sympy(left: str, right: str) -> None:
    pairs: list[tuple[str, str]] = [
        (left, right),
        (f"({left})*({right})", f"({right})*({left})"),
        (f"({left}+{right})^2", f"({left})^2+2*({left})*({right})+({right})^2"),
    ]
    for first, second in pairs:
        a, b = parse(first), parse(second)
        try:
            ours = normal.are_equal(a, b)
        except GrammarError:
            continue  # division by zero
        assert ours == worker.are_equal(a, b), (first, second)

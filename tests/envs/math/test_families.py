"""Every family: true answers, true work, no zero golds, enough tasks, and mutations that fail."""

from __future__ import annotations

import random
import re
from datetime import date, timedelta
from fractions import Fraction

import pytest

import turnhalle as th
from turnhalle.envs.families import require_variety
from turnhalle.envs.math.families import FAMILIES
from turnhalle.envs.math.families.stories import story
from turnhalle.envs.math.grading import RULES, Verdict, is_right, judge
from turnhalle.envs.math.grammar import parse
from turnhalle.envs.math.normal import are_equal
from turnhalle.envs.math.problem import RuledProblem
from turnhalle.envs.math.rationals import calculate
from turnhalle.envs.tasks import SPLITS, canonical

DIFFICULTIES = {1: 60, 2: 60, 3: 60, 5: 40, 9: 20, 100: 3}
"""Problems to draw by difficulty."""


def problems(family: str) -> list[RuledProblem]:
    rng = random.Random(0)
    return [FAMILIES[family](rng, d) for d, count in DIFFICULTIES.items() for _ in range(count)]


def mutations(gold: str) -> set[str]:
    """Wrong answers that look like the gold."""
    flipped = gold[1:] if gold.startswith("-") else f"-{gold}"
    neighbours = {
        gold[: m.start()] + str(int(m[0]) + by) + gold[m.end() :]
        for m in re.finditer(r"\d+", gold)
        for by in (-1, 1)
    }
    longer = {f"{gold}0", f"{gold}7", f"7{gold}", f"x{gold}", f"{gold} or 7", f"7, {gold}"}
    return {flipped, gold[:-1], "", gold * 2, *neighbours, *longer} - {gold}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gold_is_right_and_its_mutations_are_not(family: str) -> None:
    for drawn in problems(family):
        gold, rule = drawn["answer"], RULES[drawn["rule"]]
        assert is_right(f"{drawn['work']} #### {gold}", gold, rule), drawn
        assert is_right(f"\\boxed{{{gold}}}", gold, rule), drawn
        assert is_right(f"<answer>\n{gold} </answer>", gold, rule), drawn
        for wrong in mutations(gold):
            assert not is_right(f"#### {wrong}", gold, rule), (wrong, drawn)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_part_of_a_question_is_its_answer(family: str) -> None:
    """To copy pays nothing: neither the whole question nor an expression in it."""
    for drawn in problems(family):
        question, rule = drawn["question"], RULES[drawn["rule"]]
        parts = {question, question.rstrip("."), re.sub(r"^[^:]*: |^Compute |\.$", "", question)}
        parts |= set(re.findall(r"\S+ [-+*/^] \S+(?: [-+*/^] \S+)*", question))
        for part in parts:
            assert judge(f"#### {part}", drawn["answer"], rule) is not Verdict.RIGHT, (part, drawn)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_worked_equation_holds(family: str) -> None:
    for drawn in problems(family):
        for equation in drawn["work"].split():
            left, right = equation.split("=")
            if len(left) < 900:
                assert calculate(left) == calculate(right), equation


@pytest.mark.parametrize("family", FAMILIES)
def test_splits_are_disjoint_and_large_enough(family: str) -> None:
    env = th.make("mathproblems", families=[family])
    require_variety(env, env.difficulty)
    seen: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split in SPLITS:
        for task in range(60):
            env.reset(options={"split": split, "task": task})
            seen[split].add(canonical(env.instance))
        assert len(seen[split]) >= 30, (split, len(seen[split]))
    assert not seen["train"] & seen["eval"]
    assert not seen["train"] & seen["test"]
    assert not seen["eval"] & seen["test"]


@pytest.mark.parametrize("family", FAMILIES)
def test_difficulty_makes_questions_harder(family: str) -> None:
    def size(difficulty: int) -> int:
        rng = random.Random(1)
        drawn = [FAMILIES[family](rng, difficulty) for _ in range(300)]
        return sum(len(re.findall(r"\d", p["question"] + p["work"] + p["answer"])) for p in drawn)

    assert size(1) < size(3) < size(5)


@pytest.mark.parametrize("family", ["arithmetic", "chain", "expression", "fraction"])
def test_expressions_have_the_value_that_python_finds(family: str) -> None:
    for drawn in problems(family):
        text = re.sub(r"^Compute |\..*$", "", drawn["question"])
        exact = re.sub(r"\d+", r"Fraction(\g<0>)", text)
        assert eval(exact) == Fraction(drawn["answer"]), drawn


def test_solutions_of_equations_solve_them() -> None:
    for drawn in problems("linear"):
        left, right = drawn["question"].removeprefix("Solve for x: ").split(" = ")
        sides = [side.replace("x", f"*({drawn['answer']})") for side in (left, right)]
        sides = [re.sub(r"(^|[ -])\*", r"\g<1>1*", side) for side in sides]
        assert eval(sides[0]) == eval(sides[1]), drawn
    for drawn in problems("system"):
        x, y = (int(part) for part in drawn["answer"].split(","))
        text = drawn["question"].removeprefix("Solve ").removesuffix(". Answer as: x, y")
        for equation in text.split(" and "):
            left, right = equation.split(" = ")
            left = left.replace("x", f"*({x})").replace("y", f"*({y})")
            assert eval(re.sub(r"(^|[ -])\*", r"\g<1>1*", left)) == int(right), drawn


def test_expansions_and_roots_equal_what_was_asked() -> None:
    for family in ("expand", "root"):
        for drawn in problems(family):
            asked = drawn["question"].partition(": ")[2]
            if len(asked) < 150:
                assert are_equal(parse(asked), parse(drawn["answer"])), drawn


def test_a_derivative_is_the_limit_of_slopes() -> None:
    for drawn in [d for d in problems("derivative") if len(d["question"]) < 150]:
        asked = drawn["question"].partition(": ")[2]
        at = [f"({text})" for text in ("5", "5+1/10^30")]
        low, high = (calculate(multiplied(asked, x)) for x in at)
        slope = (high - low) * 10**30
        assert abs(slope - calculate(multiplied(drawn["answer"], "(5)"))) < Fraction(1, 1000)


def multiplied(polynomial: str, x: str) -> str:
    return re.sub(r"(\d)x", r"\1*x", polynomial).replace("x", x)


def test_numbers_are_written_in_their_base() -> None:
    for drawn in problems("base"):
        digits, old, new = re.findall(
            r"Write (\w+) \(base (\d+)\) in base (\d+)", drawn["question"]
        )[0]
        assert int(digits, int(old)) == int(drawn["answer"], int(new))


def test_dates_are_those_of_the_calendar() -> None:
    for drawn in problems("dates"):
        question, answer = drawn["question"], drawn["answer"]
        days = [date.fromisoformat(text) for text in re.findall(r"\d{4}-\d\d-\d\d", question)]
        if question.startswith("How many"):
            assert (days[1] - days[0]).days == int(answer)
        elif question.startswith("Which"):
            count = int(re.findall(r"is (\d+) days", question)[0])
            assert str(days[0] + timedelta(count)) == answer
        else:
            assert f"{days[0]:%A}" in question
            assert f"{days[1]:%A}" == answer


def test_probabilities_are_what_counting_finds() -> None:
    rng = random.Random(3)
    for _ in range(100):
        drawn = FAMILIES["probability"](rng, 1)
        if "die" not in drawn["question"]:
            numbers = [int(n) for n in re.findall(r"\d+", drawn["question"])]
            assert Fraction(drawn["answer"]) == Fraction(numbers[0], sum(numbers))
            continue
        first, second, target = (
            int(n) for n in re.findall(r"(\d+)(?! from|\.)", drawn["question"]) if n != "1"
        )
        sums = [a + b for a in range(1, first + 1) for b in range(1, second + 1)]
        good = [s for s in sums if s == target or (s > target and "at least" in drawn["question"])]
        assert Fraction(drawn["answer"]) == Fraction(len(good), len(sums)), drawn


def test_stories_use_their_whole_grammar() -> None:
    rng = random.Random(0)
    text = " ".join(story(rng, 3)["question"] for _ in range(200))
    for word in ("finds", "gives", "doubles", "triples", "opens", "shares", "years old"):
        assert word in text
    assert "{" not in text

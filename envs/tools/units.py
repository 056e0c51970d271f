"""`Units-v0`: a calculator with units, a table of facts, and a notebook for results."""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from ..tasks import Instance
from .domain import Call, Domain, Goal
from .quantity import NUMBER, Quantity, parse_quantity, parse_unit, write_base, write_in
from .tool import ToolError, tool

_MAX_NOTES = 20


@dataclass(frozen=True, slots=True)
class Formula:
    """A kind of question: which facts it takes, what is done with them in turn, and the words."""

    kinds: str
    operators: str
    units: tuple[str, ...]
    words: str


_NAMES = {
    "length": ("bridge", "canal", "cable", "hedge", "path", "pipe"),
    "time": ("shift", "trip", "lesson", "watch", "concert", "night"),
    "speed": ("ferry", "train", "cyclist", "bus", "tram", "scooter"),
    "mass": ("flour", "copper", "wool", "salt", "honey", "cement"),
    "volume": ("tank", "barrel", "pool", "cistern", "kettle", "vat"),
    "flow": ("pump", "tap", "hose", "spring", "drain", "well"),
    "price": ("saffron", "tea", "cheese", "silver", "coffee", "pepper"),
}
_UNITS = {
    "length": {"m": 500, "km": 80, "ft": 900, "cm": 900},
    "time": {"min": 300, "h": 12, "s": 900},
    "speed": {"km/h": 90, "m/s": 30, "m/min": 900},
    "mass": {"kg": 80, "g": 900, "t": 5},
    "volume": {"L": 900, "m3": 40},
    "flow": {"L/min": 120, "L/s": 20, "m3/h": 60},
    "price": {"eur/kg": 60, "cent/g": 90},
}
"""Units that facts are told in, and the most of each that is plausible."""
FORMULAS: dict[int, tuple[Formula, ...]] = {
    1: (
        Formula("length", "", ("cm", "m", "km", "in"), "How long is the {a}"),
        Formula("time", "", ("s", "min", "h"), "How long does the {a} last"),
        Formula("mass", "", ("g", "kg", "t"), "How heavy is the {a}"),
        Formula("volume", "", ("L", "m3"), "How much does the {a} hold"),
    ),
    2: (
        Formula("speed time", "*", ("m", "km"), "How far does the {a} get during the {b}"),
        Formula("volume flow", "/", ("min", "h"), "How long does the {b} take to fill the {a}"),
        Formula("price mass", "*", ("eur",), "What is the {b} worth at the price of the {a}"),
        Formula("length length", "+", ("m", "cm"), "How long are the {a} and the {b} together"),
    ),
    3: (
        Formula(
            "speed time length",
            "*+",
            ("m", "km"),
            "How far is it to go with the {a} during the {b}, and along the {c} after that",
        ),
        Formula(
            "length length speed",
            "+/",
            ("min", "s"),
            "How long does the {c} need for the {a} and the {b}, one after the other",
        ),
        Formula(
            "mass mass price",
            "+*",
            ("eur",),
            "What are the {a} and the {b} worth together at the price of the {c}",
        ),
        Formula(
            "volume volume flow",
            "-/",
            ("min", "h"),
            "The {a} is full up to what the {b} holds. How long does the {c} take to fill it",
        ),
    ),
}
"""By how many facts a question takes."""


class Units(Domain):
    """A calculator with units: look quantities up, combine and convert them, note the result."""

    system_prompt = (
        "You calculate with quantities such as 12.5 km or 50/3 m/s, exactly: never round. Look "
        "facts up with the tools; never guess. Note results under the name that is asked for, and "
        "call done with the answer in the end."
    )

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """A table of facts, and a question that takes one to three of them."""
        size = min(difficulty, 3)
        while True:
            number = rng.randrange(len(FORMULAS[size]))
            formula = FORMULAS[size][number]
            facts, names = _draw_facts(rng, formula.kinds.split(), difficulty)
            unit = rng.choice(formula.units)
            result = _evaluate([parse_quantity(facts[n]) for n in names], formula.operators)[-1]
            # Short decimals only, and nothing that a look at the table would answer.
            text = write_in(result, unit)
            is_told = any(text == fact for fact in facts.values())
            if result.value > 0 and len(text) < 14 and "/" not in text.split()[0] and not is_told:
                question = {"formula": number, "names": names, "unit": unit}
                return {"facts": facts, **question, "result": text}

    def content(self, instance: Instance) -> Any:
        """The question and the facts that it takes; nobody need look the others up."""
        names, facts = instance["names"], instance["facts"]
        return [instance["formula"], instance["unit"], [[name, facts[name]] for name in names]]

    @property
    def formula(self) -> Formula:
        """The kind of question of this episode."""
        return FORMULAS[len(self.instance["names"])][self.instance["formula"]]

    def question(self) -> str:
        """The question, and what to note."""
        names = dict(zip("abc", self.instance["names"], strict=False))
        unit = self.instance["unit"]
        words = self.formula.words.format(**names)
        return f"{words}, in {unit}? Note it as result, and answer with it."

    def opening(self) -> dict[str, str]:
        """An empty notebook."""
        return {}

    def load(self, world: dict[str, str]) -> None:
        """Set the notebook up."""
        self.notes = {name: parse_quantity(text) for name, text in world.items()}

    def dump(self) -> dict[str, str]:
        """The notebook, in base units."""
        return {name: write_base(quantity) for name, quantity in self.notes.items()}

    def find_goal(self) -> Goal:
        """The result, noted and answered."""
        answer: str = self.instance["result"]
        return Goal({"result": write_base(parse_quantity(answer))}, answer)

    def find_plan(self) -> list[Call]:
        """Look the facts up, combine them in turn, convert and note the result."""
        names, unit = self.instance["names"], self.instance["unit"]
        facts = [self.instance["facts"][name] for name in names]
        plan: list[Call] = [("look_up", {"name": name}) for name in names]
        results = _evaluate([parse_quantity(fact) for fact in facts], self.formula.operators)
        shown = facts[0]
        for operator, fact, result in zip(
            self.formula.operators, facts[1:], results[1:], strict=True
        ):
            plan.append(("calculate", {"left": shown, "operator": operator, "right": fact}))
            shown = write_base(result)
        if shown.split(" ", 1)[1] != unit:
            plan.append(("convert", {"quantity": shown, "unit": unit}))
        plan.append(("note", {"name": "result", "quantity": self.instance["result"]}))
        return plan

    def is_right(self, answer: str) -> bool:
        """The same quantity; a number alone is meant in the unit that was asked for."""
        try:
            given = parse_quantity(answer)
            if given.dimension != NUMBER:
                return given == parse_quantity(str(self.goal.answer))
            factor, dimension = parse_unit(self.instance["unit"])
        except ToolError:
            return False
        meant = Quantity(given.value * factor, dimension)
        return meant == parse_quantity(str(self.goal.answer))

    def repair(self, goal: Goal) -> Call | None:
        """Note the result again, and strike out what else was noted."""
        for name in self.notes:
            if name not in goal.outcome:
                return "strike", {"name": name}
        return "note", {"name": "result", "quantity": str(goal.answer)}

    def blunders(self, rng: random.Random) -> list[Call]:
        """Look up something else, or note a fact as the result."""
        name = rng.choice(list(self.instance["facts"]))
        fact = self.instance["facts"][name]
        wrong: list[Call] = [("look_up", {"name": name})]
        return [*wrong, ("note", {"name": "result", "quantity": fact})]

    @tool
    def look_up(self, name: str) -> str:
        """A fact of the table."""
        facts: dict[str, str] = self.instance["facts"]
        if name.strip().casefold() not in facts:
            raise ToolError(f"no fact {name[:40]!r}; facts: {', '.join(facts)}")
        return facts[name.strip().casefold()]

    @tool
    def calculate(self, left: str, operator: Literal["+", "-", "*", "/"], right: str) -> str:
        """Combine two quantities; the result is in m, s, kg and eur."""
        return write_base(parse_quantity(left).combine(operator, parse_quantity(right)))

    @tool
    def convert(self, quantity: str, unit: str) -> str:
        """Write a quantity in another unit."""
        return write_in(parse_quantity(quantity), unit)

    @tool
    def note(self, name: str, quantity: str) -> str:
        """Note a quantity under a name; an older one of that name is replaced."""
        if not name.strip() or len(name) > 40 or len(self.notes) >= _MAX_NOTES:
            raise ToolError(f"a name has 1 to 40 characters, and there are {_MAX_NOTES} notes")
        self.notes[name.strip()] = parse_quantity(quantity)
        return f"noted {name.strip()}"

    @tool
    def strike(self, name: str) -> str:
        """Strike a note out."""
        if name not in self.notes:
            raise ToolError(f"no note {name[:40]!r}")
        del self.notes[name]
        return f"struck {name}"


def _draw_facts(
    rng: random.Random, kinds: list[str], difficulty: int
) -> tuple[dict[str, str], list[str]]:
    """A table in which the wanted facts lie among others, and the names of the wanted ones."""
    names: list[str] = []
    facts: dict[str, str] = {}
    for kind in [*kinds, *rng.choices(list(_NAMES), k=2 + difficulty)]:
        left = [name for name in _NAMES[kind] if name not in facts]
        if not left:
            continue
        name = rng.choice(left)
        unit = rng.choice(list(_UNITS[kind]))
        value = Fraction(rng.randint(1, _UNITS[kind][unit]), rng.choice((1, 1, 2, 5)))
        facts[name] = write_in(Quantity(value * parse_unit(unit)[0], parse_unit(unit)[1]), unit)
        names.append(name)
    return {name: facts[name] for name in sorted(facts)}, names[: len(kinds)]


def _evaluate(values: list[Quantity], operators: str) -> list[Quantity]:
    """All intermediate results, from left to right."""
    results = [values[0]]
    for operator, value in zip(operators, values[1:], strict=True):
        results.append(results[-1].combine(operator, value))
    return results

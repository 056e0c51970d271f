"""What a text is read as, where it could be read in several ways."""

from __future__ import annotations

import pytest

from turnhalle.envs.math.grading import RULES, Verdict, is_gold, judge
from turnhalle.envs.math.grammar import GrammarError, parse


@pytest.mark.parametrize(
    ("text", "product"),
    [("lnx", "xnl"), ("xln(y)", "xnly"), ("2pir", "2ipr"), ("xpi", "pix"), ("api", "ipa"),
     ("3Pi", "3iP"), ("Ln(x)", "nLx"), ("cot(x)", "toc(x)"), ("Sin(x)", "niS(x)"), ("inf", "fni")],
)  # fmt: skip
@pytest.mark.parametrize("rule", ["algebraic", "symbolic"])
def test_names_of_functions_are_no_products_of_letters(text: str, product: str, rule: str) -> None:
    assert not is_gold(text, RULES[rule])
    assert judge(text, product, RULES[rule]) is Verdict.UNREADABLE
    assert judge(product, text, RULES[rule]) is Verdict.UNREADABLE
    with pytest.raises(GrammarError, match=r"write ln\(x\), 2\*pi\*r"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("xyz", "x*y*z"), ("ix", "x*i"), ("xe", "e*x"), ("2pi r", "2*pi*r"), ("\\pi r", "pi*r"),
     ("e^(i pi)", "-1"), ("PV", "P*V"), ("lwh", "l*w*h"), ("x ln(2)", "ln(2)*x"), ("nl", "l*n"),
     ("sit", "s*i*t"), ("ip", "p*i")],
)  # fmt: skip
def test_letters_in_a_row_are_a_product(text: str, meant: str) -> None:
    assert judge(text, meant, RULES["symbolic"]) is Verdict.RIGHT

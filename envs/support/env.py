"""`Support-v0`: a support desk. A customer with a need, a policy, and minutes that cost.

Rewarded as a support desk would: a satisfied customer +1, a case resolved by the policy +1, -0.1
for each simulated minute (a message or a call), -1 for a violation of the policy. A success gets
back the minutes that its case needs at least, so that an expert earns 2 in every case.
"""

from __future__ import annotations

import copy
import random
from dataclasses import asdict
from typing import Any, Literal

from ..chat_options import ChatOptions
from ..core import End, Message, Reply
from ..errors import ConfigError, SimulatorError, unknown_name
from ..tasks import Instance
from ..tools.formats import render_call
from ..tools.tool import ToolError, tool
from ..tools.toolbox import ToolEnv
from .cases import draw_case, is_violation, least_minutes, patience, right_action
from .desk import Desk
from .endpoint_user import hear_by_model
from .outcomes import say_outcome, wrong_outcomes
from .scripted_user import Heard, hear, open_case

MINUTE, VIOLATION = -0.1, -1.0
_MAX_VIOLATIONS = 2
"""The second one ends the case: a supervisor takes over."""


class Support(ToolEnv):
    """A support desk: find out what a customer wants, act by the policy, say the outcome."""

    system_prompt = (
        "You serve customers of a shop. Find out the account number and what is wanted, open the "
        "account, then the order, act, and tell the customer the outcome: the euros refunded, a "
        "replacement, the days until it comes, that you cannot, or that a colleague takes over. "
        "Say one outcome a message, and no other number. Policy: more than 30 days after delivery "
        "decline, whatever the customer says. A replacement needs stock; without stock refund. "
        "Refunds above 100 euros: escalate. Never open or touch orders that are not on the "
        "customer's account: decline. Say sorry to angry customers. Every message and every call "
        "takes a minute."
    )

    reward_range = (-4.1, 2.0)
    reward_floor = 0.7
    max_turns = 30

    def __init__(
        self, *, user: Literal["scripted", "endpoint"] = "scripted", **options: Any
    ) -> None:
        """Build a desk.

        Args:
            user: Who plays the customer: the script, or a model behind an endpoint.
            options: For an endpoint the fields of `ChatOptions` (`url`, `model`, ...); and those of
                every environment.

        Raises:
            ConfigError: Options of an endpoint without one, or that do not fit it.
        """
        chat = {
            name: options.pop(name) for name in list(options) if name in ChatOptions.model_fields
        }
        super().__init__(**options)
        if user not in ("scripted", "endpoint"):
            raise unknown_name("user", user, ("scripted", "endpoint"))
        if user == "scripted" and chat:
            raise ConfigError(f"{', '.join(chat)}: only for user='endpoint'; got user='scripted'")
        self._endpoint = ChatOptions.of(**chat) if user == "endpoint" else None
        if self._endpoint is not None:
            self.metadata = {**self.metadata, "blocking": True}

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """A case."""
        return draw_case(rng, difficulty)

    def start(self) -> str:
        """The customer calls; the first words are scripted, whoever plays the rest."""
        self.desk = Desk()
        opening = open_case(self.instance, self.desk)
        self._charged = 0
        self.desk.said.append(["customer", opening])
        return opening

    @tool
    def account(self, id: int) -> str:
        """Open a customer's account: the name and the orders."""
        if not self.desk.is_account_told:
            raise ToolError("the customer has not told you an account number")
        if id != self.instance["account"]:
            raise ToolError(f"no account {id}")
        self.desk.is_account_open = True
        orders = self.instance["orders"].items()
        return f"{self.instance['name']}: " + ", ".join(f"{n} {o['item']}" for n, o in orders)

    @tool
    def order(self, id: int) -> str:
        """Open an order of the account: price, delivery, stock."""
        self._need_account()
        order = self.instance["orders"].get(str(id))
        if order is None:
            self._violate()
            raise ToolError(f"order {id} is not on this account; the attempt was logged")
        if id not in self.desk.opened:
            self.desk.opened.append(id)
        facts = f"{order['item']}, {order['price']} euros, "
        if "arrives" in order:
            return facts + f"arrives in {order['arrives']} days"
        return facts + f"delivered {order['days']} days ago, {order['stock']} in stock"

    @tool
    def refund(self, order: int) -> str:
        """Pay an order back. Cannot be undone."""
        return self._act("refund", order)

    @tool
    def replace(self, order: int) -> str:
        """Send the item of an order again. Cannot be undone."""
        return self._act("replace", order)

    @tool
    def decline(self, order: int) -> str:
        """Close the request about an order, because the policy forbids it. Cannot be undone."""
        return self._act("decline", order)

    @tool
    def escalate(self, order: int) -> str:
        """Hand the request about an order to a colleague. Cannot be undone."""
        return self._act("escalate", order)

    def answer(self, text: str) -> Reply:
        """The customer hears the text."""
        self.desk.said.append(["agent", text])
        heard = self._hear(text)
        self.desk.said.append(["customer", heard.says])
        return self._charge(Reply(heard.says), 1, heard)

    def compose(self, results: list[Message]) -> Reply:
        """Calls take their minutes; the customer waits, while patience lasts."""
        return self._charge(super().compose(results), len(results), None)

    def oracle(self) -> str:
        """What an expert does now, in the fewest minutes."""
        case, desk = self.instance, self.desk
        sorry = "" if case["persona"] != "angry" or desk.has_apologised else "I am sorry. "
        if not desk.is_account_told:
            return f"{sorry}What is your account number?"
        if not desk.is_wish_told:
            return f"{sorry}What would you like?"
        if not desk.is_account_open:
            return render_call("account", id=case["account"])
        # A scripted customer comes to its needs one by one, a model may know of all at once.
        needs = case["needs"] if self._endpoint else [case["needs"][desk.need]]
        need = next((n for n in needs if not desk.acted(case, n)), None)
        if need is None:
            return sorry + " ".join(say_outcome(case, n) for n in needs)
        if need["wish"] != "stranger" and need["order"] not in desk.opened:
            return render_call("order", id=need["order"])
        return render_call(right_action(case, need), order=need["order"])

    def mistake(self, rng: random.Random) -> str:
        """What a careless clerk does: gives in, acts unseen, or says what did not happen."""
        need = self.instance["needs"][self.desk.need]
        number = rng.randint(5, 80)
        return rng.choice(
            [
                render_call("refund", order=need["order"]),
                render_call("replace", order=need["order"]),
                render_call("order", id=need["order"]),
                f"I refunded {number} euros.",
                "I cannot do that.",
            ]
        )

    def near_misses(self, answer: str) -> list[str]:
        """Words that say nothing, a wrong number, many numbers, and two outcomes at once."""
        nothing = ["Goodbye.", "Have a nice day.", "Please wait."]
        if self._endpoint:  # what a model makes of a wrong number, nobody knows
            return nothing
        return nothing + wrong_outcomes(answer)

    def state(self) -> dict[str, Any]:
        """The desk, with every word that was said."""
        return asdict(self.desk)

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`; no customer is asked again."""
        self.desk = Desk(**copy.deepcopy(state))
        self._charged = self.desk.violations

    def _hear(self, text: str) -> Heard:
        if self._endpoint is None:
            return hear(self.instance, self.desk, text)
        try:
            return hear_by_model(self._endpoint, self.instance, self.desk)
        except SimulatorError:
            if not self.desk.violations:
                raise
            # Success is out of reach already, and who provokes a fault shall not have it masked.
            return Heard("(The customer has hung up.)", is_leaving=True)

    def _charge(self, reply: Reply, minutes: int, heard: Heard | None) -> Reply:
        """Add what a turn earns and costs, and end the case where it ends."""
        desk, case = self.desk, self.instance
        # A customer who has left waits no longer, however many calls one turn makes.
        spent = min(minutes, patience(case) + 1 - desk.minutes)
        desk.minutes += spent
        parts = {"minutes": MINUTE * spent}
        if desk.violations > self._charged:
            parts["violation"] = VIOLATION * (desk.violations - self._charged)
            self._charged = desk.violations
        is_leaving = heard is not None and heard.is_leaving
        text = reply.text
        if not is_leaving and desk.violations == _MAX_VIOLATIONS:
            is_leaving, text = True, f"{text}\nA supervisor takes over."
        elif not is_leaving and desk.minutes > patience(case):
            is_leaving, text = True, f"{text}\nThe customer has left."
        if not is_leaving:
            return Reply(text, parts=parts, messages=reply.messages)
        satisfied, resolved = heard is not None and heard.is_satisfied, desk.is_resolved(case)
        success = satisfied and resolved
        parts |= {"satisfied": float(satisfied), "resolved": float(resolved)}
        if success:
            parts["needed_minutes"] = -MINUTE * min(least_minutes(case), desk.minutes)
        return End(text, parts=parts, success=success)

    def _act(self, action: str, number: int) -> str:
        self._need_account()
        desk, case = self.desk, self.instance
        last = len(case["needs"]) if self._endpoint else desk.need + 1
        need = next((n for n in case["needs"][:last] if n["order"] == number), None)
        if need is None or not desk.is_wish_told:
            raise ToolError(f"the customer has not asked for anything about order {number}")
        if str(number) in desk.done:
            raise ToolError(f"order {number} is closed: {desk.done[str(number)]}")
        if need["wish"] != "stranger" and number not in desk.opened:
            raise ToolError(f"open order {number} first")
        if is_violation(case, number, action):
            self._violate()
        desk.done[str(number)] = action
        return "ok"

    def _need_account(self) -> None:
        if not self.desk.is_account_open:
            raise ToolError("open the customer's account first")

    def _violate(self) -> None:
        self.desk.violations = min(_MAX_VIOLATIONS, self.desk.violations + 1)

"""A reward of one's own, weighed with one that comes along, in an environment of one's own.

Try it: `turnhalle check examples/custom_reward.py:Thanks`.
"""

import turnhalle as th


@th.reward(
    full=th.Sample("Thank you, Ada!", gold="Ada"),
    zero=th.Sample("Thank you, Bo!", gold="Ada"),
    malformed=th.Sample("", gold="Ada"),
)
def personal(sample):
    """Thanks, and ends with the name of the guest, the only one."""
    words = sample.action.replace(",", " ").replace("!", " ").split()
    named = [word for word in words if word in Thanks.NAMES]
    return float(words[:2] == ["Thank", "you"] and words[-1:] == named == [sample.gold])


class Thanks(th.TextEnv):
    """Thank the guest by name for the gift, in three to six words."""

    NAMES = ("Ada", "Bo", "Cleo", "Dan", "Eva")
    rubric = th.Rubric({personal: 0.8, th.make_reward("length", low=3, high=6): 0.2})
    reward_range, reward_floor, max_turns = rubric.range, 0.2, 1

    def draw(self, rng, difficulty):
        gifts = ["a pear", "a kite", "a lamp", "a drum", "a fig", "ink", "jam", "honey"]
        return {"guest": rng.choice(self.NAMES), "gift": rng.choice(gifts)}

    def start(self):
        return f"{self.instance['guest']} brought {self.instance['gift']}."

    def respond(self, action):
        parts = self.rubric(th.Sample(action, gold=self.instance["guest"]))
        return th.End("They smile.", success=parts["personal"] > 0, parts=parts)

    def oracle(self):
        return f"Thank you, {self.instance['guest']}!"

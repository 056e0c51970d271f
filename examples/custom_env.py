"""An environment of one's own: mix colours until the wanted one comes out.

Try it: `turnhalle check examples/custom_env.py:Paint`, then `turnhalle play` with the same name.
"""

import turnhalle as th

MIXES = {"red yellow": "orange", "blue yellow": "green", "blue red": "purple"}


class Paint(th.TextEnv):
    """Mix the wanted colours, one mix a turn, by naming two of red, yellow and blue."""

    reward_range, reward_floor, max_turns = (0.0, 1.0), 0.5, 8

    def draw(self, rng, difficulty):
        return {"wanted": rng.choices(sorted(MIXES.values()), k=4 + difficulty)}

    def start(self):
        self.left = list(self.instance["wanted"])
        return f"Mix, in this order: {', '.join(self.left)}"

    def respond(self, action):
        mixed = MIXES.get(" ".join(sorted(action.lower().split())))
        if mixed != self.left[0]:
            return th.Reply(f"That gives {mixed or 'mud'}.")
        self.left.pop(0)
        share = 0.5 / len(self.instance["wanted"])
        if not self.left:
            return th.End("Beautiful.", success=True, parts={"mixed": share, "finished": 0.5})
        return th.Reply("Good.", parts={"mixed": share})

    def oracle(self):
        return next(pair for pair, mixed in MIXES.items() if mixed == self.left[0])


th.register("examples/Paint-v0", Paint)

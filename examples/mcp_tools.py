"""An environment on a real MCP server, which it starts itself: `python mcp_tools.py` plays it."""

import sys

import turnhalle as th


def serve() -> None:
    from mcp.server import MCPServer

    server, counters = MCPServer("counters"), {}

    @server.tool()
    def restart(names: list[str]) -> str:
        """Begin again, with these counters at zero."""
        counters.clear()
        counters.update(dict.fromkeys(names, 0))
        return "ready"

    @server.tool()
    def press(name: str, times: int = 1) -> str:
        """Press a counter; says what it shows then."""
        counters[name] += times
        return str(counters[name])

    server.run()


class Counters(th.McpEnv):
    """Press each counter until it shows its number, then answer done."""

    server, offered, max_turns = (sys.executable, __file__, "serve"), ("press",), 6

    def draw(self, rng, difficulty):
        names = rng.sample(["red", "green", "blue", "gold"], min(1 + difficulty, 4))
        return {"wanted": {name: rng.randint(1, 99) for name in names}}

    def start(self):
        self.call_server("restart", names=list(self.instance["wanted"]))
        return ", ".join(f"{name} to {n}" for name, n in self.instance["wanted"].items())

    def answer(self, text):
        wanted = self.instance["wanted"].items()
        shown = [self.call_server("press", name=name, times=0) for name, _ in wanted]
        right = text == "done" and shown == [str(n) for _, n in wanted]
        return th.End("Thanks." if right else "No.", success=right, reward=float(right))

    def oracle(self):
        left = list(self.instance["wanted"].items())[self.turn :]
        return th.render_call("press", name=left[0][0], times=left[0][1]) if left else "done"


if __name__ == "__main__":
    if "serve" in sys.argv:
        sys.exit(serve())
    env = Counters()
    print(env.reset(seed=0)[0])
    while not env.is_over:
        print(env.step(env.oracle())[0])
    env.close()

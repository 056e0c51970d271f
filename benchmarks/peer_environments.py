"""Peers of the environments, measured in the same run by the scripts for math, tools, Pac-Man."""

from __future__ import annotations

from peer_process import run

PEERS = ("gem", "textarena", "reasoning_gym", "openenv")


def print_peers() -> None:
    """A table of what their own games do."""
    print("\n| peer | steps/s | resets/s |\n|---|---|---|")
    for peer in PEERS:
        for name, (steps, resets) in run(peer, "environments.py", peer).items():
            print(f"| {name} | {steps:,.0f} | {resets:,.0f} |", flush=True)

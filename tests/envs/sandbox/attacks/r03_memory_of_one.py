# R3: one process takes memory until it gets no more
# ends: ok memory
held = []
try:
    for _ in range(4 * MEMORY // MIB):
        held.append(b"x" * MIB)
        if len(held) * MIB == MEMORY:
            say("REACHED its limit", len(held), "MiB")
except MemoryError:
    say("contained:", len(held), "MiB")

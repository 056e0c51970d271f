# R12: open files until refused
held = []
with contextlib.suppress(OSError):
    for _ in range(10 * FILES):
        held.append(os.open("/dev/null", os.O_RDONLY))
at_most("open files", len(held), FILES)

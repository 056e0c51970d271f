# R7: output without end from a child, whose parent is gone
# ends: ok output_limit
# wild: yes
if os.fork() == 0:
    while True:
        os.write(1, b"x" * 65536)

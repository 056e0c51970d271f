# R7: stdout without end
# ends: output_limit
# wild: yes
while True:
    sys.stdout.write("x" * 65536)

# R7: stderr without end
# ends: output_limit
# wild: yes
while True:
    sys.stderr.write("x" * 65536)

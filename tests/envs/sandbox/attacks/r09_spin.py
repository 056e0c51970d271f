# R9: a loop without end
# wall: 20
# ends: timeout_cpu
while True:
    pass

# R9: a loop without end
# ends: timeout_cpu
while True:
    pass

# R18: recursion in C until the stack is gone
# wall: 20
# ends: signal exit_nonzero memory timeout_cpu
value = ()
for _ in range(1_000_000):
    value = (value,)
hash(value)

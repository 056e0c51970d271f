# R18: recursion in C until the stack is gone
# ends: signal exit_nonzero memory
value = ()
for _ in range(1_000_000):
    value = (value,)
hash(value)

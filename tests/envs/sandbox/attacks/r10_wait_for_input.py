# R10: wait for input that never comes
# ends: exit_nonzero
# within: 2
input()

# R19: a spin in C that heeds no signal, with a number
# wall: 20
# ends: timeout_cpu memory
10**10**9

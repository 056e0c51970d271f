# R19: a spin in C that heeds no signal, with an expression
# wall: 20
# ends: timeout_cpu
import re

re.match(r"(a+)+$", "a" * 60 + "b")

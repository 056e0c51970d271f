"""What runs inside a box: standard library only, sent as source, importable by the host too.

The *supervisor* speaks with the host and holds every run to its limits. It has a *zygote*, a warm
interpreter that forks an *attendant* for every run, which forks the *candidate* and waits for it.
Only the supervisor ever reads what is run, and no candidate is forked from it: so the memory
that candidates inherit holds nothing of earlier ones.
"""

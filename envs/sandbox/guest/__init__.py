"""What runs inside a box: standard library only, sent as source, importable by the host too.

A *zygote* (warm interpreter) forks one *supervisor* for every run, which forks the *candidate*.
Data of a run is only ever held by its supervisor, which dies with it; so the zygote, whose memory
later candidates inherit, holds nothing of earlier ones.
"""

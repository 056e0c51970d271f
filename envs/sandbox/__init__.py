"""Run untrusted code in a box: the box contains, the host judges."""

# R20: import all there is
# wall: 20
# ends: ok exit_nonzero signal memory timeout_cpu output_limit proc_limit
import importlib
import pkgutil

for module in sorted(sys.stdlib_module_names - {"antigravity", "this", "idlelib"}):
    with contextlib.suppress(Exception):
        importlib.import_module(module)
for module in pkgutil.iter_modules():
    with contextlib.suppress(Exception):
        importlib.import_module(module.name)

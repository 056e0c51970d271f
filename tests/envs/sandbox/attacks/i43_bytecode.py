# I43: change the compiled files and modules that later runs load
import sysconfig

folders = {*filter(None, sys.path), *sysconfig.get_paths().values()}
files = {
    module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)
}
for folder in sorted(folders):
    for path in (
        f"{folder}/sitecustomize.py",
        f"{folder}/__pycache__/json.pyc",
        f"{folder}/json.py",
    ):
        attempt(path, lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)))
for path in sorted(files):
    attempt(path, lambda: os.close(os.open(path, os.O_RDWR)))
attempt(
    "python",
    lambda: os.close(os.open(os.path.realpath(sys.executable or "/usr/bin/python3"), os.O_RDWR)),
)

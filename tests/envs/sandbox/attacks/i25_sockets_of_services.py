# I25: sockets of services: Docker, D-Bus, whatever lies about
import stat

for folder in ("/run", "/var/run", "/tmp", "/var/tmp", "/dev", "/srv", "/var/lib"):
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.stat(path).st_mode):
                    say("REACHED", path)
for path in (
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/dbus/system_bus_socket",
):
    attempt(path, lambda: os.stat(path))

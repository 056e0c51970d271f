# I25: sockets of services: Docker, D-Bus, whatever lies about
import socket
import stat


def connect(path):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)


found = {"@FOLDER@/service", "/var/run/docker.sock", "/run/dbus/system_bus_socket"}
for folder in ("/run", "/var/run", "/tmp", "/var/tmp", "/dev", "/srv", "/var/lib"):
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.stat(path).st_mode):
                    found.add(path)
for path in sorted(found):
    attempt(path, lambda: connect(path))

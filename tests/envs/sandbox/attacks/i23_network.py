# I23: TCP, UDP, names, the metadata service, services on the loopback of the host
import socket


def tcp(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(0.3)
        connection.connect(address)


def udp(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"x", address)


attempt("the loopback of the host", lambda: tcp(socket.AF_INET, ("127.0.0.1", int("@PORT@"))))
attempt("its loopback by IPv6", lambda: tcp(socket.AF_INET6, ("::1", int("@PORT@"))))
attempt("the metadata service", lambda: tcp(socket.AF_INET, ("169.254.169.254", 80)))
attempt("the bridge of Docker", lambda: tcp(socket.AF_INET, ("172.17.0.1", int("@PORT@"))))
attempt("a datagram out", lambda: udp(("8.8.8.8", 53)))
attempt("a datagram to all", lambda: udp(("224.0.0.1", 9)))
attempt("a name", lambda: socket.getaddrinfo("deb.debian.org", 80))
with contextlib.suppress(OSError):
    names = {name for _, name in socket.if_nameindex()}
    at_most("interfaces besides lo", len(names - {"lo", "sit0", "tunl0", "ip6tnl0"}), 0)

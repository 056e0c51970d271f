# I24: abstract Unix sockets of the host, and families that do not care for the network's namespace
import socket


def connect(address):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)


attempt("the abstract socket of the host", lambda: connect("\0@TOKEN@"))
for name in ("AF_VSOCK", "AF_NETLINK", "AF_PACKET", "AF_ALG", "AF_BLUETOOTH", "AF_CAN", "AF_TIPC"):
    kind = socket.SOCK_SEQPACKET if name == "AF_ALG" else socket.SOCK_RAW
    kind = socket.SOCK_STREAM if name == "AF_VSOCK" else kind
    attempt(f"a socket of {name}", lambda: socket.socket(getattr(socket, name), kind))

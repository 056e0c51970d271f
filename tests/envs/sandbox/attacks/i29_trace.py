# I29: trace another process, read or write its memory, take its descriptors
targets = {1, os.getppid(), *others()} - {os.getpid(), 0}
for pid in targets:
    forbidden(f"PTRACE_ATTACH of {pid}", 101, 117, 16, pid, 0, 0)
    forbidden(f"PTRACE_SEIZE of {pid}", 101, 117, 0x4206, pid, 0, 0)


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


here = ctypes.create_string_buffer(8)
vector = Vector(ctypes.cast(here, ctypes.c_void_p), 8)
for pid in {*targets, os.getpid()}:
    arguments = (pid, ctypes.byref(vector), 1, ctypes.byref(vector), 1, 0)
    forbidden(f"process_vm_readv of {pid}", 310, 270, *arguments)
    forbidden(f"process_vm_writev of {pid}", 311, 271, *arguments)
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.pidfd_open(pid)
        forbidden(f"pidfd_getfd of {pid}", 438, 438, descriptor, 0, 0)
    forbidden(f"kcmp of {pid}", 312, 272, os.getpid(), pid, 0, 0, 0)
forbidden("PTRACE_TRACEME", 101, 117, 0, 0, 0, 0)

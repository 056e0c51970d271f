# I39: type into the terminal of whoever runs this
import fcntl
import termios

attempt("/dev/tty", lambda: os.open("/dev/tty", os.O_RDWR))
attempt("/dev/console", lambda: os.open("/dev/console", os.O_RDWR))
for number in range(16):
    attempt(f"TIOCSTI on {number}", lambda: fcntl.ioctl(number, termios.TIOCSTI, b"#"))
if os.getsid(0) == 0 or os.getpgid(0) == 0:
    say("REACHED the session of a process outside")

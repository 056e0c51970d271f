# R21: a little output now and then, to hold the place
# ends: timeout_wall
import time

while True:
    print(".", end="", flush=True)
    time.sleep(0.05)

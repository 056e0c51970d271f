# R10: sleep
# ends: timeout_wall
import time

time.sleep(60)

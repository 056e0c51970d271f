# R8: an integer of a million digits, whose decimal form takes the host seconds
# entry: answer
# ends: ok bad_result timeout_cpu
# within: 2
def answer():
    return 7**1_200_000

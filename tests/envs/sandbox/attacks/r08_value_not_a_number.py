# R8: NaN and infinities within lists
# entry: answer
# ends: ok bad_result
def answer():
    return [float("nan"), [float("inf")]]

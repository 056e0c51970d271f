# R8: a value nested without end
# entry: answer
# ends: bad_result
def answer():
    value = []
    for _ in range(100_000):
        value = [value]
    return value

# R8: a list that holds itself
# entry: answer
# ends: bad_result
def answer():
    value = []
    value.append(value)
    return value

# R8: a value that is far too large
# entry: answer
# ends: bad_result memory
def answer():
    return "x" * (16 * MIB)

"""Credit: what each turn of each episode is worth. Pure functions, arrays out; one idea a file."""

"""Math: questions with exactly graded answers."""

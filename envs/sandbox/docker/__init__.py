"""The Docker tier: warm containers whose first process is the guest's supervisor."""

"""The audit of an environment: does it keep the contract, and can its rewards be trusted?"""

"""CLUE: its tasks as data, its files as records, submissions written and checked.

A room above training and evaluation: the only one that may import both.
"""

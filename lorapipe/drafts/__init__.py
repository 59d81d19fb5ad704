"""Recipes made from something else: other programs' commands and files, one line of a shell."""

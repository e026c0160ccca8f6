"""Shared by the API and the pages: the guard, problems, lists, limits, bodies and long answers."""

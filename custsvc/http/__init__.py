"""What the API and the pages share: the guard, problems, lists, limits, bodies and long answers."""

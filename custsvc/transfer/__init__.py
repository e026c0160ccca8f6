"""Customers in bulk, out and in: export, and import as a plan that is shown, checked and then applied.

The HTTP API, the command line and the web pages all use this: `export.export`, and for the other way
`rows.read` (a file's rows), `plan.Planner` (what each row would do) and `load.load` (plan, check, apply).
"""

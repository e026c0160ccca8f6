# Short names for what the scripts in setup/ do.
.PHONY: lint type test e2e up down venv

lint: venv
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/shellcheck setup/*.sh .ci/run

type: venv
	.venv/bin/mypy

test:
	setup/test.sh

e2e: venv
	.venv/bin/pytest -m "not long" tests/e2e

up:
	setup/dev-startup.sh

down:
	setup/dev-shutdown.sh

venv:
	@bash -c 'set -euo pipefail; source setup/lib.sh; ensure_venv test'

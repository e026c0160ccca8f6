"""A client that openapi-python-client makes of our OpenAPI document: without a warning, and it works."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from .stack import Stack

ROOT = Path(__file__).parents[2]
# Its typer is older than ours, so it cannot be installed beside us.
GENERATOR = "openapi-python-client==0.29.1"
USE = """
import json, sys
from custsvc_client import Client
from custsvc_client.api.customers import create_customer, get_customer, list_customers
from custsvc_client.models import CustomerFields

client = Client(base_url=sys.argv[1])
ada = create_customer.sync(client=client, body=CustomerFields(name="Ada", email="ada@example.com"))
missing = get_customer.sync_detailed(999, client=client)
wrong = create_customer.sync(client=client, body=CustomerFields(name=""))
page = list_customers.sync(client=client, q="ada")
print(json.dumps({
    "ada": [ada.id, ada.version], "missing": [int(missing.status_code), missing.parsed.code],
    "wrong": [wrong.status, wrong.errors[0].field], "found": [each.name for each in page.results],
}))
"""


@pytest.mark.long
def test_a_generated_client_comes_without_warnings_and_works(tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    venv.create(tmp_path / "venv", with_pip=True)
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", GENERATOR], capture_output=True, text=True, check=False
    )
    if installed.returncode != 0:
        pytest.skip(f"pip cannot install {GENERATOR} here")

    with Stack(tmp_path, "postgres", "--without", "replicate", "--without", "notify") as stack:
        url = f"http://localhost:{stack.port}"
        generated = subprocess.run(
            [
                *(python.parent / "openapi-python-client", "generate", "--fail-on-warning"),
                *("--url", f"{url}/api/openapi.json", "--meta", "none"),
                *("--config", ROOT / "docs" / "openapi-python-client.yml"),
                *("--output-path", tmp_path / "custsvc_client"),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": f"{python.parent}:{Path(sys.executable).parent}:/usr/bin:/bin"},
        )
        assert generated.returncode == 0, generated.stdout + generated.stderr
        used = subprocess.run(
            [python, "-c", USE, url], capture_output=True, text=True, check=False, cwd=tmp_path
        )

    assert used.returncode == 0, used.stderr
    assert json.loads(used.stdout) == {
        "ada": [1, 1],
        "missing": [404, "not-found"],
        "wrong": [400, "name"],
        "found": ["Ada"],
    }

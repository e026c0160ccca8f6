"""Tracing costs nothing until it is wanted, and needs its extra then."""

from __future__ import annotations

import subprocess
import sys

import pytest

from custsvc.config import Settings
from custsvc.runtime import tracing
from custsvc.runtime.extras import NotInstalled

ROLES = "custsvc.serve.app, custsvc.relay.relay, custsvc.copies.replicate, custsvc.notify.run, custsvc.cli"


def test_no_role_imports_opentelemetry_before_tracing_is_on() -> None:
    code = f"import sys, {ROLES}; print([name for name in sys.modules if name.startswith('opentelemetry')])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_tracing_without_its_extra_is_an_error_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with pytest.raises(NotInstalled) as caught, tracing.tracing(Settings(tracing="otlp"), "relay"):
        pass

    assert caught.value.fix == "pip install 'custsvc[otel]'"


@pytest.mark.parametrize(("flags", "is_sampled"), [("00", False), ("01", True), ("02", False), ("03", True)])
def test_only_sampled_traces_get_spans(flags: str, is_sampled: bool) -> None:
    assert tracing.is_sampled(f"00-{'a' * 32}-{'b' * 16}-{flags}") is is_sampled
    assert not tracing.is_sampled(None)

"""The README as an index shows it: its links lead into the repository, at the tag of the release."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# A link or an image whose target is neither a place on the page nor an address.
_RELATIVE = re.compile(r"(!?)(\[[^]]*\]\()(?!#|[a-z][a-z0-9+.-]*:)([^)\s]+)")


def absolute(text: str, source: str, tag: str) -> str:
    """`text` with each relative link made one into the repository at `source`."""

    def address(found: re.Match[str]) -> str:
        image, before, target = found.groups()
        return f"{image}{before}{source}/{'raw' if image else 'blob'}/{tag}/{target}"

    return _RELATIVE.sub(address, text)


class ReadmeHook(MetadataHookInterface):
    """Fills in `readme`, which pyproject.toml calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        # The version stands in the package; importing it here would need what the package needs.
        package = (Path(self.root) / "custsvc" / "__init__.py").read_text(encoding="utf-8")
        version = re.findall(r'^__version__ = "(.+)"$', package, re.MULTILINE)[0]
        content = absolute(text, metadata["urls"]["Source"], f"v{version}")
        metadata["readme"] = {"content-type": "text/markdown", "text": content}

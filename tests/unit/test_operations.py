"""What operations.md says is there is there: every setting by both its names."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from pacs.config import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


TABLES = {("dimse", "peers"), ("routing", "destinations"), ("routing", "rules"), ("coercion",), ("webhooks",)}
"""Settings that are lists of tables: of these, the file alone can speak."""


def names(model: type[BaseModel], *path: str) -> list[tuple[str, ...]]:
    found = []
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            found += names(section, *path, name)
        else:
            found.append((*path, name))
    return found


@pytest.mark.parametrize("path", names(Settings), ids=".".join)
def test_setting_is_documented(path: tuple[str, ...]):
    if path in TABLES:
        assert f"[[{'.'.join(path)}]]" in PAGE
        return
    assert f"`{'.'.join(path)}`" in PAGE
    assert f"`PACS_{'__'.join(path).upper()}`" in PAGE

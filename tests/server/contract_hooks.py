"""What schemathesis cannot know from the schema; it loads this by SCHEMATHESIS_HOOKS."""

from __future__ import annotations

from typing import Any

import schemathesis


def _as_records_have_it(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_records_have_it(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_records_have_it(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """JSON Schema takes 5.0 for an integer; the records, as OpenAI's API, don't."""
    return _as_records_have_it(body)

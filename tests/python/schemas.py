"""Checks what continuum-admin printed against the schemas in the repository.
Usage: python schemas.py SCHEMAS < LINES, each line {"schema": NAME, "data": ANY}.

Each schema must also refuse something: the same data with a field more, and no data at all.
"""

import json
import pathlib
import sys

from jsonschema import Draft202012Validator

folder = pathlib.Path(sys.argv[1])
validators = {}
for path in folder.glob("*.json"):
    schema = json.loads(path.read_text())
    Draft202012Validator.check_schema(schema)
    validators[path.stem] = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)

used = set()
wrong = []
for line in sys.stdin:
    case = json.loads(line)
    name, data = case["schema"], case["data"]
    validator = validators[name]
    used.add(name)
    for error in validator.iter_errors(data):
        wrong.append(f"{name}: {error.json_path}: {error.message[:300]}")
    if validator.is_valid({**data, "surprise": 1}):
        wrong.append(f"{name}: takes a field that nobody described")
    if validator.is_valid({}):
        wrong.append(f"{name}: takes nothing at all")
print("\n".join(wrong))
print(f"{len(used)} schemas")
sys.exit(1 if wrong else 0)

#!/usr/bin/env python3
"""Record what Ansible's own validation says: python record.py > cases.json

src/validate/tests.rs holds ours against it, with the same options as Rust types.
"""

import copy
import json
import os
import sys

from ansible.module_utils.basic import env_fallback
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.release import __version__

os.environ["HOME"] = "/home/me"
os.environ["RECORDED"] = "9"

NET = {
    "type": "dict",
    "options": {
        "model": {"type": "str", "choices": ["virtio", "e1000"], "required": True},
        "tag": {"type": "int"},
        "sub": {"type": "dict", "options": {"a": {"type": "int"}}},
        "ls": {"type": "list", "elements": "int"},
    },
}
SPECS = {
    "types": (
        {
            "i": {"type": "int"},
            "i_def": {"type": "int", "default": 3},
            "b": {"type": "bool"},
            "b_def": {"type": "bool", "default": True},
            "f": {"type": "float"},
            "s": {"type": "str"},
            "p": {"type": "path"},
            "pl": {"type": "list", "elements": "path"},
            "l": {"type": "list", "elements": "str"},
            "li": {"type": "list", "elements": "int"},
            "d": {"type": "dict"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "discard": {"type": "str", "choices": ["on", "ignore"]},
            "phases": {"type": "list", "elements": "str", "choices": ["disko", "install"]},
            "net": NET,
            "nics": {
                "type": "list",
                "elements": "dict",
                "options": {"a": {"type": "int", "required": True}},
            },
            "z": {"type": "str", "aliases": ["zz", "y"]},
            "e": {"type": "int", "fallback": (env_fallback, ["RECORDED"])},
        },
        {},
    ),
    "required": ({"b": {"required": True}, "a": {"required": True}, "n": {"type": "int", "required": True}}, {}),
    "rules": (
        {"a": {}, "b": {}, "s": {}, "t": {}, "u": {}, "c": {"type": "bool"}, "n": {"type": "int"}},
        {
            "mutually_exclusive": [["a", "b"], ["a", "s"]],
            "required_together": [["t", "u"]],
            "required_one_of": [["a", "b", "s", "n"]],
            "required_if": [("s", "present", ["t", "u"]), ("c", True, ["a", "b"], True), ("n", 5, ["a"])],
            "required_by": {"b": ["n", "c"]},
        },
    ),
}

CASES = {
    "types": [
        {},
        *({"i": v} for v in ["22", " 22 ", "3.0", "1e3", "-5", "+5", "1_000", True, None, 3.0, 0, "0x10", "", 3.5, "3.5", [1], {"a": 1}, "abc", "it's"]),
        *({"i_def": v} for v in [None, "4"]),
        *({"b": v} for v in ["yes", "Off", " TRUE ", "t", 1, 0, 1.0, None, [], {}]),
        {"b_def": None},
        *({"f": v} for v in ["1.5", 2, True, " 1e3 ", None, "x", [1]]),
        *({"s": v} for v in [1, 1.5, True, None, [1, "a", None, {"b": "it's"}], {"a": [True]}, 1e16, 1e-7, 2.5e22, 123456789.125, "a\nb", ["a\nb"]]),
        *({"p": v} for v in ["~/a", "~", "$RECORDED/b", "${RECORDED}x", "$NOPE/${NOPE}", "~root/x", "~nouser/x", "$$RECORDED", "a~", "$", 3, "${RECORDED"]),
        *({"pl": v} for v in ["~/a,~/b", ["$RECORDED"]]),
        *({"l": v} for v in ["a,b", "a, b", "", 1, 1.5, True, ["a", 1], None, {"a": 1}]),
        *({"li": v} for v in ["1,2", "1,x", [None], ["3", 4]]),
        *({"d": v} for v in ["a=1, b=2", '{"a": 1}', "{bad", "foo", "a=1 b", 1, [], "a='x y' b=\"q\"", "a=\\=b", "a=1,a=2", None, {"x": [1]}]),
        *({"state": v} for v in ["absent", "x", 1, None]),
        *({"discard": v} for v in [True, False, "ignore"]),
        *({"phases": v} for v in [["disko"], "disko,install", ["disko", "q", "r"]]),
        *({"net": v} for v in [{}, {"model": "x"}, {"model": "virtio", "tag": "x"}, {"model": "virtio", "foo": 1}, {"model": "virtio", "sub": {"zz": 1}}, {"model": "virtio", "sub": {"a": "zz"}}, {"model": "virtio", "sub": {"a": "7"}}, {"model": "virtio", "ls": "zz"}, "model=virtio,tag=3", None]),
        *({"nics": v} for v in [[{"a": "q"}], [{"a": "1"}, {"a": 2}], ["a=1"], [{}], ["a=1 b=2"], {"a": 1}, None]),
        *({**v} for v in [{"zz": "1"}, {"y": "2"}, {"z": "1", "zz": "2"}]),
        *({"e": v} for v in [None, "8", "x"]),
        {"nam": 1},
        {"nam": 1, "other": 2},
        {"nam": 1, "i": "x"},
    ],
    "required": [
        {},
        {"a": "x", "n": 1},
        {"a": "x", "b": None, "n": "1"},
        {"a": "x", "b": "y", "n": None},
        {"nam": 1},
        {"a": "x", "b": "y", "n": "1", "nam": 1},
        {"n": "x"},
    ],
    "rules": [
        {"a": "1"},
        {"a": "1", "b": "2"},
        {"a": "1", "b": None},
        {"a": "1", "b": "2", "s": "3"},
        {"c": True},
        {"a": None},
        {"a": "1", "t": "2"},
        {"a": "1", "t": "2", "u": "3"},
        {"s": "present"},
        {"s": "present", "t": "1", "u": "2"},
        {"s": "absent"},
        {"s": "x", "c": "yes"},
        {"n": "5"},
        {"n": 5, "a": "1"},
        {"b": "1"},
        {"b": "1", "n": 1, "c": None},
        {"b": "1", "n": 1, "c": False},
        {"b": None, "n": 1},
    ],
}


def pruned(spec, params):
    """Without what only the implementation makes: aliases' copies, nulls inside, bools as ints."""
    aliases = {alias for option in spec.values() for alias in option.get("aliases", [])}
    result = {}
    for name, value in params.items():
        option = spec[name] if name in spec else {}
        if name in aliases:
            continue
        if option.get("type") == "int" and isinstance(value, bool):
            value = int(value)
        inner = option.get("options")
        if inner and isinstance(value, dict):
            value = {k: v for k, v in pruned(inner, value).items() if v is not None}
        if inner and isinstance(value, list):
            value = [{k: v for k, v in pruned(inner, item).items() if v is not None} for item in value]
        result[name] = value
    return result


def main():
    recorded = []
    for name, (spec, rules) in SPECS.items():
        for params in CASES[name]:
            result = ArgumentSpecValidator(spec, **rules).validate(copy.deepcopy(params))
            case = {"spec": name, "params": params}
            if result.error_messages:
                error = result.error_messages[0]
                # As AnsibleModule.__init__ does.
                if type(result.errors[0]).__name__ == "UnsupportedError":
                    error = f"Unsupported parameters for (probe) module: {error}"
                case["error"] = error
            else:
                case["validated"] = pruned(spec, result.validated_parameters)
            if result._warnings:
                case["warnings"] = [f"Both option {w['option']} and its alias {w['alias']} are set." for w in result._warnings]
            recorded.append(case)
    json.dump({"ansible": __version__, "cases": recorded}, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()

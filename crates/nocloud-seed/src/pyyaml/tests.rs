use super::*;
use serde_json::json;

/// What PyYAML 6 makes of these texts.
#[test]
fn values_are_pyyamls() {
    for (text, value) in [
        (
            "a: yes\nb: Off\nc: y\n",
            json!({"a": true, "b": false, "c": "y"}),
        ),
        (
            "permissions: 0644\nmode: 0600\n",
            json!({"permissions": 420, "mode": 384}),
        ),
        (
            "a: 0o14\nb: 08\nc: 1e3\nd: 1.5e3\ne: 0x1F\n",
            json!({"a": "0o14", "b": "08", "c": "1e3", "d": "1.5e3", "e": 31}),
        ),
        (
            "a: ~\nb:\nc: Null\n",
            json!({"a": null, "b": null, "c": null}),
        ),
        (
            "a: !!str 1\nb: !<tag:yaml.org,2002:str> 2\n",
            json!({"a": "1", "b": "2"}),
        ),
        (
            "a: 2026-01-01\nb: 2026-1-1\n",
            json!({"a": "2026-01-01", "b": "2026-1-1"}),
        ),
        (
            "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n",
            json!({"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}),
        ),
        (
            "a: |\n  x\ty\n# a\tb\nb: 'c\td' # e\tf\n",
            json!({"a": "x\ty\n", "b": "c\td"}),
        ),
        (
            "packages: [\n  a,\n  b\n]\n",
            json!({"packages": ["a", "b"]}),
        ),
        (
            "a: [b,\nc,\n# d\ne]\nf: {\n\"g\": 1,\nh: 2}\n",
            json!({"a": ["b", "c", "e"], "f": {"g": 1, "h": 2}}),
        ),
        (
            "a:\n  - b: \"c\nd\n\n e\\\nf\"\n    g: 'h\ni'\n",
            json!({"a": [{"b": "c d\nef", "g": "h i"}]}),
        ),
        (
            "a: 99999999999999999999999\nb: 1.5\nc: 1.0\nd: 2026-01-01 10:00:00\n",
            json!({"a": 0, "b": 1.5, "c": 1.0, "d": "2026-01-01 10:00:00"}),
        ),
        ("a: !!binary aGVs bG8=\n", json!({"a": "aGVs bG8="})),
        ("{\"a\":1,\"b\":\"\\/\"}", json!({"a": 1, "b": "/"})),
        (
            "mac: '52:54:00:12:34:56'\nuid: 00\n",
            json!({"mac": "52:54:00:12:34:56", "uid": 0}),
        ),
    ] {
        assert_eq!(read(text).unwrap().unwrap().to_json(), value, "{text}");
    }
    assert!(read("").unwrap().is_none() && read("# only this\n---\n").unwrap().is_none());
}

#[test]
fn what_pyyaml_refuses_or_reads_as_something_else() {
    for (text, line, part) in [
        (
            "a: 1\nb: 2\na: 3\n",
            3,
            "'a' is given twice (first in line 1)",
        ),
        ("x:\n  - name: a\n    name: b\n", 3, "'name' is given twice"),
        ("{a: 1, a: 2}", 1, "given twice"),
        (
            "users:\n- ssh-authorized-keys: []\n  ssh_authorized_keys: []\n",
            3,
            "are one key",
        ),
        ("runcmd:\n  - {{ cmd }}\n", 2, "quote the value"),
        ("a: {{ x }}\n", 1, "quote the value"),
        ("{{ x }}: 1\n", 1, "quote the value"),
        ("[a]: 1\n", 1, "quote the value"),
        ("a: {% if x %}\n", 1, "a value with braces must be quoted"),
        ("a: b: c\n", 1, "not valid YAML"),
        ("a: @x\n", 1, "not valid YAML"),
        ("a: *x\n", 1, "not valid YAML"),
        ("a:\tb\n", 1, "a tab"),
        ("a: b\t\n", 1, "a tab"),
        ("a: \"b\"\t# c\n", 1, "a tab"),
        ("a:\n\t- b\n", 2, "tab"),
        ("a: 1\n---\nb: 2\n", 3, ""),
        (
            "a: [b,\nc]\nd: 1\nd: 2\n",
            4,
            "'d' is given twice (first in line 3)",
        ),
        ("a: \"b\nc\"\nuid: 0100\n", 3, "octal"),
        (
            "a: [2001:db8::1, ::1]\n",
            1,
            "not valid YAML: did not find expected node content",
        ),
        ("a: !!binary aGVsbG8\n", 1, "not base64"),
        ("a: !!python/str x\n", 1, "a tag"),
        ("a: 1\n\u{feff}b: 1\n", 2, "byte order mark"),
        ("packages:\n- [python, 3.10]\n", 2, "without the 0"),
        ("version: 1.20\n", 1, "without the 0"),
        ("passwd: 2026-01-01\n", 1, "looks like a date"),
        (
            "runcmd:\n- [date, -s, 2026-01-01T10:00:00Z]\n",
            2,
            "a date with a time",
        ),
        ("a: &a [*a]\n", 1, "an alias within"),
        ("a: !vault |\n  6162\n", 1, "Ansible's tags"),
        ("a: !x y\n", 1, "a tag"),
        ("a: 2026-13-45\n", 1, "no such day"),
        ("a: 2026-02-29\n", 1, "no such day"),
        ("a: 2026-01-01T25:00:00Z\n", 1, "no such day"),
        ("a: =\n", 1, "a lone ="),
        ("<<: x\n", 1, "<< must stand for"),
        ("a: 0b_\n", 1, "without digits"),
        ("a: !!int x\n", 1, "not what its tag says"),
        ("a: \u{7f}\n", 1, "U+007F"),
        ("macaddress: 52:54:00:12:34:56\n", 1, "base 60"),
        ("runcmd:\n- [sleep, 1:30]\n", 2, "base 60"),
        ("uid: 0100\n", 1, "octal, so it is read as 64"),
        ("runcmd:\n- [chmod, 0644, /x]\n", 2, "octal"),
        ("name: 1_000\n", 1, "underscores"),
        ("mounts:\n- [a, b, c, no]\n", 2, "an item yes"),
        ("on: 1\n", 1, "a key yes"),
        ("users:\n- name: no\n", 2, "'name' is a text"),
    ] {
        let found = read(text).unwrap_err();
        assert_eq!(found.line, line, "{text}: {found:?}");
        assert!(found.problem.contains(part), "{text}: {found:?}");
    }
}

#[test]
fn a_path_has_a_line() {
    let root = read("a: 1\nusers:\n  - default\n  - name: x\n    passwd: y\n")
        .unwrap()
        .unwrap();
    let line =
        |path: &[&str]| root.line_of(&path.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
    assert_eq!(line(&["users", "1", "passwd"]), 5);
    assert_eq!(line(&["users", "1"]), 4);
    assert_eq!(line(&["users", "1", "nothing"]), 4);
}

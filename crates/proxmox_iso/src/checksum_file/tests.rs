use super::*;
use proptest::prelude::*;

fn look(text: &str, name: &str) -> Result<String, String> {
    let names = [name.to_string()];
    let wanted = Wanted {
        names: &names,
        path: &format!("/iso/amd64/{name}"),
        prefer: Algorithm::Sha256,
        of: "SHA256SUMS",
    };
    find(text, wanted).map(|found| found.digest.to_string())
}

#[test]
fn every_published_form() {
    let (a, b) = ("ab".repeat(32), "CD".repeat(32));
    let (big, other) = ("ef".repeat(64), "0".repeat(64));
    let grouped = "ABABABAB ".repeat(8);
    let (is_a, is_big) = (format!("sha256:{a}"), format!("sha512:{big}"));
    for text in [
        format!("{other}  other.iso\n{a}  x.iso\n"),
        format!("{other} *other.iso\r\n{a} *x.iso\r\n"),
        format!("{other}\tother.iso\n{a}\tx.iso\n"),
        format!("\u{feff}{}  x.iso", a.to_uppercase()),
        format!("# made today by me, with care\n{a}  ./x.iso\n{other}  ./other.iso\n"),
        format!("{a}  dir\\x.iso\n{other} y\n"),
        format!("{a}  /srv/iso/x.iso\n{other}  y\n"),
        format!(
            "MD5 (x.iso) = {}\nSHA1 (x.iso) = {}\nSHA256 (y.iso) = {b}\nSHA256 (x.iso) = {a}\n",
            "0".repeat(32),
            "0".repeat(40)
        ),
        format!("SHA256(x.iso)= {a}\nSHA2-256(y.iso)= {b}\n"),
        format!("SHA2-256(x.iso)= {a}\n"),
        format!("x.iso: {grouped}\n"),
        format!(
            "x.iso:\n{:>7}{}\n{:>7}{}\n",
            "",
            "ABABABAB ".repeat(4),
            "",
            "ABABABAB ".repeat(4)
        ),
        format!("x.iso {a}\ny.iso {b}\n"),
        // gpg --print-mds, PowerShell, and a label behind the name.
        format!(
            "x.iso:    MD5 = {}\nx.iso:   SHA1 = {}\nx.iso: SHA256 = {}\n{:>15}{}\ny.iso: SHA256 = {b}\n",
            "AB ".repeat(16),
            "ABAB ".repeat(10),
            "ABABABAB ".repeat(6),
            "",
            "ABABABAB ".repeat(2)
        ),
        format!(
            "\r\nAlgorithm       Hash     Path\r\n---------       ----     ----\r\nSHA256          {}       C:\\iso\\x.iso\r\nSHA256 {b} C:\\y.iso",
            a.to_uppercase()
        ),
        format!("x.iso SHA-256: {a}\ny.iso SHA-256: {b}\n"),
        format!("{a}\n"),
        format!("{a}\r\n"),
        format!("  {a}  "),
        format!("{a}  -\n"),
        format!("{a} *-"),
        format!("sha256:{a}\n"),
        format!("SHA256: {a}\n"),
        format!("sha256 = {a}\n"),
        // One checksum, of whatever it lies beside.
        format!("{a}  nixos-minimal-25.05.812345.abcdef012345-x86_64-linux.iso\n"),
        format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{a}  x.iso\n{b}  y.iso\n-----BEGIN PGP SIGNATURE-----\n\n{b}\n-----END PGP SIGNATURE-----\n"
        ),
        format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# x.iso: 1 bytes\nSHA256 (x.iso) = {a}\n- - trailing\n"
        ),
        // The image's own directory, of several.
        format!("{b}  ./i386/x.iso\n{a}  ./amd64/x.iso\n"),
        // Both algorithms: the one asked for.
        format!("SHA512 (x.iso) = {big}\nSHA256 (x.iso) = {a}\n"),
    ] {
        assert_eq!(look(&text, "x.iso").as_ref(), Ok(&is_a), "{text}");
    }
    for text in [
        format!("{big}  x.iso\n{}  y.iso\n", "1".repeat(128)),
        format!(
            "SHA512 (x.iso) = {big}\nSHA1 (x.iso) = {}\n",
            "0".repeat(40)
        ),
        // Gentoo's DIGESTS: BLAKE2B has as many digits.
        format!(
            "# BLAKE2B HASH\n{}  x.iso\n# SHA512 HASH\n{big}  x.iso\n",
            "1".repeat(128)
        ),
    ] {
        assert_eq!(look(&text, "x.iso").as_ref(), Ok(&is_big), "{text}");
    }
    // Names with Markdown's characters.
    for name in ["a|x.iso", "`x`.iso", "a**x.iso"] {
        let text = format!("{a}  {name}\n{b}  x.iso\n");
        assert_eq!(look(&text, name).as_ref(), Ok(&is_a), "{text}");
    }
    // Names that GNU escapes.
    let odd = format!("\\{a}  a\\\\b\\nc.iso\n{b}  y.iso\n");
    let wanted = Wanted {
        names: &[],
        path: "",
        prefer: Algorithm::Sha256,
        of: "",
    };
    let found = entries(&odd, wanted).entries;
    assert_eq!(found[0].file, "a\\b\nc.iso");
    let spaces = format!("SHA256 (a (1).iso) = {a}\nSHA256 (x.iso) = {b}\n");
    assert_eq!(look(&spaces, "a (1).iso"), Ok(is_a));
}

#[test]
fn what_is_not_there_is_an_error() {
    let (a, b) = ("ab".repeat(32), "cd".repeat(32));
    for (text, expected) in [
        (
            format!("{a}  y.iso\n{b}  z.iso\n"),
            "no checksum of x.iso (2 of other files: y.iso, z.iso)",
        ),
        (
            format!("{a}  y-x.iso\n{b}  x.iso.sig\n"),
            "no checksum of x.iso",
        ),
        (
            format!("{a}  x.iso\n{b}  x.iso\n"),
            "several checksums of x.iso",
        ),
        (format!("{a}\n{b}\n"), "no checksum of x.iso"),
        (
            "<!DOCTYPE html><title>Log in</title>".into(),
            "an HTML page",
        ),
        (String::new(), "no checksum"),
        (
            format!("MD5 (x.iso) = {}\n", "0".repeat(32)),
            "neither SHA-256",
        ),
        (format!("{}  x.iso\n", "0".repeat(40)), "neither SHA-256"),
        (format!("SHA3-256 (x.iso) = {a}\n"), "neither SHA-256"),
        (format!("BLAKE2b (x.iso) = {a}{a}\n"), "neither SHA-256"),
    ] {
        let error = look(&text, "x.iso").unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn the_name_of_the_file_tells_what_digits_do_not() {
    let text = format!("{}  x.iso\n", "ef".repeat(64));
    let names = ["x.iso".to_string()];
    let look = |of| {
        let wanted = Wanted {
            names: &names,
            path: "/x.iso",
            prefer: Algorithm::Sha512,
            of,
        };
        find(&text, wanted)
    };
    for of in [
        "SHA512SUMS",
        "sha512sums.txt",
        "x.iso.sha512",
        "",
        "blake2-and-sha512.txt",
    ] {
        assert!(look(of).is_ok(), "{of}");
    }
    for of in ["b2sums.txt", "B2SUMS", "x.iso.blake2b", "x.iso.sha3-512"] {
        assert!(look(of).unwrap_err().contains("neither SHA-256"), "{of}");
    }
}

#[test]
fn pages_and_documents() {
    let (a, b) = ("ab".repeat(32), "CD".repeat(32));
    let (big, other) = ("ef".repeat(64), "0".repeat(128));
    let sri = "sha256-q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=";
    let nix32 = "1axbmfmspaxbmfmspaxbmfmspaxbmfmspaxbmfmspaxbmfmspaxb";
    let is_a = format!("sha256:{a}");
    for text in [
        // Markdown.
        format!(
            "# Downloads\n\n| File | SHA-256 |\n|---|---|\n| y.iso | `{b}` |\n| [x.iso](https://h/x.iso) | `{a}` |\n"
        ),
        format!("File | Hash\n--- | ---\nx.iso | {a}\ny.iso | {b}\n"),
        format!(
            "| x.iso | 1.2 GB | {} | {} | {a} |\n| y.iso | 2 GB | {b} |",
            "0".repeat(32),
            "0".repeat(40)
        ),
        format!(
            "| File | BLAKE2b | SHA256 |\n|:--|:-:|--:|\n| x.iso | {other} | {a} |\n| y.iso | {other} | {b} |\n"
        ),
        format!(
            "- [x.iso](https://h/x.iso) ([signature](https://h/x.iso.sig)): `{a}`\n- y.iso: `{b}`\n"
        ),
        format!("## x.iso\n\nSHA256: `{a}`\n\n## y.iso\n\nSHA256: `{b}`\n"),
        format!("## x.iso\n\n### SHA256\n\n```\n{a}\n```\n## y.iso\n```\n{b}\n```\n"),
        format!(
            "* **x.iso**\n  * SHA-256: `{a}`\n  * SHA-1: `{}`\n* **y.iso**\n  * SHA-256: `{b}`\n",
            "0".repeat(40)
        ),
        format!("* x.iso {a}\n* y.iso {b}\n"),
        format!("File: y.iso\nSHA256: {b}\n\nFile: x.iso\nSize: 12\nSHA256: {a}\n"),
        format!("```\n{b}  y.iso\n{a}  x.iso\n```\n"),
        format!("`{a}  x.iso`\n`{b}  y.iso`"),
        format!(
            "Verify that the SHA-256 of x.iso is {a} before you use it.\nThat of y.iso is {b}.\n"
        ),
        // Nix.
        format!("x.iso {sri}\ny.iso sha256-{}\n", "q".repeat(44)),
        sri.to_owned(),
        nix32.to_owned(),
        format!("sha256:{nix32}"),
        format!("{nix32}  x.iso\n{b}  y.iso\n"),
        format!("iso = fetchurl {{\n  url = \"https://h/x.iso\";\n  hash = \"{sri}\";\n}};\n"),
        format!(
            "  url = \"https://h/y.iso\";\n  sha256 = \"{b}\";\n  url = \"https://h/x.iso\";\n  sha256 = \"{nix32}\";\n"
        ),
        // JSON.
        format!(
            r#"{{"tag_name": "v1", "assets": [{{"name": "y.iso", "digest": "sha256:{b}"}}, {{"name": "x.iso", "uploader": {{"name": "me"}}, "digest": "sha256:{a}"}}]}}"#
        ),
        format!(
            r#"{{"y.iso": {{"sha256": "{b}"}}, "x.iso": {{"sha512": "{big}", "sha256": "{a}"}}}}"#
        ),
        format!(r#"{{"x.iso": "{a}", "y.iso": "{b}"}}"#),
        format!(r#"{{"x.iso": "{sri}", "y.iso": null}}"#),
        format!(
            r#"[{{"path": "iso/x.iso", "hash": {{"algorithm": "SHA-256", "value": "{a}"}}}}, {{"path": "y.iso", "hash": {{"algorithm": "MD5", "value": "0"}}}}]"#
        ),
        format!(
            r#"{{"stream": "stable", "metal": {{"iso": {{"disk": {{"location": "https://h/x.iso", "signature": "https://h/x.iso.sig", "sha256": "{a}"}}}}}}, "pxe": {{"location": "https://h/kernel.img", "sha256": "{b}"}}}}"#
        ),
        format!(
            r#"{{"subject": [{{"name": "x.iso", "digest": {{"sha256": "{a}"}}}}, {{"name": "y.iso", "digest": {{"sha256": "{b}"}}}}]}}"#
        ),
        format!(
            r#"{{"files": [{{"fileName": "./x.iso", "checksums": [{{"algorithm": "SHA1", "checksumValue": "{}"}}, {{"algorithm": "SHA256", "checksumValue": "{a}"}}]}}]}}"#,
            "0".repeat(40)
        ),
        format!(r#"{{"url": "https://h/x.iso", "integrity": "{sri}"}}"#),
        format!(r#"{{"sha256": "{a}"}}"#),
        format!("\u{feff} [\"{sri}\"]"),
    ] {
        assert_eq!(look(&text, "x.iso").as_ref(), Ok(&is_a), "{text}");
    }
    for text in [
        format!("---\nx.iso:\n  sha256: {a}\ny.iso:\n  sha256: {b}\n"),
        format!(
            "images:\n  - name: y.iso\n    checksum: sha256:{b}\n  - url: https://h/x.iso\n    sha256: {a}\n"
        ),
        format!("x.iso: {a}\ny.iso: {b}\n"),
    ] {
        let names = ["x.iso".to_owned()];
        let wanted = Wanted {
            names: &names,
            path: "/x.iso",
            prefer: Algorithm::Sha256,
            of: "images.yml",
        };
        let found = find(&text, wanted).map(|found| found.digest.to_string());
        assert_eq!(found.as_ref(), Ok(&is_a), "{text}");
    }
}

#[test]
fn what_is_ambiguous_is_refused_with_what_was_found() {
    let (a, b) = ("ab".repeat(32), "cd".repeat(32));
    for (text, expected) in [
        (
            format!("| x.iso | {a} |\n| x.iso | {b} |\n"),
            format!("it has several checksums of x.iso: sha256:{a}, sha256:{b}"),
        ),
        (
            format!("The SHA-256 of x.iso and y.iso is {a}.\n"),
            format!(
                "no line names x.iso as its only file (first ambiguous line: 'The SHA-256 of x.iso and y.iso is {}",
                &a[..40]
            ),
        ),
        (
            format!(r#"{{"name": "x.iso", "sha256": "{a}", "digest": "sha256:{b}"}}"#),
            "it has several checksums of x.iso: sha256:".to_owned(),
        ),
        (
            format!(r#"{{"y.iso": {{"sha256": "{a}"}}, "z.iso": {{"sha256": "{b}"}}}}"#),
            "it has no checksum of x.iso (2 of other files: y.iso, z.iso)".to_owned(),
        ),
        (
            format!("## y.iso\n`{a}`\n## z.iso\n`{b}`\n"),
            "it has no checksum of x.iso (2 of other files: y.iso, z.iso)".to_owned(),
        ),
        (
            format!(r#"["sha256:{a}", "sha256:{b}"]"#),
            "it has no checksum of x.iso (2 of other files)".to_owned(),
        ),
        (
            format!(r#"{{"x.iso": {{"md5": "{}"}}}}"#, "0".repeat(32)),
            "its checksums are neither SHA-256, ".to_owned(),
        ),
        ("{}".to_owned(), "it has no checksum".to_owned()),
        // Only the head of a table says that these are not of SHA-512.
        (
            format!(
                "| File | BLAKE2b |\n|---|---|\n| x.iso | {} |\n",
                "ef".repeat(64)
            ),
            "its checksums are neither SHA-256, ".to_owned(),
        ),
        (
            format!("<!DOCTYPE html><p>x.iso <code>{a}</code>"),
            "it is an HTML page".to_owned(),
        ),
    ] {
        let error = look(&text, "x.iso").unwrap_err();
        assert!(error.starts_with(&expected), "{text}: {error}");
    }
}

#[test]
fn hostile_texts_end() {
    let a = "ab".repeat(32);
    let aliases: String = (1..30)
        .map(|n| format!("a{n}: &a{n} [{}]\n", format!("*a{},", n - 1).repeat(9)))
        .collect();
    for text in [
        "x.iso ".repeat(1 << 19),
        "|".repeat(1 << 20),
        format!("{}{a}\n", "y.iso.sig z.iso ".repeat(500)).repeat(50),
        format!("{}\n", "a|".repeat(4000)).repeat(5),
        "[".repeat(1 << 20),
        "{\"a\":".repeat(1 << 18),
        "- ".repeat(1 << 19),
        format!("a0: &a0 [{a}]\n{aliases}"),
        format!("## x.iso\n{a}\n").repeat(1 << 12),
    ] {
        for of in ["SHA256SUMS", "sums.yml"] {
            let names = ["x.iso".to_owned()];
            let wanted = Wanted {
                names: &names,
                path: "/x.iso",
                prefer: Algorithm::Sha256,
                of,
            };
            let _ = find(&text, wanted);
        }
    }
}

/// Pieces of which texts are made that nearly have a form.
fn piece() -> impl Strategy<Value = String> {
    let hex = "ab".repeat(32);
    let fixed = [
        "x.iso",
        "y.iso",
        "|",
        "---",
        "\n",
        " ",
        "\t",
        "`",
        "**",
        "](",
        "# ",
        "- ",
        "* ",
        "sha256",
        "SHA512",
        "md5",
        ": ",
        "=",
        ":",
        "{",
        "}",
        "[",
        "]",
        "\"",
        ",",
        "https://h/x.iso?a#b",
        "sha256-q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=",
        "1axbmfmspaxbmfmspaxbmfmspaxbmfmspaxbmfmspaxbmfmspaxb",
        "name",
        "digest",
        "---\n",
        "é",
        "\u{2028}",
    ];
    let pieces: Vec<String> = fixed
        .iter()
        .map(|text| (*text).to_owned())
        .chain([hex])
        .collect();
    proptest::sample::select(pieces)
}

/// One line of each form, and whether its name survives in it.
fn line() -> impl Strategy<Value = fn(&str, &str) -> String> {
    proptest::sample::select(vec![
        (|hex: &str, name: &str| format!("{hex}  {name}")) as fn(&str, &str) -> String,
        |hex, name| format!("{hex} *{name}"),
        |hex, name| format!("{}\t{name}", hex.to_uppercase()),
        |hex, name| format!("{hex}  ./dir/{name}\r"),
        |hex, name| format!("SHA256 ({name}) = {hex}"),
        |hex, name| format!("SHA2-256({name})= {hex}"),
        |hex, name| format!("{name}: {}", hex.to_uppercase()),
    ])
}

proptest! {
    /// In a file of any forms, with or without comments and a signature, each name has its own.
    #[test]
    fn each_name_has_its_own(forms in proptest::collection::vec((line(), any::<[u8; 32]>()), 2..8), signed: bool, comment in "[a-z ]{0,20}") {
        let mut text = String::new();
        if signed {
            text += "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n";
        }
        text += &format!("# {comment} of these five files\n");
        for (at, (form, bytes)) in forms.iter().enumerate() {
            text += &form(&hex::encode(bytes), &format!("nixos {at}.iso"));
            text.push('\n');
        }
        for (at, (_, bytes)) in forms.iter().enumerate() {
            prop_assert_eq!(look(&text, &format!("nixos {at}.iso")), Ok(format!("sha256:{}", hex::encode(bytes))), "{}", text);
        }
        prop_assert!(look(&text, "other.iso").is_err());
    }

    #[test]
    fn nearly_any_form_is_read_or_refused(pieces in proptest::collection::vec(piece(), 0..60), of in "(SHA256SUMS|a\\.json|a\\.yml|b2sums)") {
        let text = pieces.concat();
        let names = ["x.iso".to_owned()];
        let wanted = Wanted { names: &names, path: "/x.iso", prefer: Algorithm::Sha256, of: &of };
        let _ = find(&text, wanted);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(.|\n){0,400}") {
        let _ = look(&text, "x.iso");
    }
}

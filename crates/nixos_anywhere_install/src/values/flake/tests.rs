use proptest::prelude::*;

use super::*;

#[test]
fn a_reference_has_parts() {
    let parts = |text: &str| {
        let parts = FlakeParts::parse(text).unwrap();
        [parts.uri, parts.name, parts.attribute]
    };
    let github = "github:me/infra?dir=hosts";
    assert_eq!(
        parts(&format!("{github}#\"web1.example.org\"")),
        [github, "web1.example.org", "web1.example.org"]
    );
    let variant = "nixosConfigurations.\"a.b\".config.virtualisation.vmVariant";
    assert_eq!(
        parts(&format!("git+file:///infra#{variant}")),
        ["git+file:///infra", "a.b", variant]
    );
    assert_eq!(parts("infra#web1"), ["infra", "web1", "web1"]);
    // A directory within a flake.
    let dir = tempfile::tempdir().unwrap();
    let (flake, inner) = (dir.path().display(), dir.path().join("hosts/web1"));
    std::fs::create_dir_all(&inner).unwrap();
    assert_eq!(
        parts(&format!("{}#web1", inner.display()))[0],
        inner.display().to_string()
    );
    std::fs::write(dir.path().join("flake.nix"), "").unwrap();
    for (text, uri) in [
        (format!("{flake}#web1"), format!("{flake}")),
        (format!("{}#web1", inner.display()), format!("{flake}")),
        (format!("{flake}?dir=x#web1"), format!("{flake}?dir=x")),
    ] {
        assert_eq!(parts(&text)[0], uri);
    }
}

fn toplevel(text: &str) -> String {
    FlakeRef::parse(text).unwrap().installable("toplevel")
}

#[test]
fn every_spelling_of_a_configuration_is_that_configuration() {
    let dotted = ".#nixosConfigurations.\"web1.example.org\".config.system.build.toplevel";
    for text in [
        ".#web1.example.org",
        ".#\"web1.example.org\"",
        " .#web1.example.org\n",
        "'.#web1.example.org'",
        "\".#web1.example.org\"",
        ".# web1.example.org",
        ".#nixosConfigurations.\"web1.example.org\"",
        ".#nixosConfigurations.\"web1.example.org\".config",
    ] {
        assert_eq!(toplevel(text), dotted, "{text}");
        let text = FlakeRef::parse(text).unwrap().for_nixos_anywhere();
        assert_eq!(text.unwrap(), ".#web1.example.org");
    }
    for (text, expected) in [
        (
            "github:me/infra#web1",
            "github:me/infra#nixosConfigurations.web1",
        ),
        (
            "github:me/infra?dir=hosts#nixosConfigurations.web1",
            "github:me/infra?dir=hosts#nixosConfigurations.web1",
        ),
        (
            "/my infra?dir=a b#web1",
            "/my infra?dir=a b#nixosConfigurations.web1",
        ),
        (
            "git+file:///my infra#web1",
            "git+file:///my%20infra#nixosConfigurations.web1",
        ),
        (
            "git+ssh://git@h:2222/infra#web1",
            "git+ssh://git@h:2222/infra#nixosConfigurations.web1",
        ),
        (
            "file:///infra.tar.gz#web1",
            "file:///infra.tar.gz#nixosConfigurations.web1",
        ),
        ("./..#1web", "./..#nixosConfigurations.\"1web\""),
        ("nixpkgs#web-1", "nixpkgs#nixosConfigurations.web-1"),
        (
            "file:///infra.tar.bz2#web1",
            "file:///infra.tar.bz2#nixosConfigurations.web1",
        ),
        (
            "https://example.org/a.tar.gz#web1",
            "https://example.org/a.tar.gz#nixosConfigurations.web1",
        ),
    ] {
        let expected = format!("{expected}.config.system.build.toplevel");
        assert_eq!(toplevel(text), expected);
    }
    assert_eq!(
        toplevel(".#nixosConfigurations.web1.config.virtualisation.vmVariant"),
        ".#nixosConfigurations.web1.config.virtualisation.vmVariant.system.build.toplevel"
    );
    let home = std::env::var("HOME").unwrap();
    let expected = format!("{home}/infra#nixosConfigurations.web1.config.system.build.toplevel");
    assert_eq!(toplevel("~/infra#web1"), expected);
}

#[test]
fn what_is_not_one_is_answered_with_what_to_write() {
    for (text, instead) in [
        ("", "URI#NAME"),
        (".", "write .#NAME"),
        ("/infra", "write /infra#NAME"),
        ("github:me/infra", "write github:me/infra#NAME"),
        ("web1", "write .#web1"),
        (".#", "write .#NAME"),
        ("#web1", "write .#web1"),
        (".#web1?dir=x", "write .?dir=x#web1"),
        (".#\\\"web1\\\"", "write .#web1"),
        (".#'web1'", "write .#web1"),
        (".#\"web1", "write .#web1"),
        (".#web1#x", "write .#web1"),
        (".#web1^out", "write .#web1"),
        (
            ".#nixosConfigurations.web1.config.system.build.toplevel",
            "write .#web1",
        ),
        (".#web1.config.system.build.toplevel", "write .#web1"),
        (
            ".#nixosConfigurations.web1.example.org",
            "write .#web1.example.org",
        ),
        (
            "git@github.com:me/infra.git#web1",
            "write git+ssh://git@github.com/me/infra.git#",
        ),
        ("ssh://git@h/infra#web1", "write git+ssh://git@h/infra#"),
        ("https://github.com/me/infra#web1", "write github:me/infra#"),
        ("https://h/infra.git#web1", "write git+https://h/infra.git#"),
        ("\"/my infra\"#web1", "write /my infra#"),
        ("--eval#web1", "write"),
        ("#", "write .#NAME"),
        (". #web1", "write .#web1"),
        (".#web1 --impure", "write .#web1"),
        (".#{{ inventory_hostname }}", "write .#NAME"),
        (".#web1,web2", "write .#web1"),
        (".#nixosConfigurations", "write .#NAME"),
        (".#nixosConfigurations.", "write .#NAME"),
        (
            ".#packages.x86_64-linux.default",
            "is not in nixosConfigurations",
        ),
        (".#homeConfigurations.me", "is not in nixosConfigurations"),
        ("$HOME/infra#web1", "write ~/infra#NAME"),
        ("${HOME}/infra#web1", "write ~/infra#NAME"),
        ("$FLAKE#web1", "write the path itself"),
        ("~me/infra#web1", "write an absolute path"),
        ("github.com/me/infra#web1", "write github:me/infra#NAME"),
        ("github:infra#web1", "write github:OWNER/REPOSITORY#NAME"),
        (
            "https://github.com/me/infra/tree/a/b#web1",
            "write github:me/infra/a/b#NAME",
        ),
        (
            "git+ssh://git@h:me/infra#web1",
            "write git+ssh://git@h/me/infra#NAME",
        ),
        ("file:///infra#web1", "write path:/infra#NAME"),
        ("file:.#web1", "write path:.#NAME"),
        ("/nix/store/x-nixos-system-web1", "into store_paths"),
    ] {
        let problem = FlakeRef::parse(text).unwrap_err();
        assert!(problem.contains(instead), "{text}: {problem}");
    }
    let variant = ".#nixosConfigurations.\"a.b\".config.virtualisation.vmVariant";
    let variant = FlakeRef::parse(variant).unwrap();
    assert!(
        variant
            .for_nixos_anywhere()
            .unwrap_err()
            .contains("build_on")
    );
}

#[test]
fn names_and_addresses_that_only_look_odd() {
    let name = |text: &str| FlakeRef::parse(text).unwrap().installable("toplevel");
    for host in [
        "deploy.example.org",
        "colmena.example.org",
        "web.build-linux.example",
    ] {
        let expected = format!(".#nixosConfigurations.\"{host}\".config.system.build.toplevel");
        assert_eq!(name(&format!(".#{host}")), expected);
    }
    for place in [
        "git+ssh://git@[2001:db8::1]/infra",
        "git+ssh://git@[2001:db8::1]:22/infra",
        "git+ssh://user:pw@host/infra",
    ] {
        assert!(FlakeRef::parse(&format!("{place}#web1")).is_ok(), "{place}");
    }
    let wrong = FlakeRef::parse("git+ssh://git:pw@host:infra/x#web1").unwrap_err();
    assert!(wrong.contains("git+ssh://git@host/infra/x#NAME"), "{wrong}");
}

proptest! {
    #[test]
    fn any_host_name_is_found_with_quotes_and_without(name in "[a-z][a-z0-9-]{0,10}(\\.[a-z0-9-]{1,8}){0,3}") {
        let quoted = format!(".#\"{name}\"");
        prop_assert_eq!(FlakeRef::parse(&quoted), FlakeRef::parse(&format!(".#{name}")));
    }

    #[test]
    fn any_text_is_read_or_answered(text in "[a-z.#\"'?:/~@ ]{0,30}") {
        if let Ok(flake) = FlakeRef::parse(&text) {
            let installable = flake.installable("toplevel");
            prop_assert_eq!(installable.matches('#').count(), 1);
            prop_assert_eq!(installable.matches('"').count() % 2, 0);
        }
    }
}

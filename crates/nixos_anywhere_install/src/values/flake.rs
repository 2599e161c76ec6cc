//! References to a NixOS configuration in a flake, as people write them.

/// A reference to a configuration, `URI#NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlakeRef {
    uri: String,
    configuration: Configuration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Configuration {
    /// `nixosConfigurations.NAME`.
    Name(String),
    /// The attribute path of another `config`, such as that of a variant.
    Path(Vec<String>),
}

const SET: &str = "nixosConfigurations";

impl FlakeRef {
    /// Read `URI#NAME`, where NAME is a configuration's name or an attribute path from
    /// `nixosConfigurations` to a `config`. Quotes around names are left out.
    ///
    /// # Errors
    /// What is wrong with it, for behind the option's name.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = unquoted(text.trim());
        let fail = |problem: &str, instead: String| {
            Err(format!("{problem} (got {text:?}); write {instead}"))
        };
        let Some((uri, name)) = text.split_once('#') else {
            let instead = match text {
                "" => "URI#NAME, for instance github:me/infra#web1".to_owned(),
                path if path.starts_with("/nix/store/") => {
                    return fail("is a store path, not a flake", "it into store_paths".into());
                }
                uri if looks_like_uri(uri) => format!("{uri}#NAME"),
                name => format!(".#{name} if that is a configuration's name"),
            };
            return fail("does not name a configuration", instead);
        };
        let name = name.trim();
        if name.is_empty() {
            let uri = if uri.is_empty() { "." } else { uri };
            return fail("does not name a configuration", format!("{uri}#NAME"));
        }
        if uri.trim_end() != uri {
            return fail(
                "has blanks before the #",
                format!("{}#{name}", uri.trim_end()),
            );
        }
        if uri.is_empty() {
            return fail("does not say where the flake is", format!(".#{name}"));
        }
        if let Some((name, query)) = name.split_once('?') {
            return fail(
                "has its query behind the name",
                format!("{uri}?{query}#{name}"),
            );
        }
        let configuration = configuration(uri, name)
            .map_err(|(problem, instead)| format!("{problem} (got {text:?}); write {instead}"))?;
        let uri = location(uri)
            .map_err(|(problem, instead)| format!("{problem} (got {text:?}); write {instead}"))?;
        Ok(Self { uri, configuration })
    }

    /// What to ask `nix build` for to get `system.build.ATTRIBUTE`.
    pub(crate) fn installable(&self, attribute: &str) -> String {
        let path = match &self.configuration {
            Configuration::Name(name) => format!("{SET}.{}.config", quoted(name)),
            Configuration::Path(path) => joined(path),
        };
        format!("{}#{path}.system.build.{attribute}", self.uri)
    }

    /// The reference for nixos-anywhere, which quotes a name itself and takes no quotes.
    ///
    /// # Errors
    /// What is wrong, when it would need quotes.
    pub(crate) fn for_nixos_anywhere(&self) -> Result<String, String> {
        let name = match &self.configuration {
            Configuration::Name(name) => name.clone(),
            Configuration::Path(path) => joined(path),
        };
        match name.contains('"') {
            true => Err(format!(
                "nixos-anywhere cannot build the attribute {name}, because it needs quotes; use build_on: local"
            )),
            false => Ok(format!("{}#{name}", self.uri)),
        }
    }
}

/// A reference in its parts, for those that have its configuration built through a flake of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlakeParts {
    /// Where the flake is, for `override_inputs`.
    pub uri: String,
    /// The configuration's name.
    pub name: String,
    /// What stands behind the `#` for it, whichever flake it is in.
    pub attribute: String,
}

impl FlakeParts {
    /// Read `URI#NAME`.
    ///
    /// # Errors
    /// What is wrong with it, for behind the option's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let FlakeRef { uri, configuration } = FlakeRef::parse(text)?;
        let (name, attribute) = match configuration {
            Configuration::Name(name) => (name.clone(), name),
            // It begins with nixosConfigurations.NAME.config.
            Configuration::Path(path) => (path.get(1).cloned().unwrap_or_default(), joined(&path)),
        };
        Ok(Self {
            uri: with_flake_nix(uri),
            name,
            attribute,
        })
    }
}

/// A directory that has no flake, as the one above it that has: for an installable Nix looks there too, for an input it does not.
fn with_flake_nix(uri: String) -> String {
    if !uri.starts_with(['.', '/']) || uri.contains('?') {
        return uri;
    }
    let Ok(path) = std::path::absolute(&uri) else {
        return uri;
    };
    match path.ancestors().find(|dir| dir.join("flake.nix").exists()) {
        Some(found) if found != path => found.display().to_string(),
        _ => uri,
    }
}

/// The place of a flake as Nix takes it.
///
/// # Errors
/// What is wrong with it, for behind the option's name.
pub(crate) fn place(uri: &str) -> Result<String, String> {
    if uri.is_empty() || uri.contains('#') {
        return Err(format!(
            "must be a flake reference without #NAME (got {uri:?})"
        ));
    }
    location(uri).map_err(|(problem, instead)| {
        let instead = instead.trim_end_matches("#NAME");
        format!("{problem} (got {uri:?}); write {instead}")
    })
}

/// What stands within quotation marks that enclose all of it.
fn unquoted(text: &str) -> &str {
    let inner = |mark: char| {
        text.strip_prefix(mark)?
            .strip_suffix(mark)
            .filter(|inner| !inner.contains(mark))
    };
    let inner = inner('"').or_else(|| inner('\''));
    inner
        .filter(|inner| inner.contains('#'))
        .map_or(text, str::trim)
}

/// Whether a text without `#` is where a flake is, rather than the name of a configuration.
fn looks_like_uri(text: &str) -> bool {
    text.starts_with(['.', '/', '~']) || text.contains([':', '/'])
}

/// A problem, and what to write instead.
type Wrong = (&'static str, String);

/// Outputs of flakes that hold configurations of something else.
const OTHERS: [&str; 3] = [
    "darwinConfigurations",
    "homeConfigurations",
    "nixOnDroidConfigurations",
];

/// Whether this is what flakes sort packages by, `x86_64-linux`.
fn is_system(name: &str) -> bool {
    let known = ["x86_64", "aarch64", "i686", "armv7l", "riscv64"];
    name.split_once('-')
        .is_some_and(|(machine, os)| known.contains(&machine) && ["linux", "darwin"].contains(&os))
}

fn configuration(uri: &str, text: &str) -> Result<Configuration, Wrong> {
    // Nix reads some of them as something else; a machine's name has none of the others.
    let odd = |c: char| c.is_control() || c.is_whitespace() || "#^%$\\{}(),;*`".contains(c);
    if text.contains(odd) {
        let plain = text.replace('\\', "");
        let plain = plain.split(odd).next().unwrap_or_default();
        let name = match plain.trim_matches(['"', '\'']) {
            "" => "NAME",
            name => name,
        };
        return Err((
            "has a character in its name that a configuration's name does not have",
            format!("{uri}#{name}"),
        ));
    }
    let path = match attributes(text) {
        Some(path) => path,
        None => {
            let instead = format!("{uri}#{}", text.replace(['"', '\''], ""));
            return Err(("has quotes in the middle of its name", instead));
        }
    };
    let elsewhere = path
        .first()
        .is_some_and(|first| OTHERS.contains(&first.as_str()))
        || path.starts_with(&["deploy".to_owned(), "nodes".to_owned()])
        || path.get(1).is_some_and(|system| is_system(system));
    if elsewhere && path.len() > 1 {
        return Err(("is not in nixosConfigurations", format!("{uri}#NAME")));
    }
    if path == [SET] || path.iter().any(String::is_empty) {
        return Err(("does not name a configuration", format!("{uri}#NAME")));
    }
    let rest = match path.split_first() {
        Some((first, rest)) if first == SET && !rest.is_empty() => rest,
        // A name may have dots, with quotes around it or without.
        _ => {
            if let Some(at) = text.find(".config.system.build") {
                return Err((
                    "names a part of a configuration",
                    format!("{uri}#{}", &text[..at]),
                ));
            }
            return match text
                .strip_prefix('"')
                .and_then(|text| text.strip_suffix('"'))
            {
                Some(name) if !name.contains('"') && !name.is_empty() => {
                    Ok(Configuration::Name(name.into()))
                }
                None if !text.contains(['"', '\'']) => Ok(Configuration::Name(text.into())),
                _ => {
                    let plain = text.replace(['"', '\''], "");
                    Err((
                        "has quotes in the middle of its name",
                        format!("{uri}#{plain}"),
                    ))
                }
            };
        }
    };
    match rest {
        [name] => Ok(Configuration::Name(name.clone())),
        [name, config] if config == "config" => Ok(Configuration::Name(name.clone())),
        [name, config, system, build, ..]
            if config == "config" && system == "system" && build == "build" =>
        {
            Err(("names a part of a configuration", format!("{uri}#{name}")))
        }
        [_, config, ..] if config == "config" => Ok(Configuration::Path(path)),
        dotted => Err((
            "is not the path of a configuration",
            format!("{uri}#{} if the name has dots", dotted.join(".")),
        )),
    }
}

/// The names of an attribute path; none when its quotes do not enclose whole names.
fn attributes(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text;
    loop {
        let (name, behind) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (name, behind) = quoted.split_once('"')?;
                (name, behind)
            }
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if name.contains('"') {
            return None;
        }
        names.push(name.to_owned());
        match behind.strip_prefix('.') {
            Some(behind) => rest = behind,
            None if behind.is_empty() => return Some(names),
            None => return None,
        }
    }
}

/// How the names of archives end that Nix unpacks (libfetchers/tarball.cc).
const ARCHIVES: [&str; 7] = [
    ".tar", ".tar.bz2", ".tar.gz", ".tar.xz", ".tar.zst", ".tgz", ".zip",
];

/// The scheme of a service that has one of its own.
fn forge(host: &str) -> Option<&str> {
    host.strip_suffix(".com")
        .filter(|name| ["github", "gitlab"].contains(name))
}

/// The place of a flake as Nix takes it.
fn location(uri: &str) -> Result<String, Wrong> {
    written_otherwise(uri)?;
    if uri == "~" || uri.starts_with("~/") {
        return match std::env::var("HOME") {
            Ok(home) => Ok(format!("{}{}", home.trim_end_matches('/'), &uri[1..])),
            Err(_) => Err((
                "begins with ~ while HOME is not set",
                "an absolute path".into(),
            )),
        };
    }
    let is_scheme = |scheme: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "+.-".contains(c);
        !scheme.is_empty() && scheme.chars().all(known)
    };
    match uri.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => with_scheme(uri, scheme, rest),
        // git's own form USER@HOST:PATH.
        Some((host, path)) if host.contains('@') && !uri.starts_with(['.', '/']) => Err((
            "is an address for git, not for Nix",
            format!("git+ssh://{host}/{path}#NAME"),
        )),
        _ => Ok(uri.to_owned()),
    }
}

/// Refuse what a shell or a browser understands, and Nix does not.
fn written_otherwise(uri: &str) -> Result<(), Wrong> {
    if uri.contains(['"', '\'', '\\']) {
        return Err((
            "has quotes in its address",
            uri.replace(['"', '\'', '\\'], "") + "#NAME",
        ));
    }
    if uri.starts_with('-') || uri.contains(char::is_control) {
        return Err(("is not a flake reference", "URI#NAME".into()));
    }
    if uri.contains('$') {
        let home = uri
            .strip_prefix("$HOME")
            .or_else(|| uri.strip_prefix("${HOME}"));
        return Err((
            "has a variable, which Nix does not replace",
            home.map_or("the path itself".to_owned(), |rest| format!("~{rest}#NAME")),
        ));
    }
    if uri.starts_with('~') && uri != "~" && !uri.starts_with("~/") {
        return Err(("begins with another user's ~", "an absolute path".into()));
    }
    match uri.split_once('/') {
        Some((host, repository)) => match forge(host) {
            Some(scheme) => Err(web_page(format!("{scheme}:{repository}#NAME"))),
            None => Ok(()),
        },
        None => Ok(()),
    }
}

fn with_scheme(uri: &str, scheme: &str, rest: &str) -> Result<String, Wrong> {
    let path = rest.split('?').next().unwrap_or_default();
    let git = path.trim_end_matches('/').ends_with(".git");
    match scheme {
        "ssh" => Err((
            "has a scheme that Nix does not know",
            format!("git+{uri}#NAME"),
        )),
        "http" | "https" if git => Err(("would be fetched as a file", format!("git+{uri}#NAME"))),
        "http" | "https" => over_http(uri, path),
        "git+ssh" => git_over_ssh(uri, path.trim_start_matches('/')),
        "file" if !ARCHIVES.iter().any(|end| path.ends_with(end)) => Err((
            "would be fetched as a file",
            format!("path:{}#NAME", path.strip_prefix("//").unwrap_or(path)),
        )),
        "github" | "gitlab" if !path.contains('/') => Err((
            "does not name a repository",
            format!("{scheme}:OWNER/REPOSITORY#NAME"),
        )),
        _ => Ok(uri.replace(' ', "%20")),
    }
}

/// An archive on a web server, unless it is a page of a forge.
fn over_http(uri: &str, path: &str) -> Result<String, Wrong> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts[..] {
        [host, owner, repo] if forge(host).is_some() => {
            let scheme = forge(host).unwrap_or_default();
            Err(web_page(format!("{scheme}:{owner}/{repo}#NAME")))
        }
        ["github.com", owner, repo, "tree", ref branch @ ..] => Err(web_page(format!(
            "github:{owner}/{repo}/{}#NAME",
            branch.join("/")
        ))),
        _ => Ok(uri.replace(' ', "%20")),
    }
}

/// A repository over SSH, `path` being `USER@HOST:PORT/PATH`; git's own `HOST:PATH` is not a URL.
fn git_over_ssh(uri: &str, path: &str) -> Result<String, Wrong> {
    let authority = path.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let Some((name, port)) = host.split_once(':') else {
        return Ok(uri.to_owned());
    };
    if name.starts_with('[') || port.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(uri.to_owned());
    }
    // A password behind the user's name is not shown.
    let user = match user.split(':').next().unwrap_or_default() {
        "" => String::new(),
        user => format!("{user}@"),
    };
    let rest = &path[authority.len() - port.len()..];
    Err((
        "has a path where a port is expected",
        format!("git+ssh://{user}{name}/{rest}#NAME"),
    ))
}

fn web_page(instead: String) -> Wrong {
    ("is the address of a web page", instead)
}

/// A name in an attribute path, quoted unless it is a plain identifier.
fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-'".contains(c));
    match plain {
        true => name.to_owned(),
        false => format!("\"{name}\""),
    }
}

fn joined(path: &[String]) -> String {
    let names: Vec<String> = path.iter().map(|name| quoted(name)).collect();
    names.join(".")
}

#[cfg(test)]
mod tests {
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
        let expected =
            format!("{home}/infra#nixosConfigurations.web1.config.system.build.toplevel");
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
}

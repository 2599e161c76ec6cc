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

/// The address of a flake that is an input, as Nix takes it.
///
/// # Errors
/// What is wrong with it, for behind the option's name.
pub(crate) fn input_uri(uri: &str) -> Result<String, String> {
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

/// The address of a flake that is an input, as Nix takes it.
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
mod tests;

//! What validation found.

use std::collections::BTreeMap;

/// What validation found.
#[derive(Debug, Default)]
pub struct Checked {
    /// In the order in which Ansible would find them.
    pub(super) errors: Vec<String>,
    /// The dotted names of unknown options, each with the options known at its level.
    pub(super) unsupported: BTreeMap<String, String>,
    /// For the user.
    pub warnings: Vec<String>,
    /// Values that came from elsewhere than the arguments (environment, defaults) and are secret.
    pub secrets: Vec<String>,
}

impl Checked {
    /// The options that are unknown, if that is the error.
    pub fn unsupported(&self) -> impl Iterator<Item = &str> {
        let names = self.unsupported.keys().map(String::as_str);
        names.filter(|_| self.errors.is_empty())
    }

    /// The first error, as a Python module called `module` would report it.
    pub fn error(&self, module: &str, ignore_unknown: bool) -> Option<String> {
        if let Some(first) = self.errors.first() {
            return Some(first.clone());
        }
        let (_, supported) = self.unsupported.last_key_value()?;
        let names: Vec<&str> = self.unsupported.keys().map(String::as_str).collect();
        (!ignore_unknown).then(|| {
            format!(
                "Unsupported parameters for ({module}) module: {}. Supported parameters include: {supported}.",
                names.join(", ")
            )
        })
    }
}

impl Checked {
    /// Every error but unknown names, where the suboptions of `option` are the variables of a role: by their names there, which have a
    /// prefix.
    pub fn variables(&self, option: &str, prefix: &str) -> Vec<String> {
        let renamed = |error: &String| {
            error
                .replace(&format!(" found in '{option}'."), "")
                .replace(&format!(" found in {option}"), "")
                .replace("argument '", &format!("argument '{prefix}"))
                .replace("value of ", &format!("value of {prefix}"))
                .replace(
                    "missing required arguments: ",
                    &format!("missing required variables: {prefix}"),
                )
        };
        self.errors.iter().map(renamed).collect()
    }

    /// Every unknown name, likewise, with the known one that it resembles.
    pub fn unknown_variables(&self, option: &str, prefix: &str) -> Vec<String> {
        let unknown = self.unsupported.iter().map(|(name, supported)| {
            let Some(name) = name.strip_prefix(&format!("{option}.")) else {
                return format!("{name}: is not an option of this module");
            };
            let names = supported.split([',', ' ', '(', ')']).filter(|name| !name.is_empty());
            let near = names
                .map(|known| (distance(name, known), known))
                .filter(|(distance, _)| *distance <= 2 + name.len() / 8)
                .min();
            match near {
                Some((_, known)) => format!("{prefix}{name}: is not a variable of the role; did you mean {prefix}{known}?"),
                None => format!(
                    "{prefix}{name}: is not a variable of the role (`ansible-doc -t role -r roles nixos_vm` lists them); give a \
                     variable of your own another prefix"
                ),
            }
        });
        unknown.collect()
    }
}

/// How many letters must be changed, added or removed to make one word the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut above = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = above + usize::from(x != *y);
            above = row[j + 1];
            row[j + 1] = cost.min(above + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// ` found in net -> net0`, where the options are not those of the top level.
pub(super) fn found_in(context: &[String]) -> String {
    if context.is_empty() {
        String::new()
    } else {
        format!(" found in {}", context.join(" -> "))
    }
}

//! What the checks of a configuration find, and where.

use std::rc::Rc;

use crate::Error;
use crate::pyyaml::Node;

/// Where a value is: the keys and item numbers that lead to it.
pub(crate) type Path = Vec<String>;

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub path: Path,
    pub problem: String,
    /// Whether cloud-init would not do what is asked for; else it is only odd.
    pub fatal: bool,
}

/// The findings of a check.
#[derive(Debug, Default)]
pub(crate) struct Findings(pub Vec<Finding>);

impl Findings {
    pub fn refuse(&mut self, path: &[&str], problem: impl Into<String>) {
        self.add(path, problem.into(), true);
    }

    pub fn warn(&mut self, path: &[&str], problem: impl Into<String>) {
        self.add(path, problem.into(), false);
    }

    /// The same findings in something that is the value of `key`.
    pub fn below(mut self, key: &str) -> Self {
        for finding in &mut self.0 {
            finding.path.insert(0, key.to_owned());
        }
        self
    }

    fn add(&mut self, path: &[&str], problem: String, fatal: bool) {
        self.0.push(Finding {
            path: path.iter().map(|part| (*part).to_owned()).collect(),
            problem,
            fatal,
        });
    }

    /// The first fatal finding as an error, else the others as warnings. `what` is the option, and `text` the text that
    /// was read, if it was one.
    pub fn settle(
        self,
        what: &str,
        text: Option<&Rc<Node>>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Error> {
        let object = |finding: &Finding| match text {
            Some(root) => format!(
                "{what}: line {}: {}",
                root.line_of(&finding.path),
                path_text(&finding.path)
            ),
            None if finding.path.is_empty() => what.to_owned(),
            None => format!("{what}.{}", path_text(&finding.path)),
        };
        for finding in &self.0 {
            let what = object(finding).trim_end_matches(": ").to_owned();
            if finding.fatal {
                return Err(Error::Config {
                    what,
                    problem: finding.problem.clone(),
                });
            }
            warnings.push(format!("{what}: {}", finding.problem));
        }
        Ok(())
    }
}

/// `users[0].name`.
fn path_text(path: &[String]) -> String {
    let mut out = String::new();
    for part in path {
        if part.parse::<usize>().is_ok() {
            out.push_str(&format!("[{part}]"));
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            // A long or odd key may be a value that stands where a key is expected.
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            match part.len() <= 40 && part.chars().all(plain) {
                true => out.push_str(part),
                false => out.push('…'),
            }
        }
    }
    out
}

//! Shell patterns over names: `*` and `?`.

/// Whether `name` as a whole is what `pattern` describes: `*` any characters, `?` one.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when a star has to take one character more.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Whether `text` is a pattern rather than a name.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, fits) in [
            ("*-x86_64.iso", "nixos-24.11-x86_64.iso", true),
            ("*-x86_64.iso", "nixos-24.11-x86_64.iso.sig", false),
            ("nixos-?.iso", "nixos-1.iso", true),
            ("nixos-?.iso", "nixos-12.iso", false),
            ("*a*b*", "xxaxxaxb", true),
            ("*", "", true),
            ("", "x", false),
            ("x.iso", "x.iso", true),
            ("**.iso", "y.iso", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}

//! Names that a user may have meant.

/// The most names of which a message asks whether one of them was meant.
const MOST: usize = 4;
/// Longer texts are no misspelt names.
const LONGEST: usize = 64;

/// Those of `known` that are closest to `text`: the same but for capitals and separators, else one or two letters off, else
/// longer, else shorter.
pub fn close<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let typed = plain(text);
    if typed.is_empty() || typed.len() > LONGEST {
        return Vec::new();
    }
    let most = if typed.len() < 5 { 1 } else { 2 };
    let mut found: Vec<(usize, &str)> = Vec::new();
    for name in known {
        let plain = plain(name);
        let distance = distance(&typed, &plain);
        if distance <= most {
            found.push((distance, name));
        } else if typed.len() >= 3 && (plain.starts_with(&typed) || plain.ends_with(&typed)) {
            found.push((most + 1, name));
        } else if plain.len() >= 4 && typed.starts_with(&plain) {
            found.push((most + 2, name));
        }
    }
    found.sort();
    found.dedup();
    let least = found.first().map_or(0, |(distance, _)| *distance);
    let found = found.into_iter();
    let found = found.filter(|(distance, _)| *distance == least);
    found.map(|(_, name)| name).take(MOST).collect()
}

/// `; did you mean A?`, `; did you mean A or B?`, or nothing.
pub fn did_you_mean(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [name] => format!("; did you mean {name}?"),
        [names @ .., last] => format!("; did you mean {} or {last}?", names.join(", ")),
    }
}

fn plain(text: &str) -> Vec<u8> {
    let text = text.bytes().map(|byte| byte.to_ascii_lowercase());
    text.filter(|byte| !b"-_. ".contains(byte)).collect()
}

/// How many letters have to be added, removed, changed or exchanged with their neighbour.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let change = row[j] + usize::from(x != y);
            let mut least = change.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::X86_64;

    #[test]
    fn the_closest_names_come_first() {
        for (text, expected) in [
            ("hosst", "; did you mean host?"),
            ("HOST", "; did you mean host?"),
            ("hots", "; did you mean host?"),
            // libvirt's name.
            ("host-passthrough", "; did you mean host?"),
            ("x86_64_v2_aes", "; did you mean x86-64-v2-AES?"),
            (
                "x86-64-v1",
                "; did you mean x86-64-v2, x86-64-v3 or x86-64-v4?",
            ),
            ("haswell", "; did you mean Haswell?"),
            ("opteron-g3", "; did you mean Opteron_G3?"),
            ("EPYC-v2", "; did you mean EPYC-v3, EPYC-v4 or EPYC-v5?"),
            ("kvm", "; did you mean kvm32 or kvm64?"),
            (
                "Skylake",
                "; did you mean Skylake-Client, Skylake-Client-IBRS, Skylake-Client-noTSX-IBRS or Skylake-Client-v4?",
            ),
            ("gibberish", ""),
            ("", ""),
        ] {
            let found = close(text, X86_64.iter().copied());
            assert_eq!(did_you_mean(&found), expected, "{text}");
        }
    }

    #[test]
    fn long_texts_are_not_compared() {
        assert!(close(&"a".repeat(1 << 20), X86_64.iter().copied()).is_empty());
    }
}

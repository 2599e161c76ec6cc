//! Keys that are spelt a little otherwise than those that there are.

/// The known key that was probably meant: spelt with other dashes or capitals, or one letter off.
pub(crate) fn similar<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let typed = plain(key);
    known.into_iter().find(|known| {
        let known = plain(known);
        known == typed || (typed.len() >= 5 && is_one_off(&known, &typed))
    })
}

/// Whether one text becomes the other by one letter more, less or other.
fn is_one_off(a: &str, b: &str) -> bool {
    let (a, b) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let same = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    let (rest_a, rest_b) = (&a.as_bytes()[same..], &b.as_bytes()[same..]);
    match b.len() - a.len() {
        0 => rest_a.get(1..).unwrap_or_default() == rest_b.get(1..).unwrap_or_default(),
        1 => rest_a == &rest_b[1..],
        _ => false,
    }
}

//! "Did you mean".

/// The candidate that `written` is most probably a mistyped form of.
pub fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    /// Below this, a suggestion confuses more than it helps.
    const SIMILAR: f64 = 0.75;
    let written = written.to_lowercase().replace('_', "-");
    candidates
        .into_iter()
        .map(|candidate| {
            let similarity = strsim::jaro(&written, &candidate.to_lowercase());
            let transposed = strsim::osa_distance(&written, &candidate.to_lowercase()) <= 1;
            (if transposed { 1.0 } else { similarity }, candidate)
        })
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

/// `` `a`, `b` and `c` ``.
pub(crate) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_was_probably_meant() {
        let keys = ["address", "network", "disk", "mac"];
        assert_eq!(nearest("adress", keys), Some("address"));
        assert_eq!(nearest("Address", keys), Some("address"));
        assert_eq!(nearest("netwrok", keys), Some("network"));
        assert_eq!(nearest("mca", keys), Some("mac"));
        assert_eq!(
            nearest("etcd_disk", ["etcd-disk", "disk"]),
            Some("etcd-disk")
        );
        assert_eq!(nearest("colour", keys), None);
    }

    #[test]
    fn lists_words_as_people_do() {
        assert_eq!(listed(["a"]), "`a`");
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}

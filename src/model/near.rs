//! Names near a mistyped one.

/// How alike two names must be, 0 to 1, for one to be suggested for the other.
const NEAR: f64 = 0.75;

/// Of the known names, at most three that `name` may have been meant for, the likeliest first. ASCII case is ignored.
pub(super) fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let name = name.to_ascii_lowercase();
    let mut near: Vec<(f64, &str)> = known
        .into_iter()
        .map(|known| (likeness(&known.to_ascii_lowercase(), &name), known))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().map(|(_, known)| known).take(3).collect()
}

/// 0 to 1; a name that holds the other is as like it as can be.
fn likeness(known: &str, name: &str) -> f64 {
    if name.len() >= 3 && known.contains(name) {
        return 1.0;
    }
    strsim::jaro_winkler(known, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_comes_first_and_the_unlike_not_at_all() {
        let known = ["person", "Potted plant", "cat"];
        assert_eq!(near("persn", known), ["person"]);
        assert_eq!(near("PLANT", known), ["Potted plant"]);
        assert!(near("xyzzy", known).is_empty());
    }
}

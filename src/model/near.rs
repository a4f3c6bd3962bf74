//! Names that a mistyped one may have been meant for.

/// Names less alike than this are not suggested.
const NEAR: f64 = 0.75;

/// Up to three of `names`, the likeliest first. The case of ASCII letters does not matter.
pub fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let name = name.to_ascii_lowercase();
    let mut near: Vec<(f64, &str)> = names
        .map(|known| (likeness(&known.to_ascii_lowercase(), &name), known))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.dedup();
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
    fn the_likeliest_comes_first() {
        let names = ["Person", "parson", "bicycle", "car", "car"];
        let near = |name| near(name, names.into_iter());
        assert_eq!(near("persn"), ["Person", "parson"]);
        assert_eq!(near("CYCLE"), ["bicycle"]);
        assert_eq!(near("car"), ["car"]);
        assert!(near("zebra").is_empty());
    }
}

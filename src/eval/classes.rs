//! Which class of a model is which class of a data set.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// For each class of a model, the class of the data set that it stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassMap {
    /// Positions in the data set, by the model's class id.
    to_data: Vec<Option<usize>>,
    /// Names of the model's classes that the data set has not: what is found of them counts for nothing.
    pub only_model: Vec<String>,
    /// Names of the data set's classes that the model has not: they are never found.
    pub only_data: Vec<String>,
}

/// `model name = dataset name` lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renames {
    /// What messages call the file.
    file: String,
    /// Names of the data set's classes, each with its line, by the normal form of the model's.
    lines: BTreeMap<String, (String, usize)>,
}

impl Renames {
    /// Reads a file: a line `model name = dataset name` for each class that is called otherwise; names may stand in
    /// quotes, and `#` begins a comment, so that a TOML file of strings will do.
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let mut lines = BTreeMap::new();
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fail = |reason: &str| Error::Data {
                file: file.into(),
                reason: format!("line {number}: {reason}"),
            };
            let (model, data) = line
                .split_once('=')
                .map(|(model, data)| (unquoted(model), unquoted(data)))
                .filter(|(model, data)| !model.is_empty() && !data.is_empty())
                .ok_or_else(|| fail("not of the form `model name = dataset name`"))?;
            let entry = (data.to_owned(), number);
            if lines.insert(normal(model), entry).is_some() {
                return Err(fail(&format!("{model} occurs twice")));
            }
        }
        Ok(Self {
            file: file.into(),
            lines,
        })
    }
}

/// Without the blanks and quotes round it, and without a comment after quotes.
fn unquoted(text: &str) -> &str {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some((inside, _)) = text
            .strip_prefix(quote)
            .and_then(|rest| rest.split_once(quote))
        {
            return inside;
        }
    }
    text
}

/// Names are equal without regard to case, blanks, `_` and `-`.
fn normal(name: &str) -> String {
    let letters = name
        .chars()
        .filter(|c| !c.is_whitespace() && !"_-".contains(*c));
    letters.flat_map(char::to_lowercase).collect()
}

impl ClassMap {
    /// Matches names: `model` by class id, with `None` where no class has this id; `data` by position. Renames win over
    /// equal names.
    ///
    /// # Errors
    /// [`Error::Data`] for a rename to or from a class that is not there; [`Error::Usage`] if no class matches.
    pub fn new(model: &[Option<String>], data: &[String], renames: &Renames) -> Result<Self> {
        let positions: BTreeMap<String, usize> =
            data.iter().map(|name| normal(name)).zip(0..).collect();
        let mut unused = renames.lines.clone();
        let mut map = Self::default();
        for name in model {
            let position = match name.as_deref().map(normal) {
                None => None,
                Some(name) => match renames.lines.get(&name) {
                    None => positions.get(&name).copied(),
                    Some((target, line)) => {
                        unused.remove(&name);
                        let position = positions.get(&normal(target)).copied();
                        Some(position.ok_or_else(|| Error::Data {
                            file: renames.file.clone(),
                            reason: format!("line {line}: the data set has no class {target}"),
                        })?)
                    }
                },
            };
            if position.is_none() {
                map.only_model.extend(name.clone());
            }
            map.to_data.push(position);
        }
        if let Some((name, (_, line))) = unused.iter().next() {
            return Err(Error::Data {
                file: renames.file.clone(),
                reason: format!("line {line}: the model has no class {name}"),
            });
        }
        let missing = (0..data.len()).filter(|&position| !map.to_data.contains(&Some(position)));
        map.only_data = missing.map(|position| data[position].clone()).collect();
        if map.only_data.len() == data.len() {
            return Err(Error::Usage(format!(
                "no class of the model is in the data set; it has {}, the model {}; say by --class-map FILE which is \
                 which, or give the model's labels by -l, those of the data set by --names",
                some_of(data),
                some_of(&map.only_model)
            )));
        }
        Ok(map)
    }

    /// The position in the data set of a class of the model.
    pub fn to_data(&self, class_id: usize) -> Option<usize> {
        self.to_data.get(class_id).copied().flatten()
    }

    /// The ids of the model's classes that stand for one of the data set.
    pub fn to_model(&self, position: usize) -> impl Iterator<Item = usize> {
        let entries = self.to_data.iter().enumerate();
        entries.filter_map(move |(id, to)| (*to == Some(position)).then_some(id))
    }

    /// What does not match, in words: a line each way, none where all match.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.only_model.is_empty() {
            warnings.push(format!(
                "{} classes of the model are not in the data set, and what is found of them does not count: {}",
                self.only_model.len(),
                some_of(&self.only_model)
            ));
        }
        if !self.only_data.is_empty() {
            warnings.push(format!(
                "{} classes of the data set are unknown to the model, and count as not found: {}",
                self.only_data.len(),
                some_of(&self.only_data)
            ));
        }
        warnings
    }
}

/// The first names, and how many more there are.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown = names.iter().take(SHOWN).map(String::as_str);
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn model(names: &[&str]) -> Vec<Option<String>> {
        let name = |name: &&str| (!name.is_empty()).then(|| (*name).to_owned());
        names.iter().map(name).collect()
    }

    fn renames(text: &str) -> Renames {
        Renames::parse(text, "map.toml").unwrap()
    }

    #[test]
    fn names_match_without_regard_to_case_and_blanks() {
        let map = ClassMap::new(
            &model(&["Person", "", "traffic_light", "dog"]),
            &names(&["Traffic Light", "person", "cat"]),
            &Renames::default(),
        )
        .unwrap();
        let to = |id| map.to_data(id);
        assert_eq!(
            [to(0), to(1), to(2), to(3), to(9)],
            [Some(1), None, Some(0), None, None]
        );
        assert_eq!(
            (map.only_model, map.only_data),
            (names(&["dog"]), names(&["cat"]))
        );
    }

    #[test]
    fn renames_win_and_several_may_stand_for_one() {
        let map = ClassMap::new(
            &model(&["car", "big truck", "cat"]),
            &names(&["vehicle", "cat"]),
            &renames("# kinds\ncar = vehicle\n\"big truck\" = \"vehicle\" # too\n"),
        )
        .unwrap();
        assert_eq!(map.to_model(0).collect::<Vec<_>>(), [0, 1]);
        assert!(map.warnings().is_empty());
    }

    #[test]
    fn wrong_renames_are_refused_with_their_line() {
        for (text, word) in [
            ("car = plane", "line 1: the data set has no class plane"),
            ("\nbus = vehicle", "line 2: the model has no class bus"),
        ] {
            let map = ClassMap::new(&model(&["car"]), &names(&["vehicle"]), &renames(text));
            let error = map.unwrap_err().to_string();
            assert!(
                error.starts_with("map.toml: ") && error.contains(word),
                "{error}"
            );
        }
        for text in ["car", "car =", "= vehicle", "a = b\nA = c"] {
            assert!(Renames::parse(text, "f").is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_in_common_is_an_error_that_shows_both() {
        let error = ClassMap::new(&model(&["car"]), &names(&["cat"]), &Renames::default());
        let error = error.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().contains("it has cat, the model car"),
            "{error}"
        );
    }
}

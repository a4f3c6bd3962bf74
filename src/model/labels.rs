//! Label files: one name for each class id.

use std::sync::Arc;

use super::near::near;
use crate::error::{Error, Result};

/// The largest class id, and the largest number of labels, that a file may have.
const MAX_CLASSES: usize = 100_000;

/// Names of classes by id, counted from 0 as the model's output counts. Ids that no label names are holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    names: Vec<Option<Arc<str>>>,
}

/// A label file as it is written, before its ids are fitted to a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFile {
    form: Form,
    /// Indexed by the file's own ids, or by line.
    names: Vec<Option<Arc<str>>>,
    /// How many ids or lines the file has.
    count: usize,
    /// The first line, or id 0, stands for the background.
    background: bool,
}

/// The forms of label files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A name a line: line 1 is the first class.
    Lines,
    /// `id name`, `id:name` or `id,name` a line.
    Indexed,
    /// `item { id: 1 name: "..." }`, ids from 1, as the TensorFlow Object Detection API writes them.
    Pbtxt,
}

impl LabelFile {
    /// Reads a label file in any of its forms: plain lines; `N name`, `N:name` or `N,name`; `.pbtxt` label maps. A
    /// byte order mark and either kind of line end are allowed; the names `???`, `n/a`, `-`, `background` and empty
    /// lines are holes. `file` is for messages.
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let fail = |reason: String| Error::Data {
            file: file.into(),
            reason,
        };
        let (form, entries) = if is_pbtxt(text) {
            (Form::Pbtxt, pbtxt_entries(text))
        } else {
            let lines: Vec<&str> = text.trim_end().lines().map(str::trim).collect();
            match indexed_entries(&lines) {
                Some(entries) => (Form::Indexed, entries),
                None => (Form::Lines, lines.into_iter().enumerate().collect()),
            }
        };
        let count = entries.len();
        let largest = entries.iter().map(|(id, _)| *id).max();
        let Some(largest) = largest.filter(|_| entries.iter().any(|(_, name)| !is_hole(name)))
        else {
            return Err(fail(
                "it holds no labels; write one name a line, or `id name`".into(),
            ));
        };
        if largest > MAX_CLASSES || count > MAX_CLASSES {
            return Err(fail(format!(
                "id {} is too large for a class",
                largest.max(count)
            )));
        }
        let mut names = vec![None; largest + 1];
        let mut background = false;
        for (id, name) in entries {
            if names[id].is_some() {
                return Err(fail(format!(
                    "id {id} occurs twice; give each class one id"
                )));
            }
            background |= id == 0 && is_background(name);
            if !(is_hole(name) || id == 0 && is_background(name)) {
                names[id] = Some(Arc::from(name));
            }
        }
        Ok(Self {
            form,
            names,
            count,
            background,
        })
    }

    /// Reads the bytes of a label file, which must be UTF-8.
    pub fn from_bytes(bytes: &[u8], file: &str) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()]
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count();
            Error::Data {
                file: file.into(),
                reason: format!(
                    "line {} is not UTF-8 text; save the label file as UTF-8",
                    line + 1
                ),
            }
        })?;
        Self::parse(text, file)
    }

    /// Whether a model with so many columns of scores has one more than the file has classes: column 0, the background.
    pub fn leaves_column_for_background(&self, columns: usize) -> bool {
        let length = self.names.len();
        length + 1 == columns || (length == columns && self.names[0].is_none())
    }

    /// Ids of the file before the one that the model calls 0.
    fn offset(&self, classes: Option<usize>) -> usize {
        let length = self.names.len();
        match self.form {
            Form::Pbtxt => usize::from(self.names[0].is_none()),
            Form::Lines | Form::Indexed if self.background => match classes {
                Some(classes) => usize::from(length != classes),
                None => 1,
            },
            Form::Lines => 0,
            Form::Indexed => {
                let from_one = self.names[0].is_none() && classes == Some(length - 1);
                usize::from(from_one)
            }
        }
    }
}

impl Labels {
    /// Reads a label file without regard to a model. See [`LabelFile::parse`] and [`Labels::resolve`].
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        Ok(Self::resolve(LabelFile::parse(text, file)?, None).0)
    }

    /// Fits the ids of a file to the ids of a model, and says in words how.
    ///
    /// `classes` is the number of ids that the model's output can take: for SSD files the classes without the
    /// background, for classifiers the length of the score vector. Pbtxt ids start at 1. A first line that stands
    /// for the background is dropped, unless the file then has fewer lines than the model has ids. Indexed files
    /// keep their ids; if they start at 1 and end at `classes`, all are moved down by one.
    pub fn resolve(file: LabelFile, classes: Option<usize>) -> (Self, String) {
        let offset = file.offset(classes);
        let mut names: Vec<Option<Arc<str>>> = file.names.iter().skip(offset).cloned().collect();
        let surplus = classes.map_or(0, |classes| {
            let beyond = names.iter().skip(classes).flatten().count();
            names.truncate(classes);
            beyond
        });
        let labels = Self { names };
        let named = labels.names.iter().flatten().count();
        let mut summary = format!("{named} labels");
        if let Some(classes) = classes {
            summary.push_str(&format!(" for {classes} classes"));
        }
        summary.push_str(match (file.form, file.background, offset) {
            (Form::Lines, true, 1) => ", first line is the background",
            (Form::Lines, true, _) => ", class 0 is the background",
            (Form::Lines, false, _) => ", first line is class 0",
            (Form::Indexed, true, 1) => ", id 0 of the file is the background",
            (Form::Indexed, true, _) => ", class 0 is the background",
            (Form::Indexed | Form::Pbtxt, false, 0) => ", by the ids of the file",
            (Form::Indexed | Form::Pbtxt, ..) => ", ids of the file start at 1",
        });
        if surplus > 0 {
            summary.push_str(&format!(", {surplus} labels too many for the model"));
        }
        (labels, summary)
    }

    /// The name of a class id, counted from 0 as the model's output counts; `class N` for a hole.
    pub fn name(&self, class_id: usize) -> Arc<str> {
        match self.names.get(class_id).and_then(Option::as_ref) {
            Some(name) => name.clone(),
            None => format!("class {class_id}").into(),
        }
    }

    /// All ids of a name, without regard to the case of ASCII letters; `class N` names an id that has no label. An error
    /// in words, with names that may have been meant, if there is none.
    pub fn ids_of(&self, name: &str) -> std::result::Result<Vec<usize>, String> {
        let has_name = |id: &usize| self.name(*id).eq_ignore_ascii_case(name);
        let ids: Vec<usize> = (0..self.len()).filter(has_name).collect();
        let number = name.strip_prefix("class ").filter(|_| self.is_empty());
        match number.and_then(|number| number.parse().ok()) {
            Some(id) => Ok(vec![id]),
            None if ids.is_empty() => Err(self.no_label(name)),
            None => Ok(ids),
        }
    }

    fn no_label(&self, name: &str) -> String {
        let names = || self.names.iter().flatten().map(|name| &**name);
        let near = near(name, names());
        let advice = match near.is_empty() {
            _ if names().next().is_none() => {
                "the model has none; write \"class 0\" for its first class".into()
            }
            true => format!(
                "the model's are {}",
                names().take(10).collect::<Vec<_>>().join(", ")
            ),
            false => format!("did you mean {}?", near.join(", ")),
        };
        format!("no label is {name:?}; {advice}")
    }

    /// Number of ids from 0 to the last one with a name or a place in the file.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no labels at all.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether no label names this id.
    pub fn is_hole(&self, class_id: usize) -> bool {
        self.names.get(class_id).is_none_or(Option::is_none)
    }

    /// The id of a name, without regard to the case of ASCII letters; the first one if several have it.
    pub fn id_of(&self, name: &str) -> Option<usize> {
        self.names
            .iter()
            .position(|entry| entry.as_ref().is_some_and(|e| e.eq_ignore_ascii_case(name)))
    }
}

/// Whether a name on the first line, or of id 0, stands for no object at all.
fn is_background(name: &str) -> bool {
    ["???", "background", "__background__", "dummy"]
        .iter()
        .any(|word| name.eq_ignore_ascii_case(word))
}

fn is_hole(name: &str) -> bool {
    ["", "-", "???", "n/a", "background", "__background__"]
        .iter()
        .any(|word| name.eq_ignore_ascii_case(word))
}

/// Entries of a file in which every line that is not empty begins with an id; `None` for any other file. A file of
/// numbers alone holds names.
fn indexed_entries<'a>(lines: &[&'a str]) -> Option<Vec<(usize, &'a str)>> {
    lines
        .iter()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let end = line.find(|c: char| !c.is_ascii_digit())?;
            let (digits, rest) = line.split_at(end);
            let separated = rest.starts_with([':', ',', ' ', '\t']);
            let name = rest.trim_start_matches([':', ',', ' ', '\t']);
            let id = digits.parse().ok()?;
            (separated && !name.is_empty()).then_some((id, name))
        })
        .collect()
}

fn is_pbtxt(text: &str) -> bool {
    let text = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'));
    text.and_then(|line| line.strip_prefix("item"))
        .is_some_and(|rest| rest.trim_start().starts_with(['{', ':']) || rest.is_empty())
}

/// Items with an id; `display_name` wins over `name`.
fn pbtxt_entries(text: &str) -> Vec<(usize, &str)> {
    let mut entries = Vec::new();
    let (mut id, mut name, mut display) = (None, None, None);
    let mut key = "";
    for token in PbtxtTokens(text) {
        match token {
            Token::Word(word) if key == "id" => {
                id = word.parse().ok();
                key = "";
            }
            Token::Word(word) => key = word,
            Token::Text(value) => {
                match key {
                    "name" => name = Some(value),
                    "display_name" => display = Some(value),
                    _ => {}
                }
                key = "";
            }
            Token::Close => {
                if let (Some(id), Some(name)) = (id, display.or(name)) {
                    entries.push((id, name));
                }
                (id, name, display, key) = (None, None, None, "");
            }
        }
    }
    entries
}

enum Token<'a> {
    Word(&'a str),
    Text(&'a str),
    Close,
}

/// Words, quoted texts and closing braces of the protobuf text format; other punctuation and comments are skipped.
struct PbtxtTokens<'a>(&'a str);

impl<'a> Iterator for PbtxtTokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let text = self.0.trim_start_matches(|c: char| {
                c.is_whitespace() || matches!(c, ':' | ',' | ';' | '{')
            });
            let first = text.chars().next()?;
            let rest = &text[first.len_utf8()..];
            match first {
                '#' => self.0 = rest.split_once('\n').map_or("", |(_, rest)| rest),
                '}' => {
                    self.0 = rest;
                    return Some(Token::Close);
                }
                '"' | '\'' => {
                    let (value, rest) = rest.split_once(first).unwrap_or((rest, ""));
                    self.0 = rest;
                    return Some(Token::Text(value));
                }
                _ => {
                    let end = text
                        .find(|c: char| c.is_whitespace() || ":,;{}\"'#".contains(c))
                        .unwrap_or(text.len());
                    self.0 = &text[end..];
                    return Some(Token::Word(&text[..end]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str, classes: Option<usize>) -> (Labels, String) {
        Labels::resolve(LabelFile::parse(text, "labels").unwrap(), classes)
    }

    #[test]
    fn every_form_gives_the_same_labels() {
        let forms = [
            "cat\ndog\n",
            "\u{feff}cat\r\ndog",
            "???\ncat\ndog\n",
            "background\ncat\ndog",
            "0 cat\n1 dog",
            "0  cat\n\n1  dog\n",
            "0:cat\n1:dog",
            "0,cat\r\n1, dog\r\n",
            "1 cat\n2 dog\n",
            "item {\n  id: 1\n  name: 'cat'\n}\nitem {\n  name: \"/m/0bt9lr\"\n  id: 2\n  display_name: \"dog\"\n}\n",
            "# map\nitem{id:2 name:\"dog\"}item{id:1,name:\"cat\"}",
        ];
        for form in forms {
            let (labels, summary) = resolve(form, Some(2));
            assert_eq!(
                (&*labels.name(0), &*labels.name(1)),
                ("cat", "dog"),
                "{form}: {summary}"
            );
            assert_eq!(labels.len(), 2);
            assert!(summary.starts_with("2 labels for 2 classes, "), "{summary}");
        }
    }

    #[test]
    fn holes_have_no_name() {
        let (labels, _) = resolve("cat\n???\nn/a\n-\ndog", None);
        assert_eq!(labels.len(), 5);
        assert!((1..4).all(|id| labels.is_hole(id)) && labels.is_hole(5));
        assert_eq!(&*labels.name(2), "class 2");
        assert_eq!(labels.id_of("DOG"), Some(4));
        assert_eq!(labels.id_of("n/a"), None);
    }

    #[test]
    fn a_name_has_all_ids_that_bear_it() {
        let (labels, _) = resolve("cat\n???\ndog\ncat\nclass 4", None);
        assert_eq!(labels.ids_of("CAT"), Ok(vec![0, 3]));
        assert_eq!(labels.ids_of("class 1"), Ok(vec![1]));
        assert_eq!(labels.ids_of("class 4"), Ok(vec![4]));
        assert_eq!(Labels::default().ids_of("class 99"), Ok(vec![99]));
        assert!(labels.ids_of("class 99").is_err());
        let refused = |name: &str| labels.ids_of(name).unwrap_err();
        assert_eq!(refused("catt"), "no label is \"catt\"; did you mean cat?");
        // Class 0 has a name.
        assert!(refused("class 0").contains("did you mean class 4"));
        let words = Labels::default().ids_of("cat").unwrap_err();
        assert!(words.contains("\"class 0\""), "{words}");
    }

    #[test]
    fn a_classifier_keeps_its_background() {
        let (labels, summary) = resolve("background\ncat\ndog", Some(3));
        assert!(labels.is_hole(0));
        assert_eq!(labels.id_of("dog"), Some(2));
        assert_eq!(summary, "2 labels for 3 classes, class 0 is the background");
    }

    #[test]
    fn names_may_begin_with_digits() {
        let (labels, _) = resolve("3d printer\n42\n", None);
        assert_eq!((&*labels.name(0), &*labels.name(1)), ("3d printer", "42"));
    }

    #[test]
    fn unusable_files_are_refused_with_a_reason() {
        let reason = |text: &str| LabelFile::parse(text, "l.txt").unwrap_err().to_string();
        assert!(reason("").contains("no labels"));
        assert!(reason("???\n\n").contains("no labels"));
        assert!(reason("0 a\n0 b").contains("id 0 occurs twice"));
        assert!(reason("99999999 a").contains("too large"));
        assert!(reason("item { id: 99999999999999999999999 name: 'a' }").contains("no labels"));
        let error = LabelFile::from_bytes(b"cat\nd\xe9j\xe0", "l.txt").unwrap_err();
        assert_eq!(
            error.to_string(),
            "l.txt: line 2 is not UTF-8 text; save the label file as UTF-8"
        );
    }

    #[test]
    fn the_public_label_files_resolve() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/labels");
        if !std::path::Path::new(folder).exists() {
            println!("SKIPPED: ../shared is absent");
            return;
        }
        let cases = [
            (
                "coco_labels.txt",
                90,
                80,
                "80 labels for 90 classes, first line is class 0",
                16,
                "cat",
            ),
            (
                "coco_labels_fpnlite.txt",
                90,
                80,
                "80 labels for 90 classes, first line is class 0",
                16,
                "cat",
            ),
            (
                "coco_labels_indexed.txt",
                90,
                80,
                "80 labels for 90 classes, by the ids of the file",
                16,
                "cat",
            ),
            (
                "coco_labelmap_background.txt",
                90,
                80,
                "80 labels for 90 classes, first line is the background",
                16,
                "cat",
            ),
            (
                "cat_raccoon_labels.txt",
                2,
                2,
                "2 labels for 2 classes, by the ids of the file",
                1,
                "raccoon",
            ),
            (
                "face_labels.txt",
                1,
                1,
                "1 labels for 1 classes, first line is class 0",
                0,
                "face",
            ),
            (
                "imagenet_labels.txt",
                1001,
                1000,
                "1000 labels for 1001 classes, class 0 is the background",
                1,
                "tench, Tinca tinca",
            ),
            (
                "imagenet_labels_indexed.txt",
                1001,
                1000,
                "1000 labels for 1001 classes, class 0 is the background",
                1,
                "tench, Tinca tinca",
            ),
            (
                "imagenet_slim_labels.txt",
                1000,
                1000,
                "1000 labels for 1000 classes, first line is the background",
                0,
                "tench",
            ),
            (
                "inat_bird_labels.txt",
                965,
                964,
                "964 labels for 965 classes, first line is class 0",
                1,
                "Aramus guarauna (Limpkin)",
            ),
        ];
        for (file, classes, named, summary, id, name) in cases {
            let bytes = std::fs::read(format!("{folder}/{file}")).unwrap();
            let parsed = LabelFile::from_bytes(&bytes, file).unwrap();
            let (labels, said) = Labels::resolve(parsed, Some(classes));
            assert_eq!(said, summary, "{file}");
            assert_eq!(&*labels.name(id), name, "{file}");
            assert_eq!(
                (0..classes).filter(|&id| !labels.is_hole(id)).count(),
                named,
                "{file}"
            );
        }
    }
}

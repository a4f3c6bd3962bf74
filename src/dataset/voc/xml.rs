//! One file of annotations.

use std::path::Path;

use roxmltree::{Document, Node, ParsingOptions};

use crate::dataset::folders::{MAX_SMALL_FILE, read_text};
use crate::dataset::{Object, Rect, Traits, data_error};
use crate::error::Result;

/// The most elements and texts that one file may have.
const MAX_NODES: u32 = 1_000_000;

/// What one file says.
pub(super) struct Record {
    pub file: Option<String>,
    pub size: Option<[u32; 2]>,
    /// Each with the name of its class.
    pub objects: Vec<(String, Object)>,
    /// Whether an object has parts.
    pub parts: bool,
}

pub(super) fn parse(path: &Path) -> Result<Record> {
    let text = read_text(path, MAX_SMALL_FILE)?;
    let options = ParsingOptions {
        nodes_limit: MAX_NODES,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(&text, options)
        .map_err(|error| data_error(path, format!("not an XML file: {error}")))?;
    let root = document.root_element();
    if root.tag_name().name() != "annotation" {
        let name = root.tag_name().name();
        return Err(data_error(path, format!("<{name}> is no VOC annotation")));
    }
    let objects: Vec<Node<'_, '_>> = root
        .children()
        .filter(|n| n.has_tag_name("object"))
        .collect();
    let read = objects.iter().map(|object| {
        read_object(*object).map_err(|reason| {
            let line = document.text_pos_at(object.range().start).row;
            data_error(path, format!("line {line}: {reason}"))
        })
    });
    Ok(Record {
        file: text_of(root, "filename").map(str::to_owned),
        size: child(root, "size").and_then(|size| {
            let side = |name| number(size, name).filter(|side| (1.0..=1e6).contains(side));
            Some([side("width")? as u32, side("height")? as u32])
        }),
        parts: objects
            .iter()
            .any(|object| child(*object, "part").is_some()),
        objects: read.collect::<Result<_>>()?,
    })
}

fn read_object(node: Node<'_, '_>) -> std::result::Result<(String, Object), String> {
    let name = text_of(node, "name").ok_or("an object without a name")?;
    let bounds = child(node, "bndbox").ok_or_else(|| format!("{name} has no bndbox"))?;
    let side = |key: &str| {
        number(bounds, key).ok_or_else(|| format!("{name}: {key} is missing, or no number"))
    };
    let (x, y) = (side("xmin")?, side("ymin")?);
    let rect = Rect {
        x,
        y,
        width: side("xmax")? - x,
        height: side("ymax")? - y,
    };
    if rect.width < 0.0 || rect.height < 0.0 {
        return Err(format!("{name}: the box ends before it begins"));
    }
    let flag = |key: &str| {
        let text = text_of(node, key).unwrap_or_default();
        text.eq_ignore_ascii_case("true") || text.parse::<f64>().is_ok_and(|n| n != 0.0)
    };
    let pose = text_of(node, "pose").filter(|pose| !pose.eq_ignore_ascii_case("unspecified"));
    let object = Object {
        rect,
        traits: Traits {
            crowd: false,
            difficult: flag("difficult"),
            truncated: flag("truncated"),
            occluded: flag("occluded"),
        },
        pose: pose.map(str::to_owned),
        ..Object::default()
    };
    Ok((name.into(), object))
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// The text of a child; `None` if it is empty.
fn text_of<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let text = child(node, name)?.text()?.trim();
    (!text.is_empty()).then_some(text)
}

fn number(node: Node<'_, '_>, name: &str) -> Option<f64> {
    let number: f64 = text_of(node, name)?.parse().ok()?;
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Record> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.xml");
        std::fs::write(&path, text).unwrap();
        parse(&path)
    }

    fn object(inside: &str) -> String {
        format!("<annotation>\n<object>{inside}</object></annotation>")
    }

    #[test]
    fn an_object_is_read_with_its_marks() {
        let record = parse_text(
            "<annotation><filename>a b.jpg</filename><size><width>20</width><height>10</height></size>\
             <object><name>cat</name><difficult>1</difficult><truncated>0</truncated><pose>Left</pose>\
             <bndbox><xmin>1.5</xmin><ymin>2</ymin><xmax>11</xmax><ymax>8</ymax></bndbox></object></annotation>",
        )
        .unwrap();
        assert_eq!(
            (record.file.as_deref(), record.size),
            (Some("a b.jpg"), Some([20, 10]))
        );
        let (name, object) = &record.objects[0];
        assert_eq!(name, "cat");
        let expected = Rect {
            x: 1.5,
            y: 2.0,
            width: 9.5,
            height: 6.0,
        };
        assert_eq!(object.rect, expected);
        assert!(object.traits.difficult && !object.traits.truncated);
        assert_eq!(object.pose.as_deref(), Some("Left"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let bounds = "<bndbox><xmin>5</xmin><ymin>1</ymin><xmax>4</xmax><ymax>2</ymax></bndbox>";
        for (text, word) in [
            (object("<name>cat</name>"), "line 2: cat has no bndbox"),
            (object(bounds), "line 2: an object without a name"),
            (
                object(&format!("<name>cat</name>{bounds}")),
                "ends before it begins",
            ),
            (
                object("<name>cat</name><bndbox><xmin>x</xmin></bndbox>"),
                "xmin",
            ),
            ("<html/>".into(), "<html> is no VOC annotation"),
            ("<annotation>".into(), "not an XML file"),
        ] {
            let error = parse_text(&text).err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn entities_that_grow_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"xxxxxxxxxx\"><!ENTITY c \"&b;&b;&b;&b;\">]><annotation>&c;</annotation>";
        assert!(parse_text(bomb).is_err());
    }
}

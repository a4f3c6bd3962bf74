//! Figures in tables, for people.

use super::results::{Report, differences};
use crate::cli::table;
use crate::dataset::Dataset;
use crate::eval::top_k::Accuracy;

/// One report in a column, or two and their difference.
pub(super) fn reports(dataset: &Dataset, reports: &[Report], per_class: bool) -> String {
    let crowds = dataset.images.iter().flat_map(|image| &image.objects);
    let crowds = crowds.filter(|object| object.traits.crowd).count();
    let with_objects = reports.first().map_or(0, |report| {
        report
            .classes
            .iter()
            .filter(|class| class.objects > 0)
            .count()
    });
    let mut text = format!(
        "{}: {} pictures, {} objects ({crowds} crowds), {} classes ({with_objects} with objects)\n\n",
        dataset.name,
        dataset.images.len(),
        dataset.object_count(),
        dataset.classes.len()
    );
    text += &table(&figures(reports), &[1, 2, 3]);
    if per_class {
        text.push('\n');
        text += &table(&classes(reports), &[1, 2, 3, 4, 5]);
    }
    text
}

fn figures(reports: &[Report]) -> Vec<Vec<String>> {
    let mut rows = vec![heading("", reports)];
    for (index, (name, difference)) in differences(reports).enumerate() {
        let mut row = vec![name.to_owned()];
        row.extend(
            reports
                .iter()
                .map(|report| share(report.metrics.figures()[index].1)),
        );
        if reports.len() > 1 {
            row.push(signed(difference));
        }
        rows.push(row);
    }
    let voc: Vec<_> = reports.iter().filter_map(|report| report.voc).collect();
    if let Some(first) = voc.first() {
        for (name, figure) in [
            (
                "all points",
                voc.iter().map(|voc| voc.map).collect::<Vec<_>>(),
            ),
            (
                "11 points",
                voc.iter().map(|voc| voc.map_11_point).collect(),
            ),
        ] {
            let mut row = vec![format!("VOC mAP at {}, {name}", first.iou)];
            row.extend(figure.iter().map(|figure| share(*figure)));
            if let [Some(a), Some(b)] = figure[..] {
                row.push(signed(Some(b - a)));
            }
            rows.push(row);
        }
    }
    let times = reports.iter().filter_map(|report| report.inference_ms);
    let times: Vec<String> = times.map(|time| format!("{time:.1}")).collect();
    if !times.is_empty() {
        rows.push([vec!["ms per inference".into()], times].concat());
    }
    rows
}

/// The names of the models; the difference is what the second has more.
fn heading(first: &str, reports: &[Report]) -> Vec<String> {
    let mut row = vec![first.to_owned()];
    row.extend(reports.iter().map(|report| short(&report.model)));
    if reports.len() > 1 {
        row.push("difference".into());
    }
    row
}

/// The file's name without folders.
fn short(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

fn classes(reports: &[Report]) -> Vec<Vec<String>> {
    let [first, others @ ..] = reports else {
        return Vec::new();
    };
    let mut title = vec![
        "class".to_owned(),
        "objects".into(),
        "AP".into(),
        "AP at 0.50".into(),
    ];
    if !others.is_empty() {
        title.extend(["AP of the second".into(), "difference".into()]);
    }
    let mut rows = vec![title];
    for (index, class) in first.classes.iter().enumerate() {
        if class.objects == 0 {
            continue;
        }
        let mut row = vec![
            class.name.clone(),
            class.objects.to_string(),
            share(class.ap),
            share(class.ap_50),
        ];
        for other in others {
            let ap = other.classes[index].ap;
            row.extend([share(ap), signed(class.ap.zip(ap).map(|(a, b)| b - a))]);
        }
        rows.push(row);
    }
    rows
}

/// A table of classifiers: names and accuracies.
pub(super) fn accuracies(data: &str, rows: &[(String, Accuracy)]) -> String {
    let images = rows.first().map_or(0, |(_, accuracy)| accuracy.images);
    let mut cells = vec![["", "top-1", "top-5"].map(str::to_owned).to_vec()];
    for (name, accuracy) in rows {
        cells.push(vec![
            short(name),
            share(accuracy.top_1),
            share(accuracy.top_5),
        ]);
    }
    if let [(_, a), (_, b)] = rows {
        let difference = |a: Option<f64>, b: Option<f64>| signed(a.zip(b).map(|(a, b)| b - a));
        cells.push(vec![
            "difference".into(),
            difference(a.top_1, b.top_1),
            difference(a.top_5, b.top_5),
        ]);
    }
    format!("{data}: {images} pictures\n\n{}", table(&cells, &[1, 2]))
}

fn share(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:.4}"))
}

fn signed(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:+.4}"))
}

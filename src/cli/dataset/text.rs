//! Data sets in words, for people.

use crate::cli::table;
use crate::dataset::stats::{ClassStats, Stats};
use crate::dataset::{Dataset, Form};

/// Classes beyond these are summed up.
const CLASSES: usize = 100;
const BAR: usize = 40;

/// One line: what was written where.
pub(super) fn written(dataset: &Dataset, form: Form, folder: &str) -> String {
    let parts: Vec<String> = Stats::of(dataset)
        .splits
        .into_iter()
        .filter_map(|split| Some(format!("{} {}", split.name?, split.images)))
        .collect();
    let parts = if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    };
    format!(
        "{folder}: {} pictures{parts}, {} objects, {} classes in the form {}\n",
        dataset.images.len(),
        dataset.object_count(),
        dataset.classes.len(),
        form.name()
    )
}

/// All numbers of a data set.
pub(super) fn stats(stats: &Stats) -> String {
    let mut text = format!(
        "pictures  {}, {} of them without objects\nobjects   {}",
        stats.images, stats.images_without_objects, stats.objects
    );
    for (count, what) in [(stats.crowds, "crowds"), (stats.difficult, "difficult")] {
        if count > 0 {
            text += &format!(", {count} of them {what}");
        }
    }
    text.push('\n');
    for (name, spread) in [("widths ", stats.widths), ("heights", stats.heights)] {
        if let Some([least, median, most]) = spread {
            text += &format!("{name}   {least} to {most} pixels, median {median}\n");
        }
    }
    if stats.splits.iter().any(|split| split.name.is_some()) {
        let rows = stats.splits.iter().map(|split| {
            let name = split.name.as_deref().unwrap_or("(none)");
            vec![
                name.into(),
                split.images.to_string(),
                split.objects.to_string(),
            ]
        });
        text += &titled(["part", "pictures", "objects"], rows.collect());
    }
    text += &classes(&stats.classes);
    text + &sizes(stats)
}

fn titled(title: [&str; 3], rows: Vec<Vec<String>>) -> String {
    let mut all = vec![title.map(str::to_owned).into()];
    all.extend(rows);
    format!("\n{}", table(&all, &[1, 2]))
}

fn classes(classes: &[ClassStats]) -> String {
    let mut sorted: Vec<&ClassStats> = classes.iter().collect();
    sorted.sort_by_key(|class| std::cmp::Reverse(class.objects));
    let shown = sorted.iter().take(CLASSES).map(|class| {
        vec![
            class.name.clone(),
            class.objects.to_string(),
            class.images.to_string(),
        ]
    });
    let mut text = titled(["class", "objects", "pictures"], shown.collect());
    if let Some(beyond) = sorted.get(CLASSES..).filter(|beyond| !beyond.is_empty()) {
        let objects: usize = beyond.iter().map(|class| class.objects).sum();
        text += &format!("and {} more classes with {objects} objects\n", beyond.len());
    }
    text
}

fn sizes(stats: &Stats) -> String {
    let [small, medium, large] = stats.small_medium_large;
    let most = stats
        .sides
        .iter()
        .map(|side| side.objects)
        .max()
        .unwrap_or(0)
        .max(1);
    let mut from = 0.0;
    let rows = stats.sides.iter().map(|side| {
        let range = format!("{from:.2} to {:.2}", side.up_to);
        from = side.up_to;
        let bar = "#".repeat((side.objects * BAR).div_ceil(most));
        vec![range, side.objects.to_string(), bar]
    });
    let mut all = vec![vec![
        "side of the box / side of the picture".into(),
        "objects".into(),
    ]];
    all.extend(rows);
    format!(
        "\n{}\n{small} boxes below 32x32 pixels, {medium} up to 96x96, {large} above\n",
        table(&all, &[1])
    )
}

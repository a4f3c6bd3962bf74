//! The report as a page: tables and plots in one file, without scripts.

use std::fmt::Write as _;

use super::{Layer, Report};
use crate::quantize::histogram::Range;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2024;--soft:#60686f;--line:#d9dde1;--bar:#2f6fb5;--cut:#c2410c;--back:#fff}\
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#9aa3ab;--line:#343a40;--bar:#6ea8e5;--cut:#f08a4b;--back:#15181b}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);margin:0 auto;padding:1.5rem;max-width:68rem}\
h1{font-size:1.4rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}.verdict{font-size:1.1rem;margin:.5rem 0 1.5rem}\
.soft{color:var(--soft)}.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid var(--line);vertical-align:middle}\
td.n,th.n{text-align:right}td.name{max-width:22rem;overflow-wrap:anywhere;font-size:.85em}\
svg{display:block}rect.bar{fill:var(--bar)}line.cut{stroke:var(--cut);stroke-width:1.5}line.axis{stroke:var(--line)}text{fill:var(--soft);font-size:11px}";

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let mut page = String::new();
    let title = escape(&report.model);
    // Writing to a String cannot fail.
    let _ = writeln!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Quantization of {title}</title><style>{STYLE}</style></head><body>\n\
         <h1>Quantization of {title}</h1>\n<p class=\"verdict\">{}</p>",
        escape(&report.verdict)
    );
    summary(&mut page, report);
    study(&mut page, report);
    noise(&mut page, &report.layers);
    sensitivity(&mut page, report);
    layers(&mut page, &report.layers);
    page.push_str("</body></html>\n");
    page
}

fn summary(page: &mut String, report: &Report) {
    let row = |page: &mut String, name: &str, value: &str| {
        let _ = writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", escape(value));
    };
    let on = |on: bool| if on { "on" } else { "off" };
    page.push_str("<table>\n");
    row(page, "Mode", report.mode);
    let activations = match report.activation_bits {
        32 => "real activations".into(),
        bits => format!("{bits}-bit activations, ranges by {}", report.method),
    };
    let weights = format!(
        "{}-bit weights {}, {activations}",
        report.weight_bits, report.weights
    );
    row(page, "Format", &weights);
    let refinements = format!(
        "cross-layer equalization {}, bias correction {}",
        on(report.refinements.equalization),
        on(report.refinements.bias_correction)
    );
    row(page, "Refinements", &refinements);
    if !report.kept.is_empty() {
        row(page, "Kept", &report.kept.join(", "));
    }
    let size = format!("{} to {} bytes", report.float_bytes, report.quantized_bytes);
    row(page, "Size", &size);
    let speed = match report.speed.quantized_ms {
        Some(ms) => format!(
            "{:.2} to {ms:.2} ms, median of one inference on one thread here",
            report.speed.float_ms
        ),
        None => format!(
            "{:.2} ms in float; eyas does not run this format",
            report.speed.float_ms
        ),
    };
    row(page, "Speed", &speed);
    if let Some(labelled) = &report.labelled {
        let text = format!("{} ({})", labelled.describe(), labelled.data);
        row(page, "Accuracy", &text);
    }
    if let Some(difference) = report.agreement.confidence_difference {
        row(
            page,
            "Confidence",
            &format!("{difference:.4} apart on average, where boxes agree"),
        );
    }
    page.push_str("</table>\n");
}

fn study(page: &mut String, report: &Report) {
    if report.study.is_empty() {
        return;
    }
    page.push_str(
        "<h2>What other sizes of codes would cost</h2>\n<p class=\"soft\">Simulated on the same pictures.</p>\n\
         <table><tr><th class=\"n\">Weights</th><th class=\"n\">Activations</th><th class=\"n\">Bytes of weights</th>\
         <th class=\"n\">SQNR at the outputs</th><th class=\"n\">Agreement</th><th></th></tr>\n",
    );
    for level in &report.study {
        let percent = 100.0 * level.agreement.score;
        let _ = writeln!(
            page,
            "<tr><td class=\"n\">{} bit</td><td class=\"n\">{} bit</td><td class=\"n\">{}</td><td class=\"n\">{:.1} dB</td>\
             <td class=\"n\">{percent:.1} %</td><td>{}</td></tr>",
            level.weight_bits,
            level.activation_bits,
            level.weight_bytes,
            level.decibels,
            bar(percent / 100.0)
        );
    }
    page.push_str("</table>\n");
}

/// A horizontal bar of a share.
fn bar(share: f64) -> String {
    format!(
        "<svg width=\"120\" height=\"10\"><rect class=\"bar\" width=\"{:.1}\" height=\"10\"/></svg>",
        120.0 * share.clamp(0.0, 1.0)
    )
}

/// Noise by layer, in the order of execution.
fn noise(page: &mut String, layers: &[Layer]) {
    const HEIGHT: f64 = 160.0;
    const TOP: f64 = 60.0;
    let measured: Vec<(&Layer, f64)> = layers
        .iter()
        .filter_map(|layer| Some((layer, layer.decibels?)))
        .collect();
    if measured.is_empty() {
        return;
    }
    let width = 8 * measured.len();
    let _ = write!(
        page,
        "<h2>Signal-to-quantization-noise ratio, layer by layer</h2>\n<div class=\"wide\"><svg width=\"{}\" height=\"{}\" role=\"img\" \
         aria-label=\"Noise by layer\">",
        width + 50,
        HEIGHT + 10.0
    );
    for level in [0, 20, 40, 60] {
        let y = HEIGHT - HEIGHT * f64::from(level) / TOP + 5.0;
        let _ = write!(
            page,
            "<line class=\"axis\" x1=\"45\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"0\" y=\"{:.1}\">{level} dB</text>",
            width + 50,
            y + 4.0
        );
    }
    for (at, (layer, decibels)) in measured.iter().enumerate() {
        let height = HEIGHT * decibels.clamp(0.0, TOP) / TOP;
        let _ = write!(
            page,
            "<rect class=\"bar\" x=\"{}\" y=\"{:.1}\" width=\"6\" height=\"{height:.1}\"><title>{} {}: {decibels:.1} dB</title></rect>",
            48 + 8 * at,
            HEIGHT - height + 5.0,
            layer.op,
            escape(&layer.name)
        );
    }
    page.push_str("</svg></div>\n");
}

fn sensitivity(page: &mut String, report: &Report) {
    if report.sensitivity.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Sensitivity</h2>\n<p class=\"soft\">Noise at the outputs when this operator alone is quantized; the most \
         sensitive first.</p>\n<table><tr><th class=\"n\">Operator</th><th></th><th>Makes</th><th class=\"n\">SQNR</th></tr>\n",
    );
    for entry in report.sensitivity.iter().take(30) {
        let _ = writeln!(
            page,
            "<tr><td class=\"n\">{}</td><td>{}</td><td class=\"name\">{}</td><td class=\"n\">{:.1} dB</td></tr>",
            entry.operator,
            entry.op,
            escape(&entry.name),
            entry.decibels
        );
    }
    page.push_str("</table>\n");
}

fn layers(page: &mut String, layers: &[Layer]) {
    page.push_str(
        "<h2>Layers</h2>\n<p class=\"soft\">Values that calibration saw, on a logarithmic scale; lines mark the range that the codes \
         cover.</p>\n<div class=\"wide\"><table><tr><th class=\"n\">Operator</th><th></th><th>Makes</th><th>Type</th>\
         <th class=\"n\">Seen</th><th class=\"n\">Covered</th><th class=\"n\">SQNR</th><th>Values</th></tr>\n",
    );
    for layer in layers {
        let range = |range: Range| format!("{:.3} to {:.3}", range.min, range.max);
        let _ = writeln!(
            page,
            "<tr><td class=\"n\">{}</td><td>{}</td><td class=\"name\">{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td>{}</td></tr>",
            layer.operator,
            layer.op,
            escape(&layer.name),
            layer.dtype,
            range(layer.observed),
            layer.covered.map(range).unwrap_or_default(),
            layer
                .decibels
                .map(|decibels| format!("{decibels:.1} dB"))
                .unwrap_or_default(),
            histogram(layer)
        );
    }
    page.push_str("</table></div>\n");
}

fn histogram(layer: &Layer) -> String {
    const HEIGHT: f64 = 28.0;
    const COLUMN: f64 = 3.0;
    let width = COLUMN * layer.histogram.len() as f64;
    let most = layer.histogram.iter().copied().max().unwrap_or(0).max(1);
    let logarithm = |count: u64| (count as f64 + 1.0).ln();
    let mut plot = format!("<svg width=\"{width}\" height=\"{HEIGHT}\">");
    for (column, &count) in layer
        .histogram
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
    {
        let height = (HEIGHT * logarithm(count) / logarithm(most)).max(1.0);
        let _ = write!(
            plot,
            "<rect class=\"bar\" x=\"{:.0}\" y=\"{:.1}\" width=\"{COLUMN}\" height=\"{height:.1}\"/>",
            COLUMN * column as f64,
            HEIGHT - height
        );
    }
    let span = f64::from(layer.observed.max - layer.observed.min);
    let ends = layer
        .covered
        .map(|range| [range.min, range.max])
        .unwrap_or_default();
    for end in ends {
        let x = width * f64::from(end - layer.observed.min) / span;
        if layer.covered.is_some() && span > 0.0 && (0.0..=width).contains(&x) {
            let _ = write!(
                plot,
                "<line class=\"cut\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{HEIGHT}\"/>"
            );
        }
    }
    plot.push_str("</svg>");
    plot
}

fn escape(text: &str) -> String {
    let escaped = |c: char| match c {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '"' => "&quot;".into(),
        c => c.to_string(),
    };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_page() {
        assert_eq!(
            escape("<a href=\"x\">&"),
            "&lt;a href=&quot;x&quot;&gt;&amp;"
        );
    }

    #[test]
    fn a_histogram_marks_where_codes_end() {
        let layer = Layer {
            operator: 0,
            op: "CONV_2D",
            name: "y".into(),
            dtype: "int8",
            observed: Range { min: 0.0, max: 4.0 },
            covered: Some(Range {
                min: -1.0,
                max: 3.0,
            }),
            scale: None,
            zero_point: None,
            decibels: None,
            histogram: vec![100, 0, 10, 1],
        };
        let plot = histogram(&layer);
        assert_eq!(plot.matches("<rect").count(), 3);
        assert_eq!(plot.matches("<line").count(), 1);
        assert!(plot.contains("x1=\"9.0\""), "{plot}");
    }
}

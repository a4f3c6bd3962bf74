//! Post-processing of scores that are codes.
//!
//! Where a higher code never means a lower score, codes are compared in place of scores: the threshold becomes a code,
//! an anchor's best score the score of its greatest code, and candidates are sorted by counting.

use super::boxes::{Boxes, Candidate, Encodings, suppress};
use super::{
    Columns, PostProcessOptions, PostProcessOutputs, PostProcessScratch, begin, merge,
    write_anchors, write_boxes,
};
use crate::kernels::elementwise::RowMaxima;

/// The scores that codes stand for, ascending.
#[derive(Clone, Debug)]
pub struct ScoreTable {
    /// Entry `code + 128`.
    scores: [f32; 256],
    /// For each entry, the first that holds the same score.
    firsts: [u8; 256],
}

impl ScoreTable {
    /// `scores[code + 128]` for each code. `None` if a higher code has a lower score, or a score is NaN.
    pub fn new(scores: [f32; 256]) -> Option<Self> {
        if !scores.windows(2).all(|pair| pair[0] <= pair[1]) {
            return None;
        }
        let mut firsts = [0; 256];
        for at in 1..256 {
            firsts[at] = match scores[at] == scores[at - 1] {
                true => firsts[at - 1],
                false => at as u8,
            };
        }
        Some(Self { scores, firsts })
    }

    fn score(&self, code: i8) -> f32 {
        self.scores[entry(code)]
    }

    /// The lowest code whose score fulfils a condition that all higher scores fulfil too.
    fn first(&self, is_enough: impl Fn(f32) -> bool) -> Option<i8> {
        let at = self.scores.partition_point(|&score| !is_enough(score));
        (at < 256).then_some((at as u8 ^ 0x80) as i8)
    }
}

fn entry(code: i8) -> usize {
    usize::from(code as u8 ^ 0x80)
}

/// Class scores as codes.
#[derive(Clone, Copy)]
pub struct CodeScores<'a> {
    /// `[anchors, classes]` with or without a background class in front.
    pub codes: &'a [i8],
    pub table: &'a ScoreTable,
    pub row_maxima: RowMaxima,
}

/// Memory in which candidates are found and ranked.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    /// The greatest code of each anchor.
    maxima: Vec<i8>,
    /// The greatest code of each class.
    class_maxima: Vec<i8>,
    /// Anchors with any score that counts.
    anchors: Vec<u32>,
    /// Codes of a class on those anchors.
    codes: Vec<i8>,
    /// Positions in a list of codes, the best first.
    order: Vec<u32>,
}

impl Ranking {
    pub fn new(options: &PostProcessOptions, anchors: usize) -> Self {
        let by_class = match options.use_regular_nms {
            true => anchors,
            false => 0,
        };
        Self {
            maxima: vec![0; anchors],
            class_maxima: vec![0; options.num_classes],
            anchors: Vec::with_capacity(by_class),
            codes: Vec::with_capacity(by_class),
            order: Vec::with_capacity(anchors),
        }
    }
}

/// [`super::detection_post_process`] of the scores that codes stand for, with the same results.
///
/// # Panics
/// As that function; `scratch` is made by [`PostProcessScratch::for_codes`].
pub fn detection_post_process_codes(
    options: &PostProcessOptions,
    encodings: Encodings<'_>,
    scores: CodeScores<'_>,
    anchors: &[f32],
    scratch: &mut PostProcessScratch,
    mut out: PostProcessOutputs<'_>,
) {
    let (count, all) = (scratch.anchors, scores.codes.len());
    let Some((boxes, columns)) = begin(options, encodings, all, anchors, count, &mut out) else {
        return;
    };
    let threshold = options.nms_score_threshold;
    let Some(first) = scores.table.first(|score| score >= threshold) else {
        return;
    };
    let maxima = &mut scratch.ranking.maxima;
    (scores.row_maxima)(scores.codes, columns.all, columns.skipped, maxima);
    match options.use_regular_nms {
        true => regular_nms(options, boxes, (scores, columns), first, scratch, out),
        false => fast_nms(options, boxes, (scores, columns), first, scratch, out),
    }
}

/// The positions of the codes from `first` on, by descending score; of equal scores the first position comes first.
fn rank(codes: &[i8], first: i8, table: &ScoreTable, order: &mut Vec<u32>) {
    let group = |code: i8| usize::from(table.firsts[entry(code)]);
    let mut places = [0; 256];
    for &code in codes {
        if code >= first {
            places[group(code)] += 1;
        }
    }
    let mut total = 0;
    for place in places.iter_mut().rev() {
        total += std::mem::replace(place, total);
    }
    order.clear();
    order.resize(total, 0);
    for (position, &code) in codes.iter().enumerate() {
        if code >= first {
            let place = &mut places[group(code)];
            order[*place] = position as u32;
            *place += 1;
        }
    }
}

/// One pass over the best class of each anchor.
fn fast_nms(
    options: &PostProcessOptions,
    boxes: Boxes<'_>,
    (scores, columns): (CodeScores<'_>, Columns),
    first: i8,
    scratch: &mut PostProcessScratch,
    out: PostProcessOutputs<'_>,
) {
    let table = scores.table;
    let Ranking { maxima, order, .. } = &mut scratch.ranking;
    rank(maxima, first, table, order);
    let candidates = order.iter().map(|&anchor| Candidate {
        score: table.score(maxima[anchor as usize]),
        anchor,
        class: 0,
    });
    suppress(
        boxes,
        options.nms_iou_threshold,
        candidates,
        &mut scratch.kept,
        options.max_detections.min(options.rows()),
    );
    let score_of = |anchor, class: usize| {
        let row = &scores.codes[columns.of_anchor(anchor)];
        table.score(row[class])
    };
    write_anchors(options, &scratch.kept, &mut scratch.classes, score_of, out);
}

/// NMS for each class; the best boxes of all classes survive.
///
/// Once as many boxes survive as may, only scores above the worst of them can change anything: the others cannot
/// survive, and suppress none that can.
fn regular_nms(
    options: &PostProcessOptions,
    boxes: Boxes<'_>,
    (scores, columns): (CodeScores<'_>, Columns),
    mut first: i8,
    scratch: &mut PostProcessScratch,
    out: PostProcessOutputs<'_>,
) {
    let limit = options.max_detections.min(options.rows());
    let (table, merged) = (scores.table, &mut scratch.merged);
    let ranking = &mut scratch.ranking;
    merged.clear();
    find_anchors(scores.codes, columns, first, ranking);
    for class in 0..options.num_classes {
        if ranking.class_maxima[class] < first {
            continue;
        }
        let column = columns.skipped + class;
        let codes = &mut ranking.codes;
        codes.clear();
        codes.extend(
            ranking
                .anchors
                .iter()
                .map(|&anchor| scores.codes[anchor as usize * columns.all + column]),
        );
        rank(codes, first, table, &mut ranking.order);
        let candidates = ranking.order.iter().map(|&at| Candidate {
            score: table.score(codes[at as usize]),
            anchor: ranking.anchors[at as usize],
            class: class as u32,
        });
        let limit_of_class = options.detections_per_class.min(limit);
        let kept = &mut scratch.kept;
        suppress(
            boxes,
            options.nms_iou_threshold,
            candidates,
            kept,
            limit_of_class,
        );
        merge(kept, merged, limit);
        let worst = merged.get(limit.wrapping_sub(1)).map(|(worst, _)| *worst);
        if let Some(worst) = worst {
            let Some(above) = table.first(|score| score > worst.score) else {
                break;
            };
            if above > first {
                first = above;
                let maxima = &ranking.maxima;
                let anchors = &mut ranking.anchors;
                anchors.retain(|&anchor| maxima[anchor as usize] >= first);
            }
        }
    }
    write_boxes(merged, out);
}

/// Lists the anchors with a code from `first` on, and the greatest code of each class on them.
fn find_anchors(codes: &[i8], columns: Columns, first: i8, ranking: &mut Ranking) {
    let class_maxima = &mut ranking.class_maxima[..];
    class_maxima.fill(i8::MIN);
    ranking.anchors.clear();
    for (anchor, &maximum) in ranking.maxima.iter().enumerate() {
        if maximum >= first {
            ranking.anchors.push(anchor as u32);
            for (maximum, &code) in class_maxima
                .iter_mut()
                .zip(&codes[columns.of_anchor(anchor)])
            {
                *maximum = code.max(*maximum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{detection_post_process, *};
    use super::*;
    use crate::kernels::scalar;

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, end: u64) -> u64 {
            (self.next() >> 20) % end
        }
    }

    /// How codes of scores are spread.
    #[derive(Clone, Copy, Debug)]
    enum Spread {
        Uniform,
        /// None reaches a score.
        Low,
        FewValues,
        Saturated,
        Equal,
        /// Nearly all low.
        Sparse,
    }

    const SPREADS: [Spread; 6] = [
        Spread::Uniform,
        Spread::Low,
        Spread::FewValues,
        Spread::Saturated,
        Spread::Equal,
        Spread::Sparse,
    ];

    fn codes(random: &mut Random, spread: Spread, count: usize) -> Vec<i8> {
        let equal = random.next() as i8;
        let mut code = || match spread {
            Spread::Uniform => random.next() as i8,
            Spread::Low => -128 + random.below(20) as i8,
            Spread::FewValues => (random.below(4) as i32 * 50 - 60) as i8,
            Spread::Saturated => match random.below(3) {
                0 => -128,
                1 => 127,
                _ => 126,
            },
            Spread::Equal => equal,
            Spread::Sparse => match random.below(50) {
                0 => random.next() as i8,
                _ => -120,
            },
        };
        (0..count).map(|_| code()).collect()
    }

    /// Tables of scores: a straight line, a sigmoid of few codes with many equals, one value, signed zeros.
    fn tables() -> [[f32; 256]; 4] {
        let of = |rule: &dyn Fn(f32) -> f32| std::array::from_fn(|at| rule(at as f32 - 128.0));
        [
            of(&|code| (code + 128.0) / 256.0),
            of(&|code| (20.0 / (1.0 + (-0.1 * code).exp())).round() / 20.0),
            of(&|_| 0.5),
            of(&|code| {
                if code < 0.0 {
                    -0.0
                } else {
                    (code as i32 / 9) as f32 / 14.0
                }
            }),
        ]
    }

    #[derive(Debug)]
    struct Case {
        options: PostProcessOptions,
        anchors: Vec<f32>,
        encodings: Vec<i8>,
        codes: Vec<i8>,
    }

    impl Case {
        fn new(random: &mut Random, spread: Spread, size: (usize, usize, usize)) -> Self {
            let (count, classes, background) = size;
            let options = PostProcessOptions {
                max_detections: 1 + random.below(12) as usize,
                max_classes_per_detection: 1 + random.below(3) as usize,
                detections_per_class: 1 + random.below(8) as usize,
                use_regular_nms: random.below(2) == 0,
                nms_score_threshold: [1e-8, 0.0, 0.3, 0.5, 2.0, f32::NEG_INFINITY]
                    [random.below(6) as usize],
                nms_iou_threshold: [0.3, 0.6, 1.0][random.below(3) as usize],
                num_classes: classes,
                scale: [10.0, 10.0, 5.0, 5.0],
            };
            let mut place = || random.below(8) as f32 / 8.0;
            let anchors = (0..count)
                .flat_map(|_| [place(), place(), 0.2 + place() / 4.0, 0.3])
                .collect();
            let encodings = (0..count * 4).map(|_| random.next() as i8).collect();
            Self {
                options,
                anchors,
                encodings,
                codes: codes(random, spread, count * (classes + background)),
            }
        }

        /// Boxes, classes, scores and the count, as bits.
        fn answer(&self, run: impl Fn(PostProcessOutputs<'_>)) -> Vec<u32> {
            let rows = self.options.rows();
            let mut values = [vec![9.0; rows * 4], vec![9.0; rows], vec![9.0; rows]];
            let mut count = 9.0;
            let [boxes, classes, scores] = &mut values;
            run(PostProcessOutputs {
                boxes,
                classes,
                scores,
                count: &mut count,
            });
            let all = values.iter().flatten().chain([&count]);
            all.map(|value| value.to_bits()).collect()
        }

        fn check(&self, table: [f32; 256], row_maxima: RowMaxima) {
            let anchors = self.anchors.len() / 4;
            let mut encodings = vec![0.0; self.encodings.len()];
            scalar::dequantize(&self.encodings, &mut encodings, 0.08, 3);
            let scores: Vec<f32> = self.codes.iter().map(|&code| table[entry(code)]).collect();
            let reference = self.answer(|out| {
                let scratch = &mut PostProcessScratch::new(&self.options, anchors);
                let encodings = Encodings::Real(&encodings);
                let (options, anchors) = (&self.options, &self.anchors);
                detection_post_process(options, encodings, &scores, anchors, scratch, out);
            });
            let real_of: [f32; 256] = std::array::from_fn(|at| (at as i32 - 131) as f32 * 0.08);
            let from_codes = self.answer(|out| {
                let scratch = &mut PostProcessScratch::for_codes(&self.options, anchors);
                let scores = CodeScores {
                    codes: &self.codes,
                    table: &ScoreTable::new(table).unwrap(),
                    row_maxima,
                };
                let encodings = Encodings::Codes(&self.encodings, &real_of);
                let (options, anchors) = (&self.options, &self.anchors);
                detection_post_process_codes(options, encodings, scores, anchors, scratch, out);
            });
            assert_eq!(reference, from_codes, "{self:?}");
        }
    }

    #[test]
    fn codes_give_what_their_scores_give() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for round in 0..60 {
            for spread in SPREADS {
                for table in tables() {
                    let size = match round {
                        0 => (300, 90, 1),
                        1 => (1, 1, 0),
                        _ => (
                            1 + random.below(60) as usize,
                            1 + random.below(35) as usize,
                            random.below(2) as usize,
                        ),
                    };
                    Case::new(&mut random, spread, size).check(table, scalar::row_maxima);
                }
            }
        }
    }

    #[test]
    fn only_ascending_scores_can_be_compared_as_codes() {
        let [line, ..] = tables();
        assert!(ScoreTable::new(line).is_some());
        let mut wrong = line;
        wrong.swap(7, 8);
        assert!(ScoreTable::new(wrong).is_none());
        wrong = line;
        wrong[255] = f32::NAN;
        assert!(ScoreTable::new(wrong).is_none());
    }

    #[test]
    fn equal_scores_are_ranked_by_position_whatever_their_codes() {
        let [_, steps, ..] = tables();
        let table = ScoreTable::new(steps).unwrap();
        assert_eq!(table.score(-1), table.score(1));
        let mut order = Vec::new();
        rank(&[-1, 1, 100, 0, -100], -50, &table, &mut order);
        assert_eq!(order, [2, 0, 1, 3]);
    }

    #[test]
    fn codes_are_ranked_as_sorting_ranks_them() {
        let [line, ..] = tables();
        let table = ScoreTable::new(line).unwrap();
        let codes: Vec<i8> = (0..1000).map(|at| (at * 37 % 256) as u8 as i8).collect();
        for first in [-128, -3, 127] {
            let counts = |&at: &u32| codes[at as usize] >= first;
            let mut expected: Vec<u32> = (0..1000).filter(counts).collect();
            expected.sort_by_key(|&at| -i32::from(codes[at as usize]));
            let mut order = Vec::new();
            rank(&codes, first, &table, &mut order);
            assert_eq!(order, expected);
        }
    }
}

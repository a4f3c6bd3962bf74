//! Detection post-processing as a step.

use super::arena::{Arena, Slot};
use super::step::disjoint;
use crate::kernels::elementwise::RowMaxima;
use crate::kernels::postprocess::{
    CodeScores, Encodings, PostProcessOptions, PostProcessOutputs, PostProcessScratch, ScoreTable,
    detection_post_process, detection_post_process_codes,
};

/// Detection post-processing.
pub(super) struct PostProcess {
    pub options: PostProcessOptions,
    /// `[anchors, 4]`
    pub anchors: Vec<f32>,
    /// What the codes of box encodings stand for, entry `code + 128`; `None` if the encodings are f32.
    pub encodings: Option<Box<[f32; 256]>>,
    pub scores: ScoreInput,
    pub row_maxima: RowMaxima,
    /// Which of the arena's states is its own.
    pub state: usize,
}

/// What the scores are given as.
pub(super) enum ScoreInput {
    Real,
    /// Codes of ascending scores.
    Ascending(Box<ScoreTable>),
    /// Codes of any scores, entry `code + 128`.
    Tabulated(Box<[f32; 256]>),
}

impl PostProcess {
    /// Bytes of scratch for a number of scores: for the scores that codes stand for, unless codes are compared.
    pub fn scratch_bytes(&self, scores: usize) -> usize {
        match self.scores {
            ScoreInput::Real | ScoreInput::Ascending(_) => 0,
            ScoreInput::Tabulated(_) => 4 * scores,
        }
    }

    /// The state that the step needs in an arena.
    pub fn new_scratch(&self) -> PostProcessScratch {
        let anchors = self.anchors.len() / 4;
        match self.scores {
            ScoreInput::Ascending(_) => PostProcessScratch::for_codes(&self.options, anchors),
            ScoreInput::Real | ScoreInput::Tabulated(_) => {
                PostProcessScratch::new(&self.options, anchors)
            }
        }
    }

    /// Name of the kernel that does the work.
    pub fn kernel_name(&self) -> &'static str {
        match self.scores {
            ScoreInput::Ascending(_) => "i8_post_process",
            ScoreInput::Real | ScoreInput::Tabulated(_) => "f32_post_process",
        }
    }

    /// `inputs` are box encodings and scores, `outputs` boxes, classes, scores and the count.
    pub fn run(&self, inputs: &[Slot], outputs: &[Slot], scratch: Slot, arena: &mut Arena) {
        let (memory, states) = arena.parts();
        let [boxes, classes, scores, count] = [0, 1, 2, 3].map(|at| outputs[at].range());
        let (encodings, class_scores) = (inputs[0].range(), inputs[1].range());
        let results = [scratch.range(), boxes, classes, scores, count];
        let (encodings, class_scores, results) = if encodings == class_scores {
            let [scratch, boxes, classes, scores, count] = results;
            let ranges = [encodings, scratch, boxes, classes, scores, count];
            let [both, results @ ..] = disjoint(memory, ranges);
            let both = &*both;
            (both, both, results)
        } else {
            let [scratch, boxes, classes, scores, count] = results;
            let ranges = [
                encodings,
                class_scores,
                scratch,
                boxes,
                classes,
                scores,
                count,
            ];
            let [encodings, class_scores, results @ ..] = disjoint(memory, ranges);
            (&*encodings, &*class_scores, results)
        };
        let [scratch, boxes, classes, scores, count] = results;
        let count: &mut [f32] = bytemuck::cast_slice_mut(count);
        let out = PostProcessOutputs {
            boxes: bytemuck::cast_slice_mut(boxes),
            classes: bytemuck::cast_slice_mut(classes),
            scores: bytemuck::cast_slice_mut(scores),
            count: &mut count[0],
        };
        let floats = bytemuck::cast_slice_mut(scratch);
        self.detect(
            encodings,
            class_scores,
            floats,
            &mut states[self.state],
            out,
        );
    }

    fn detect(
        &self,
        encodings: &[i8],
        scores: &[i8],
        floats: &mut [f32],
        state: &mut PostProcessScratch,
        out: PostProcessOutputs<'_>,
    ) {
        let encodings = match &self.encodings {
            Some(table) => Encodings::Codes(encodings, table),
            None => Encodings::Real(bytemuck::cast_slice(encodings)),
        };
        let (options, anchors) = (&self.options, &self.anchors);
        let scores = match &self.scores {
            ScoreInput::Ascending(table) => {
                let scores = CodeScores {
                    codes: scores,
                    table,
                    row_maxima: self.row_maxima,
                };
                detection_post_process_codes(options, encodings, scores, anchors, state, out);
                return;
            }
            ScoreInput::Real => bytemuck::cast_slice(scores),
            ScoreInput::Tabulated(table) => {
                for (real, &code) in floats.iter_mut().zip(scores) {
                    *real = table[usize::from(code as u8 ^ 0x80)];
                }
                &*floats
            }
        };
        detection_post_process(options, encodings, scores, anchors, state, out);
    }
}

//! Dilated convolutions that converters wrote as SPACE_TO_BATCH_ND, a convolution and BATCH_TO_SPACE_ND.

use crate::graph::{Conv2d, Graph, Node, Op, Padding2d, ValueId};

/// Makes each such triple one convolution. Only where nothing else reads what lies between, the crops take off padding
/// alone, and the kernel is nowhere on padding only.
pub(super) fn dilate(graph: &mut Graph) {
    while let Some((before, conv, after, dilated)) = find(graph) {
        let input = graph.nodes[before].inputs[0];
        let outputs = graph.nodes[after].outputs.clone();
        let node = &mut graph.nodes[conv];
        match &mut node.op {
            Op::Conv2d(conv) | Op::DepthwiseConv2d(conv) => *conv = dilated,
            _ => {}
        }
        node.inputs[0] = input;
        node.outputs = outputs;
        graph.nodes.remove(after);
        graph.nodes.remove(before);
    }
}

/// Positions of the three nodes, and the convolution that they are.
fn find(graph: &Graph) -> Option<(usize, usize, usize, Conv2d)> {
    let sole_reader = |id: ValueId| -> Option<usize> {
        let reads = |node: &Node| node.inputs.contains(&id);
        let mut readers = (0..graph.nodes.len()).filter(|&at| reads(&graph.nodes[at]));
        let reader = readers.next()?;
        (readers.next().is_none() && !graph.outputs.contains(&id)).then_some(reader)
    };
    (0..graph.nodes.len()).find_map(|before| {
        let conv = sole_reader(graph.nodes[before].outputs[0])?;
        let after = sole_reader(graph.nodes[conv].outputs[0])?;
        let ops = [before, conv, after].map(|at| &graph.nodes[at].op);
        let [
            Op::SpaceToBatch { block, pads },
            Op::Conv2d(inner) | Op::DepthwiseConv2d(inner),
            Op::BatchToSpace { block: same, crops },
        ] = ops
        else {
            return None;
        };
        let is_plain = inner.stride == [1, 1]
            && inner.dilation == [1, 1]
            && inner.padding == Padding2d::default()
            && block == same;
        let padding = Padding2d {
            top: pads[0][0].checked_sub(crops[0][0])?,
            bottom: pads[0][1].checked_sub(crops[0][1])?,
            left: pads[1][0].checked_sub(crops[1][0])?,
            right: pads[1][1].checked_sub(crops[1][1])?,
        };
        let dilated = Conv2d {
            dilation: *block,
            padding,
            ..*inner
        };
        let [_, rows, columns, _] = graph.shape(graph.nodes[conv].inputs[1]).nhwc()?;
        let reach = [(rows - 1) * block[0] + 1, (columns - 1) * block[1] + 1];
        let stays_on_picture = padding.top.max(padding.bottom) < reach[0]
            && padding.left.max(padding.right) < reach[1];
        (is_plain && stays_on_picture).then_some((before, conv, after, dilated))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Activation;
    use crate::quantize::sample::Sample;

    fn triple(pads: [[usize; 2]; 2], crops: [[usize; 2]; 2]) -> Graph {
        let mut sample = Sample::default();
        let x = sample.input(&[1, 4, 4, 1]);
        let block = [2, 2];
        let [rows, columns] = pads.map(|[before, after]| (4 + before + after) / 2);
        let apart = sample.node(
            Op::SpaceToBatch { block, pads },
            &[x],
            &[4, rows, columns, 1],
            "apart",
        );
        let y = sample.conv(apart, &[1.0], &[0.5], Activation::Relu, "y");
        let [height, width] = [0, 1].map(|i| 2 * [rows, columns][i] - crops[i][0] - crops[i][1]);
        let whole = sample.node(
            Op::BatchToSpace { block, crops },
            &[y],
            &[1, height, width, 1],
            "whole",
        );
        sample.output(whole);
        sample.graph.validate("triple").unwrap();
        sample.graph
    }

    #[test]
    fn three_operators_become_one() {
        let mut graph = triple([[1, 1], [2, 0]], [[1, 1], [2, 0]]);
        dilate(&mut graph);
        crate::graph::passes::remove_dead(&mut graph);
        let [node] = &graph.nodes[..] else {
            panic!("{:?}", graph.nodes)
        };
        let Op::Conv2d(conv) = node.op else { panic!() };
        assert_eq!(
            (conv.dilation, conv.padding),
            ([2, 2], Padding2d::default())
        );
        assert_eq!(conv.activation, Activation::Relu);
        graph.validate("dilated").unwrap();
    }

    #[test]
    fn what_crops_the_picture_or_pads_beyond_the_kernel_stays() {
        for (pads, crops) in [([0, 0], [1, 0]), ([2, 2], [1, 2])] {
            let mut graph = triple([pads, [0, 0]], [crops, [0, 0]]);
            dilate(&mut graph);
            assert_eq!(graph.nodes.len(), 3);
        }
    }
}

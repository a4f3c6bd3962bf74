//! Finds depthwise convolutions that can run depth-first with the layers around them, and lowers each such block to one
//! step.

use super::{Lowering, conv, operators};
use crate::error::Result;
use crate::graph::{Activation, Conv2d, Graph, Node, Op, Padding2d, ValueId};
use crate::plan::block::{Block, Residual};
use crate::plan::step::Kind;
use crate::tensor::DType;

/// What is lowered at a node's place.
#[derive(Clone, Debug)]
pub(super) enum Role {
    /// The node.
    Alone,
    /// Nothing: the node is in a block that ends later.
    Inside,
    /// A block.
    Ends(Group),
}

/// Positions of the nodes of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    expand: Option<usize>,
    depthwise: usize,
    project: usize,
    add: Option<usize>,
}

/// The role of each of a graph's nodes, or of what passes made of them.
pub(super) fn find(graph: &Graph, nodes: &[Node]) -> Vec<Role> {
    let uses = Uses::new(graph, nodes);
    let mut roles = vec![Role::Alone; nodes.len()];
    for at in 0..nodes.len() {
        let Some(group) = uses.group(at) else {
            continue;
        };
        let members = [
            group.expand,
            Some(group.depthwise),
            Some(group.project),
            group.add,
        ];
        let members: Vec<usize> = members.into_iter().flatten().collect();
        if !members
            .iter()
            .all(|&member| matches!(roles[member], Role::Alone))
        {
            continue;
        }
        for &member in &members {
            roles[member] = Role::Inside;
        }
        roles[group.add.unwrap_or(group.project)] = Role::Ends(group);
    }
    roles
}

/// Who makes and reads each value.
struct Uses<'a> {
    graph: &'a Graph,
    nodes: &'a [Node],
    makers: Vec<Option<usize>>,
    /// The only reader of a value that is no output of the graph.
    readers: Vec<Option<usize>>,
}

impl<'a> Uses<'a> {
    fn new(graph: &'a Graph, nodes: &'a [Node]) -> Self {
        let mut makers = vec![None; graph.values.len()];
        let mut counts = vec![0; graph.values.len()];
        let mut readers = vec![None; graph.values.len()];
        for (at, node) in nodes.iter().enumerate() {
            for &ValueId(id) in &node.outputs {
                makers[id] = Some(at);
            }
            for &ValueId(id) in &node.inputs {
                counts[id] += 1;
                readers[id] = Some(at);
            }
        }
        for &ValueId(id) in &graph.outputs {
            counts[id] += 1;
        }
        for (reader, count) in readers.iter_mut().zip(counts) {
            if count != 1 {
                *reader = None;
            }
        }
        Self {
            graph,
            nodes,
            makers,
            readers,
        }
    }

    /// The block around a depthwise convolution.
    fn group(&self, depthwise: usize) -> Option<Group> {
        let node = &self.nodes[depthwise];
        if !matches!(node.op, Op::DepthwiseConv2d(_)) {
            return None;
        }
        let (input, output) = (node.inputs[0], node.outputs[0]);
        let is_single = |id: ValueId| self.graph.shape(id).dims()[0] == 1;
        let channels = |id: ValueId| self.graph.shape(id).channels();
        let is_plain = channels(input) == channels(output) && is_single(input);
        if !(is_plain && self.is_of_codes(input) && self.is_of_codes(output)) {
            return None;
        }
        let project = self.readers[output.0]?;
        let projection = &self.nodes[project];
        if !self.is_pointwise(projection) || projection.inputs[0] != output {
            return None;
        }
        let expand = self.makers[input.0].filter(|&maker| {
            let node = &self.nodes[maker];
            self.readers[input.0] == Some(depthwise)
                && matches!(node.op, Op::Conv2d(_))
                && self.is_of_codes(node.inputs[0])
        });
        let result = projection.outputs[0];
        let add = self.readers[result.0].filter(|&reader| {
            let node = &self.nodes[reader];
            let shape = self.graph.shape(result);
            matches!(node.op, Op::Add(_))
                && self.is_of_codes(node.outputs[0])
                && node.inputs.iter().all(|&id| self.graph.shape(id) == shape)
        });
        Some(Group {
            expand,
            depthwise,
            project,
            add,
        })
    }

    fn is_of_codes(&self, id: ValueId) -> bool {
        matches!(self.graph.dtype(id), DType::U8 | DType::I8)
    }

    fn is_pointwise(&self, node: &Node) -> bool {
        let Op::Conv2d(conv) = &node.op else {
            return false;
        };
        let plain = Conv2d {
            stride: [1, 1],
            dilation: conv.dilation,
            padding: Padding2d::default(),
            activation: conv.activation,
        };
        let window = &self.graph.shape(node.inputs[1]).dims()[1..3];
        *conv == plain && window == [1, 1] && self.is_of_codes(node.outputs[0])
    }
}

/// Lowers a block at its last node.
pub(super) fn lower(lowering: &mut Lowering<'_>, group: Group) -> Result<()> {
    let nodes = lowering.nodes;
    let node = |at: usize| &nodes[at];
    let threads = lowering.options.threads;
    let expand = group
        .expand
        .map(|at| match &node(at).op {
            Op::Conv2d(op) => conv::conv_step(lowering, node(at), op),
            _ => unreachable!("the finder takes convolutions only"),
        })
        .transpose()?;
    let depthwise = match &node(group.depthwise).op {
        Op::DepthwiseConv2d(op) => conv::depthwise_step(lowering, node(group.depthwise), op)?,
        _ => unreachable!("the finder starts at depthwise convolutions"),
    };
    let projection = node(group.project);
    let project = match &projection.op {
        Op::Conv2d(op) => conv::conv_step(lowering, projection, op)?,
        _ => unreachable!("the finder takes convolutions only"),
    };
    let residual = match group.add {
        Some(at) => match &node(at).op {
            Op::Add(activation) => Some(residual(lowering, node(at), *activation, projection)?),
            _ => unreachable!("the finder takes additions only"),
        },
        None => None,
    };
    let schedule = Block::schedule(expand.as_ref(), &depthwise, &project, threads);
    let (addition, other) = residual.unzip();
    let block = Block {
        expand,
        depthwise,
        project,
        residual: addition,
        schedule,
    };
    let members = [
        group.expand,
        Some(group.depthwise),
        Some(group.project),
        group.add,
    ];
    let members: Vec<&Node> = members.into_iter().flatten().map(node).collect();
    let (first, last) = (members[0], members[members.len() - 1]);
    let mut inputs = vec![first.inputs[0]];
    inputs.extend(other);
    let macs = members.iter().map(|node| conv::macs(lowering, node)).sum();
    let scratch = block.scratch();
    let names = members
        .iter()
        .map(|node| node.op.name())
        .collect::<Vec<_>>();
    let packed = block.weight_bytes();
    let draft = lowering.push(
        last,
        Kind::Block(Box::new(block)),
        &inputs,
        &last.outputs[..1],
    );
    draft.op = names.join("+");
    draft.scratch = scratch;
    draft.macs = macs;
    draft.weight_bytes = packed;
    Ok(())
}

/// The addition of a block, and the value that is added to the projection.
fn residual(
    lowering: &Lowering<'_>,
    node: &Node,
    activation: Activation,
    projection: &Node,
) -> Result<(Residual, ValueId)> {
    let inputs = [node.inputs[0], node.inputs[1]];
    let projection_is_first = inputs[0] == projection.outputs[0];
    let residual = Residual {
        params: operators::add_params(lowering, node, inputs, activation, false)?,
        add: lowering.kernels.elementwise.add,
        projection_is_first,
    };
    Ok((residual, inputs[usize::from(projection_is_first)]))
}

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
    Ends(Box<Group>),
}

/// The nodes of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    expand: Option<Member<Conv2d>>,
    depthwise: Member<Conv2d>,
    project: Member<Conv2d>,
    add: Option<Member<Activation>>,
}

/// The position of a node and what its operator says.
#[derive(Clone, Copy, Debug)]
struct Member<T> {
    at: usize,
    op: T,
}

impl Group {
    /// Positions of the nodes, in their order.
    fn members(&self) -> impl Iterator<Item = usize> {
        let first = self.expand.map(|member| member.at);
        let last = self.add.map(|member| member.at);
        first
            .into_iter()
            .chain([self.depthwise.at, self.project.at])
            .chain(last)
    }
}

/// The role of each of a graph's nodes, or of what passes made of them.
pub(super) fn find(graph: &Graph, nodes: &[Node]) -> Vec<Role> {
    let uses = Uses::new(graph, nodes);
    let mut roles = vec![Role::Alone; nodes.len()];
    for at in 0..nodes.len() {
        let Some(group) = uses.group(at) else {
            continue;
        };
        let members: Vec<usize> = group.members().collect();
        if !members
            .iter()
            .all(|&member| matches!(roles[member], Role::Alone))
        {
            continue;
        }
        for &member in &members {
            roles[member] = Role::Inside;
        }
        roles[group.add.map_or(group.project.at, |add| add.at)] = Role::Ends(Box::new(group));
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
        let Op::DepthwiseConv2d(op) = node.op else {
            return None;
        };
        let depthwise = Member { at: depthwise, op };
        let (input, output) = (node.inputs[0], node.outputs[0]);
        let is_single = |id: ValueId| self.graph.shape(id).dims()[0] == 1;
        let channels = |id: ValueId| self.graph.shape(id).channels();
        let is_plain = channels(input) == channels(output) && is_single(input);
        if !(is_plain && self.is_of_codes(input) && self.is_of_codes(output)) {
            return None;
        }
        let project = self.readers[output.0]?;
        let projection = &self.nodes[project];
        let project = Member {
            at: project,
            op: self.pointwise(projection)?,
        };
        if projection.inputs[0] != output {
            return None;
        }
        let expand = self.makers[input.0].and_then(|at| {
            let node = &self.nodes[at];
            let fits =
                self.readers[input.0] == Some(depthwise.at) && self.is_of_codes(node.inputs[0]);
            match node.op {
                Op::Conv2d(op) if fits => Some(Member { at, op }),
                _ => None,
            }
        });
        let result = projection.outputs[0];
        let add = self.readers[result.0].and_then(|at| {
            let node = &self.nodes[at];
            let shape = self.graph.shape(result);
            let fits = self.is_of_codes(node.outputs[0])
                && node.inputs.iter().all(|&id| self.graph.shape(id) == shape);
            match node.op {
                Op::Add(op) if fits => Some(Member { at, op }),
                _ => None,
            }
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

    /// What a convolution says that looks at one pixel at a time.
    fn pointwise(&self, node: &Node) -> Option<Conv2d> {
        let Op::Conv2d(conv) = node.op else {
            return None;
        };
        let plain = Conv2d {
            stride: [1, 1],
            dilation: conv.dilation,
            padding: Padding2d::default(),
            activation: conv.activation,
        };
        let window = &self.graph.shape(node.inputs[1]).dims()[1..3];
        let is_plain = conv == plain && window == [1, 1] && self.is_of_codes(node.outputs[0]);
        is_plain.then_some(conv)
    }
}

/// Lowers a block at its last node.
pub(super) fn lower(lowering: &mut Lowering<'_>, group: &Group) -> Result<()> {
    let nodes = lowering.nodes;
    let threads = lowering.options.threads;
    let projection = &nodes[group.project.at];
    let expand = group
        .expand
        .map(|Member { at, op }| conv::conv_step(lowering, &nodes[at], &op))
        .transpose()?;
    let depthwise =
        conv::depthwise_step(lowering, &nodes[group.depthwise.at], &group.depthwise.op)?;
    let project = conv::conv_step(lowering, projection, &group.project.op)?;
    let residual = group
        .add
        .map(|Member { at, op }| residual(lowering, &nodes[at], op, projection))
        .transpose()?;
    let schedule = Block::schedule(expand.as_ref(), &depthwise, &project, threads);
    let (addition, other) = residual.unzip();
    let block = Block {
        expand,
        depthwise,
        project,
        residual: addition,
        schedule,
    };
    let members: Vec<&Node> = group.members().map(|at| &nodes[at]).collect();
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
